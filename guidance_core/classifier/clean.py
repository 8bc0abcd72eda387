"""Clean classifiers: any network that judges clean data, to be asked about a model's prediction of it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import GuidanceError
from ..frozen import frozen
from ..paths import VE, NoisePath
from ..tensors import per_sample
from .copies import Copies, Noised
from .heads import Head, as_head
from .names import some_of

LEVELS = 100  # noise levels that are told apart, a unit of log-SNR
FARTHEST = 10**4  # the log-SNR at which no noise and pure noise are counted


@frozen(eq=False, repr=False)
class CleanClassifier:
    """network(to_input(x0)) -> logits [B, K] of clean data x0 [B, C, ...], in the sampler's own units.

    labels: K names. head: what the logits mean, a Head or its name. to_input: differentiable, what turns x0 into what
    the network takes (decode, resize, normalise); None where it takes x0 itself. copies: over which its probabilities
    are averaged, made after to_input, so that decoding is paid once.
    """

    network: Callable[[Tensor], Tensor]
    labels: Sequence[str]
    head: str | Head = "single"
    to_input: Callable[[Tensor], Tensor] | None = None
    copies: Copies = Noised()

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", as_head(self.head))

    def __repr__(self) -> str:
        head = as_head(self.head).titled(len(self.labels))
        network = getattr(self.network, "__name__", type(self.network).__name__)
        decoded = "" if self.to_input is None else " after to_input"
        return f"CleanClassifier({head}: {some_of(self.labels)}; {network}{decoded}, {self.copies})"

    def judged(self, x0: Tensor, spread: Tensor, log_snr: Tensor, seed: int, samples: Sequence[int]) -> Tensor:
        """Logits [B, K] of the mean over the copies of x0, which seed, log_snr [B] and the samples' places decide."""
        inputs = x0 if self.to_input is None else self.to_input(x0)
        draws = [_draw_of(level) for level in log_snr.tolist()]
        copies = self.copies.of(inputs, spread, seed, draws, samples)
        logits = self.network(copies.flatten(0, 1))
        if logits.ndim != 2 or logits.shape[1] != len(self.labels):
            raise GuidanceError(
                f"The clean classifier has {len(self.labels)} labels and its network gave {list(logits.shape)} for "
                f"{len(copies.flatten(0, 1))} inputs: it must give one logit a label, [B, {len(self.labels)}]."
            )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).unflatten(0, copies.shape[:2])
        return as_head(self.head).mean(logits)

    def __call__(self, x0: Tensor, sigma: Tensor | float = 0.0, path: NoisePath = VE) -> Tensor:
        """Logits [B, K] of clean data x0, or of a prediction of it at noise level sigma, over copies as in a run."""
        sigma = per_sample(sigma, x0)
        return self.judged(x0, spread(sigma, path), path.log_snr(sigma), 0, range(len(x0)))


def clean_classifier(
    network: nn.Module | Callable[[Tensor], Tensor],
    labels: Sequence[str],
    head: str | Head = "single",
    to_input: Callable[[Tensor], Tensor] | None = None,
    copies: int | Copies = 4,
) -> CleanClassifier:
    """A classifier that judges clean data, which goes wherever a noisy one goes: see CleanClassifier.

    copies: how many noised copies, or Copies of another kind. A module is put into evaluation mode.
    Raises GuidanceError for an unknown head, and for copies that make no pairs.
    """
    if isinstance(network, nn.Module):
        network.eval()
    return CleanClassifier(
        network, tuple(labels), head, to_input, copies if isinstance(copies, Copies) else Noised(copies)
    )


def spread(sigma: Tensor, path: NoisePath) -> Tensor:
    """r = sigma / sqrt(alpha^2 + sigma^2): the deviation left in x0 where the data has unit variance. [B] -> [B]."""
    return sigma / torch.hypot(path.alpha(sigma), sigma)


def _draw_of(log_snr: float) -> int:
    """A whole number that names a noise level, the same on every path."""
    return round(LEVELS * min(max(log_snr + FARTHEST, 0.0), 2.0 * FARTHEST))
