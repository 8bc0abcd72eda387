"""The classifier term: guidance by a classifier that knows noise and judges the noisy sample itself."""

from ..frozen import frozen
from .gradient import bayes_factor, gradient_of_run, judge_of
from .judged import JudgedTerm
from .targets import as_target


@frozen
class ClassifierTerm(JudgedTerm):
    """Adds scale * schedule * sigma^2 / alpha * grad_x log p(target | x) to denoised (arXiv:2105.05233)."""

    name = "classifier"
    title = "Classifier guidance"
    doc = "Steers to what a classifier that was trained on noisy samples calls the target."
    source = "Dhariwal and Nichol, arXiv:2105.05233"

    def gradients(self, run):
        gradient = gradient_of_run(judge_of(self.classifier, run.path), as_target(self.target))
        return lambda denoised, x, sigma: gradient(x, sigma)

    def factor(self, grad, sigma, path):
        return bayes_factor(sigma, path)
