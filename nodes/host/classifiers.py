"""What the classifiers' sockets carry: labels, the patchers that keep networks in memory, and a term on a MODEL."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...guidance_core.classifier.clean import CleanClassifier
from ...guidance_core.classifier.copies import Shifted
from ...guidance_core.classifier.heads import Head
from ...guidance_core.classifier.noisy import NoisyClassifier
from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ...guidance_core.paths import FLOW, VE
from ...guidance_core.scale import ScaleSchedule
from ...guidance_core.terms.classifier_guidance import ClassifierTerm
from ...guidance_core.terms.clean_guidance import CleanTerm, RootOfSize
from ...guidance_core.terms.judged import JudgedTerm
from ...guidance_core.terms.targets import Target
from .clean_view import View, check_single_pictures
from .model_facts import check_classifier, path_of

FLOW_SIGMA = 0.85  # above this the factor sigma^2 / alpha on flow models grows without bound while the gradient fades


class AnyClassifier(ABC):
    """Something with labels that can steer a MODEL. head: what its logits mean; patchers: of its networks.

    judges_own_work: whether how sure it is of what it steered says anything of the result.
    """

    judges_own_work: ClassVar[bool] = True
    labels: Sequence[str]
    head: Head
    patchers: tuple[ModelPatcher, ...]

    @abstractmethod
    def check(self, model: ModelPatcher) -> None:
        """Raise GuidanceError unless it fits this MODEL's latents."""

    @abstractmethod
    def term(
        self, model: ModelPatcher, target: Target, schedule: ScaleSchedule | None, **options
    ) -> tuple[JudgedTerm, str]:
        """(its term on a MODEL that it fits, what the node is to say of it)."""

    @abstractmethod
    def logits(self, model: ModelPatcher, x0: Tensor) -> Tensor:
        """Logits [B, K] of clean latents x0 in the sampler's scale, on its own device."""


@frozen(eq=False)
class HostClassifier(AnyClassifier):
    """What NOISY_CLASSIFIER carries: a classifier and the patcher by which ComfyUI moves its network."""

    classifier: NoisyClassifier
    patcher: ModelPatcher

    @property
    def labels(self):
        return self.classifier.labels

    @property
    def head(self):
        return self.classifier.head

    @property
    def patchers(self):
        return (self.patcher,)

    def check(self, model):
        check_classifier(model, self.classifier)

    def term(self, model, target, schedule, **options):
        note = ""
        if schedule is None and path_of(model) is FLOW:
            schedule = ScaleSchedule("interval", start=FLOW_SIGMA, axis="sigma")
            note = f"This flow model is guided below sigma {FLOW_SIGMA}; connect a schedule to choose another window."
        return ClassifierTerm(self.classifier, target, schedule=schedule or ScaleSchedule(), **options), note

    def logits(self, model, x0):
        """At the cleanest level that the classifier knows."""
        path = path_of(model) or VE
        sigma = path.sigma_at(self.classifier.log_snr_range[1]).to(x0)
        return self.classifier(path.alpha(sigma) * x0, sigma, path)


@frozen(eq=False)
class PictureClassifier(AnyClassifier):
    """What CLEAN_CLASSIFIER carries: a network that judges clean pictures, and how it sees latents.

    network: what `prepared` gives -> logits [B, K]. prepared: pictures [B, 3, H, W] about [0, 1] -> what it takes.
    """

    judges_own_work = False  # it praises what only fools it
    network: nn.Module
    prepared: nn.Module
    labels: tuple[str, ...]
    head: Head
    view: View
    patcher: ModelPatcher

    @property
    def patchers(self):
        return (self.patcher, *self.view.patchers)

    def check(self, model):
        self.on(model)

    def term(self, model, target, schedule, **options):
        classifier = self.on(model)
        schedule = schedule or ScaleSchedule()
        return CleanTerm(classifier, target, schedule=schedule, unit=RootOfSize(), **options), self.view.note

    def logits(self, model, x0):
        classifier = self.on(model)
        with torch.no_grad():
            return classifier.network(classifier.to_input(x0))

    def on(self, model: ModelPatcher) -> CleanClassifier:
        """It as a judge of this MODEL's latents. Raises GuidanceError where those are no pictures that it can see."""
        if path_of(model) is None:
            raise GuidanceError(
                "this model mixes data and noise in a way of its own, for which there is no guidance: use models of "
                "the VE kind (SD 1.x, SDXL) or flow kind (SD3, Flux)."
            )
        check_single_pictures(model)
        to_input = nn.Sequential(self.view.of(model), self.prepared)
        return CleanClassifier(self.network, self.labels, self.head, to_input, Shifted())
