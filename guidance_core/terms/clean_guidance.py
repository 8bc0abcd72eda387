"""The clean-classifier term: guidance by what judges clean data, asked about the model's own prediction of it."""

from dataclasses import dataclass

from ..classifier.clean import CleanClassifier, spread
from ..classifier.heads import as_head
from ..errors import GuidanceError
from .gradient import Judge, gradient_of_run
from .judged import JudgedTerm
from .targets import as_target


@dataclass(frozen=True)
class CleanTerm(JudgedTerm):
    """Adds scale * schedule * r^2 * grad log p(target | denoised) to denoised, the model not differentiated through.

    r^2 = sigma^2 / (alpha^2 + sigma^2) is the variance left in x0 where the data has unit variance: the isotropic part
    of Cov[x0 | x], by which exact guidance would multiply. Raises GuidanceError where the gradient is 0 everywhere.
    """

    name = "clean_classifier"
    title = "Clean-classifier guidance"
    doc = "Steers to what a classifier of clean pictures calls the target, in the model's own prediction."
    source = "MPGD, arXiv:2311.16424; averaging over copies: TFG, arXiv:2409.15761"

    classifier: CleanClassifier

    def gradients(self, run):
        clean = self.classifier

        def logits(x0, sigma, samples):
            return clean.judged(x0, spread(sigma, run.path), run.path.log_snr(sigma), run.seed, samples)

        gradient = gradient_of_run(Judge(logits, as_head(clean.head), clean.network), as_target(self.target))

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

    def factor(self, sigma, path):
        return spread(sigma, path) ** 2
