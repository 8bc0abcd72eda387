"""How probable a sweep's target is in its finished pictures, and who says so."""

from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.paths import VE
from ...guidance_core.terms.target_text import parse_target
from ...guidance_core.terms.targets import Target
from ..ui.live import sure
from ..ui.messages import speaking_as
from .model_facts import check_classifier, in_sampler_scale, path_of
from .types import HostClassifier


@dataclass(frozen=True, eq=False)
class Judgement:
    """Who says how probable the target is in a finished picture."""

    judge: HostClassifier
    target: Target
    words: str

    def of(self, model: ModelPatcher, samples: Tensor) -> str:
        """The mean over a batch of latents, without noise, at the cleanest level that the judge knows."""
        comfy.model_management.load_models_gpu([self.judge.patcher])
        classifier, path = self.judge.classifier, path_of(model) or VE
        x0 = in_sampler_scale(model, samples).to(self.judge.patcher.load_device, torch.float32)
        sigma = path.sigma_at(classifier.log_snr_range[1]).to(x0)
        logits = classifier(path.alpha(sigma) * x0, sigma, path)
        return sure(self.target.unweighted().log_prob(logits.float(), classifier.head), classifier.head)


def judgement_by(
    model: ModelPatcher, classifier: HostClassifier | None, judge: HostClassifier | None, target: str
) -> Judgement | None:
    """The judgement by the judge or, without one, by the classifier that guides; None without either."""
    chosen = judge or classifier
    if chosen is None:
        return None
    with speaking_as("judge"):
        check_classifier(model, chosen.classifier)
        parsed = parse_target(target, chosen.classifier.labels, chosen.classifier.head)
    by = "the classifier that guides" if chosen is classifier else "another classifier"
    return Judgement(chosen, parsed, f"Target: {' '.join(target.split())}, judged by {by}.")
