"""What every term shares that follows a judge's gradient: scale and schedule, cap, sharpness, refusals and trace."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..classifier.clean import spread
from ..errors import GuidanceError
from ..frozen import frozen
from ..params import flag, number
from ..paths import NoisePath
from ..run import Run
from ..scale import ScaleSchedule
from ..tensors import expand, norm
from .base import Guidance, Term, TermEvent
from .gradient import TargetGradient
from .targets import LabelTarget, Target, as_target

MIN_ENTROPY = 0.2  # nats; bounds the entropy-aware factor where the classifier is certain


@frozen
class JudgedEvent(TermEvent):
    """One evaluation of a classifier term. The tensors are [B].

    log_prob: of the target with every weight 1, so that it is how probable the target is, not how it is steered to.
    push: how far the prediction is moved, as a share of r sqrt(n), the typical length of what is still unknown of n
    numbers of unit variance: the same measure for every model, latent size and noise path.
    """

    log_prob: Tensor
    grad_norm: Tensor
    push: Tensor
    passes: int = 1  # more where memory did not hold the whole batch


@frozen
class JudgedTerm(Term):
    """Adds scale * schedule * factor * grad log p(target | what is judged) to denoised.

    Where scale * schedule is 0 the classifier is not run. Raises GuidanceError for what is no target, and, naming the
    step, when the gradient is not finite.
    """

    classifier: Callable[..., Tensor]
    target: Target | LabelTarget | Tensor
    scale: float = number(
        2.0,
        -100.0,
        100.0,
        0.05,
        "How strongly to steer: 0 is off, 1 to 4 is usual; higher is clearer and less varied, below 0 steers away.",
    )
    schedule: ScaleSchedule = ScaleSchedule()
    entropy_aware: bool = flag(
        False,
        "Steer harder where the classifier is sure: guidance does not fade once it agrees (ED-DPM, arXiv:2206.11474).",
        advanced=True,
    )
    max_shift: float = number(
        0.0,
        0.0,
        10.0,
        0.05,
        "Limit on what guidance changes at one step, as a share of the model's own change; 0 is no limit, 0.5 tames "
        "high scales.",
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        as_target(self.target)

    @abstractmethod
    def gradients(self, run: Run) -> Callable[[Tensor, Tensor, Tensor], TargetGradient]:
        """Open a run: (denoised, x, sigma [B]) -> the gradient of the target's log-probability, like x."""

    @abstractmethod
    def factor(self, grad: Tensor, sigma: Tensor, path: NoisePath) -> Tensor:
        """What a gradient like denoised is multiplied by to be a change of it, [B]; sigma [B] in float32 at least."""

    def start(self, run: Run) -> Guidance:
        gradient, scale_at = self.gradients(run), self.scale_over(run)

        def guided(denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
            scale = scale_at(sigma)
            if scale == 0:
                return denoised
            result = gradient(denoised, x, sigma)
            finite = result.grad.isfinite().flatten(1).all(1)
            if not bool(finite.all()):
                raise GuidanceError(_not_finite(run, float(sigma[~finite][0]), bool(x.isfinite().all())))
            change = self._change(result, sigma, run.path, scale)
            if self.max_shift > 0:
                room = self.max_shift * norm(denoised - x) / norm(change).clamp(min=1e-12)
                change = change * expand(room.clamp(max=1.0), change)
            push = norm(change) / (spread(sigma, run.path) * x[0].numel() ** 0.5)
            grad_norm = norm(result.grad)
            run.record(JudgedEvent(float(sigma[0]), scale, result.unweighted, grad_norm, push, result.passes))
            return denoised + change.to(denoised.dtype)

        return guided

    def _change(self, result: TargetGradient, sigma: Tensor, path: NoisePath, scale: float) -> Tensor:
        """What is added to denoised, but for the cap."""
        scales: float | Tensor = scale
        if self.entropy_aware:
            scales = scale * result.max_entropy / result.entropy.clamp(min=MIN_ENTROPY)
        factor = self.factor(result.grad, sigma.to(torch.promote_types(sigma.dtype, torch.float32)), path)
        return expand(scales, result.grad) * expand(factor, result.grad) * result.grad


def _not_finite(run: Run, sigma: float, asked_well: bool) -> str:
    where = f"sigma {sigma:.4g}"
    if run.sigmas is not None:
        where = f"step {int(run.step(sigma, after=0.0)) + 1} of {len(run.levels)} ({where})"
    if not asked_well:
        return (
            f"what is sampled is not a finite number any more at {where}, before the classifier acts: the model or a "
            f"node before this one made it so. Run the model in another precision, or lower the scales."
        )
    return (
        f"the classifier's gradient is not a finite number at {where}. Check the classifier file and that it belongs "
        f"to this model's latents, or switch guidance off there with a schedule."
    )
