"""A network that takes a class, as denoisers on VE under labels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..denoisers import Denoiser, v_denoiser
from ..errors import GuidanceError
from ..tensors import per_sample


def checked_labels(labels: Tensor | Sequence[int] | int, count: int, samples: str) -> Tensor:
    """Labels as long [B] or [1]. samples: what is drawn, in words. Raises GuidanceError outside 0..count - 1."""
    labels = torch.as_tensor(labels).reshape(-1).long()
    wrong = labels[(labels < 0) | (labels >= count)]
    if len(wrong):
        raise GuidanceError(f"The {samples}' labels are 0 to {count - 1}, got {int(wrong[0])}.")
    return labels


def under_labels(
    network: Callable[..., Tensor], sigmas: Tensor, labels: Tensor, samples: str, shape: tuple[int, ...] = ()
) -> Denoiser:
    """(x [B, *shape], sigma) -> denoised of network(x_vp, t, y=labels) -> v, under one label a sample or one for all.

    Raises GuidanceError for another number of channels than shape's, where that is given.
    """
    denoiser = v_denoiser(network, sigmas)

    def conditioned(x: Tensor, sigma: Tensor | float) -> Tensor:
        if shape and x.shape[1] != shape[0]:
            wanted = ", ".join(map(str, shape))
            raise GuidanceError(f"The {samples} are [B, {wanted}], got x {list(x.shape)}: draw it by the demo's shape.")
        if len(labels) not in (1, len(x)):
            raise GuidanceError(
                f"The {samples} were given {len(labels)} labels for {len(x)} samples: give one for each."
            )
        return denoiser(x, per_sample(sigma, x), y=labels.to(x.device).expand(len(x)))

    return conditioned
