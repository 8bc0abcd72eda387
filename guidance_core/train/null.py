"""Learning a null condition: the embedding under which a model predicts its own unconditional data best."""

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import Checked, integer, number
from ..paths import VE, NoisePath
from ..progress import Progress
from ..tensors import check_floating, expand
from .data import uniform_levels
from .optimization import learning, optimizer_step, update_ema, warm_up_and_cosine

UnderNull = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x [B, C, ...], sigma [B], null [1, ...]) -> denoised
EMA = 0.98
JUDGED = 8  # batches, of noise drawn once, over which the loss before and after is taken


@frozen
class NullSettings(Checked):
    """How a null condition is learned."""

    steps: int = integer(300, 1, 100_000, "Steps of training; a few hundred are enough for one embedding.")
    batch: int = integer(8, 1, 1024, "Latents a step.")
    learning_rate: float = number(
        0.02, 1e-5, 1.0, 0.001, "How far a step goes, as a share of the size of the condition that it begins with."
    )
    seed: int = integer(0, 0, 2**63 - 1, "The seed of what is drawn.")


@frozen
class NullProgress(Progress):
    """`done` of `count` steps are done, the last at this loss."""

    loss: float


@frozen(eq=False)
class LearnedNull:
    """null, like the one it began with; the denoising loss under the beginning and under it, on the same noise."""

    null: Tensor
    before: float
    after: float


def learn_null(
    denoiser: UnderNull,
    x0: Tensor,
    begin: Tensor,
    sigmas: Tensor,
    path: NoisePath = VE,
    settings: NullSettings | None = None,
) -> Generator[NullProgress, None, LearnedNull]:
    """Fit a null condition to unconditional data by the denoising loss; the model itself stays as it is.

    denoiser: (x [B, C, ...], sigma [B], null like begin) -> denoised, differentiable in null. x0 [N, C, ...]: what the
    model makes without a condition, in the sampler's scale: its training data, or its own samples of all conditions.
    begin: where to start, such as the empty prompt's embedding [1, tokens, width]. sigmas [n]: the model's noise
    levels on the path, each equally likely. The loss is that of v in the frame of unit variance, whatever the model
    predicts: |denoised - x0|^2 (alpha^2 + sigma^2) / sigma^2.
    Yields every step and returns the result. Raises GuidanceError where the denoiser does not answer to null.
    """
    settings = settings or NullSettings()
    check_floating("x0", x0)
    check_floating("begin", begin)
    count, generator = int(settings.batch), torch.Generator().manual_seed(int(settings.seed))
    levels = sigmas[sigmas > 0].to(x0.device, torch.float32)

    def drawn() -> tuple[Tensor, Tensor, Tensor]:
        chosen = x0[torch.randint(len(x0), (count,), generator=generator).to(x0.device)].float()
        places = uniform_levels(count, 0, len(levels), generator).long().clamp(max=len(levels) - 1)
        noise = torch.randn(chosen.shape, generator=generator).to(chosen)
        return chosen, levels[places.to(levels.device)], noise

    def loss_of(clean: Tensor, sigma: Tensor, noise: Tensor, null: Tensor) -> Tensor:
        alpha = path.alpha(sigma)
        x = expand(alpha, clean) * clean + expand(sigma, clean) * noise
        error = (denoiser(x, sigma, null) - clean).float().square().flatten(1).mean(1)
        return (error * (alpha**2 + sigma**2) / sigma**2).mean()

    judged_on = [drawn() for _ in range(JUDGED)]

    def judged(null: Tensor) -> float:
        with torch.no_grad():
            return sum(float(loss_of(*each, null)) for each in judged_on) / JUDGED

    with learning():
        first = begin.detach().clone().float()
        null, average = first.clone().requires_grad_(), first.clone()
        size = float(first.square().mean().sqrt()) or 1.0
        optimizer = torch.optim.Adam([null])
        before = judged(first)
    for step in range(1, int(settings.steps) + 1):
        with learning():
            loss = loss_of(*drawn(), null)
            if not loss.requires_grad:
                raise GuidanceError(
                    "The model's prediction does not depend on the null condition, or gives no gradient of it: a "
                    "condition can be learned only where it goes into the model as numbers."
                )
            rate = size * settings.learning_rate * warm_up_and_cosine(step, int(settings.steps))
            optimizer_step(optimizer, loss, rate)
            update_ema([average], [null], EMA, step)
        yield NullProgress(step, int(settings.steps), float(loss.detach()))
    return LearnedNull(average, before, judged(average))
