"""How probable a sweep's target is in its finished pictures, and who says so."""

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.frozen import frozen
from ...guidance_core.terms.target_text import parse_target
from ...guidance_core.terms.targets import Target
from ..ui.live import sure
from ..ui.messages import speaking_as
from .classifiers import AnyClassifier
from .model_facts import in_sampler_scale


@frozen(eq=False)
class Judgement:
    """Who says how probable the target is in a finished picture."""

    judge: AnyClassifier
    target: Target
    words: str

    def of(self, model: ModelPatcher, samples: Tensor) -> str:
        """The mean over a batch of latents, without noise, at the cleanest level that the judge knows."""
        comfy.model_management.load_models_gpu(list(self.judge.patchers))
        x0 = in_sampler_scale(model, samples).to(self.judge.patchers[0].load_device, torch.float32)
        logits = self.judge.logits(model, x0).float()
        return sure(self.target.unweighted().log_prob(logits, self.judge.head), self.judge.head)


def judgement_by(
    model: ModelPatcher, classifier: AnyClassifier | None, judge: AnyClassifier | None, target: str
) -> Judgement | None:
    """The judgement by the judge or, without one, by the classifier that guides, where its own work tells it anything.

    None without either.
    """
    chosen = judge or (classifier if classifier is not None and classifier.judges_own_work else None)
    if chosen is None:
        return None
    with speaking_as("judge"):
        chosen.check(model)
        parsed = parse_target(target, chosen.labels, chosen.head)
    by = "the classifier that guides" if chosen is classifier else "another classifier"
    return Judgement(chosen, parsed, f"Target: {' '.join(target.split())}, judged by {by}.")
