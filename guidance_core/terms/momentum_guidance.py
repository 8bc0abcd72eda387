"""Momentum guidance: away from where earlier steps were heading, which is smoother than where this one heads."""

from ..frozen import frozen
from ..params import number
from ..tensors import expand
from .history import EarlierSteps, HistoryTerm


@frozen
class MomentumGuidance(HistoryTerm):
    """v' = v + scale * (v - m), m <- memory * m + (1 - memory) * v, first m = v (arXiv:2602.20360, algorithm 1).

    The average is one of velocities, noise - x0 of the flow path, and of those before guidance; not of denoised
    predictions, which would differ by the noise level t of each step: x0 = x - t v. On other paths the sample is read
    as the flow sample of the same log-SNR, t = sigma / (alpha + sigma), so that a step of Euler or DDIM is the paper's
    on every model; the paper itself has flow models only. Its windows are a schedule (t from 0.95 to 0.3), and outside
    of them the average goes on, as there. Of its variants the rescaling of m to the norm of v is left out.
    """

    name = "mg"
    title = "Momentum guidance (MG)"
    doc = "Sharpens what the last steps changed: more detail and contrast, for no further pass."
    source = "Liao et al. 2026, arXiv:2602.20360, algorithm 1"

    scale: float = number(
        0.5, -10.0, 10.0, 0.05, "How far beyond the average of earlier steps: 0 is off, 0.5 is usual."
    )
    memory: float = number(
        0.6, 0.0, 0.99, 0.05, "How slowly earlier steps are forgotten: 0 looks back one step.", advanced=True
    )

    def direction(self, run):
        def take(average, velocity):
            return velocity if average is None else self.memory * average + (1 - self.memory) * velocity

        earlier = EarlierSteps(run, take)

        def change(denoised, x, sigma):
            velocity = run.path.eps(x, denoised, sigma) - denoised
            average = earlier(velocity, float(sigma[0]))
            if average is None:
                return None
            return expand(sigma / (run.path.alpha(sigma) + sigma), x) * (average - velocity)

        return change
