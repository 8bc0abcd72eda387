"""The clean-classifier term: guidance by what judges clean data, asked about the model's own prediction of it."""

from abc import ABC, abstractmethod
from dataclasses import replace

from torch import Tensor

from ..classifier.clean import CleanClassifier, spread
from ..errors import GuidanceError
from ..frozen import frozen
from .gradient import gradient_of_run, judge_of
from .judged import JudgedTerm
from .targets import as_target


class Unit(ABC):
    """What a scale of 1 is."""

    @abstractmethod
    def of(self, x0: Tensor) -> float:
        """What r^2 times the gradient is multiplied by at scale 1, for clean data like x0 [B, C, ...]."""


@frozen
class Variance(Unit):
    """r^2 times the gradient itself."""

    def of(self, x0):
        return 1.0


@frozen
class RootOfSize(Unit):
    """The root of how many numbers a sample has, for scales of 1 to 2 to be usual for latents of any size.

    A gradient of length 1 / r then moves a sample by r sqrt(n), the typical length of what is unknown of it
    (docs/clean-classifiers.md).
    """

    def of(self, x0):
        return x0[0].numel() ** 0.5


@frozen
class CleanTerm(JudgedTerm):
    """Adds scale * schedule * r^2 * grad log p(target | denoised) to denoised, the model not differentiated through.

    r^2 = sigma^2 / (alpha^2 + sigma^2) is the variance left in x0 where the data has unit variance: the isotropic part
    of Cov[x0 | x], by which exact guidance would multiply. unit: of the scale.
    Raises GuidanceError where the gradient is 0 everywhere.
    """

    name = "clean_classifier"
    title = "Clean-classifier guidance"
    doc = "Steers to what a classifier of clean pictures calls the target, in the model's own prediction."
    source = "MPGD, arXiv:2311.16424; averaging over copies: TFG, arXiv:2409.15761"

    classifier: CleanClassifier
    unit: Unit = Variance()

    def gradients(self, run):
        clean = self.classifier

        def logits(x0, sigma, samples):
            return clean.judged(x0, spread(sigma, run.path), run.path.log_snr(sigma), run.seed, samples)

        judge = replace(judge_of(clean, run.path), logits=logits)
        gradient = gradient_of_run(judge, as_target(self.target))

        def at_denoised(denoised, x, sigma):
            result = gradient(denoised, sigma)
            if not bool(result.grad.any()):
                raise GuidanceError(
                    "the classifier's gradient is exactly zero everywhere: something between the prediction and the "
                    "network rounds, clamps or thresholds it. Give `to_input` a differentiable resize and normalise, "
                    "without clamping or rounding."
                )
            return result

        return at_denoised

    def factor(self, grad, sigma, path):
        return self.unit.of(grad) * spread(sigma, path) ** 2
