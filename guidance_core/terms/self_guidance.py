"""Self-guidance: away from a weaker self of the model, with the condition and without any negative."""

from torch import Tensor

from ..frozen import frozen
from ..params import number, socket
from ..scale import ScaleSchedule
from .base import Term, TermEvent


def led_away(denoised: Tensor, cond: Tensor, weak: Tensor, scale: float) -> Tensor:
    """denoised + scale * (cond - weak), in the dtype of denoised; all of them [B, C, ...]."""
    return denoised + ((cond - weak) * scale).to(denoised.dtype)


@frozen(eq=False)
class SelfGuidance(Term):
    """Adds scale * schedule * (cond - weak) to the guided prediction.

    weak: the model with its attention perturbed, layers left out and their kin, as run.denoiser_of takes
        it; not run where scale * schedule is 0.
    """

    name = "self_guidance"
    title = "Self-guidance"
    doc = "Leads away from a weakened self of the model: firmer shapes and detail, also where CFG is 1."
    source = "PAG, Ahn et al. 2024, arXiv:2403.17377, equation 15; SEG, arXiv:2408.00760; STG, arXiv:2411.18664"
    before_result = True
    own_passes = 1

    weak: object = socket(
        "model", "This model through Weaken Model, or a weaker one; run on the same prompt.", needed=True
    )
    scale: float = number(
        2.0,
        -100.0,
        100.0,
        0.05,
        "How far to lead away from the weaker self: 0 is off, 1 to 3 is usual; beside CFG use less.",
    )
    schedule: ScaleSchedule = ScaleSchedule()

    def start(self, run):
        scale_at, weak_of = self.scale_over(run), run.denoiser_of(self.weak)

        def guided(denoised, x, sigma):
            scale = scale_at(sigma)
            if scale == 0:
                return denoised
            cond = run.conditional(x, sigma)
            weak = None if cond is None else weak_of(x, sigma)
            if weak is None:
                return denoised
            run.record(TermEvent(float(sigma[0]), scale))
            return led_away(denoised, cond, weak, scale)

        return guided
