"""Per-sample tensor arithmetic: every reduction runs over all axes but the batch, so batch mates never matter."""

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from .errors import GuidanceError

SALT = 0x5EED_C0DE  # keeps seeded_noise apart from the noise that a run of the same seed begins with


def check_tensor(name: str, given: object) -> Tensor:
    """The tensor that was given. Raises GuidanceError, with what makes one of it, for anything else."""
    if isinstance(given, Tensor):
        return given
    kind = type(given).__name__
    made = {"ndarray": f": pass torch.from_numpy({name})", "list": f": pass torch.tensor({name})"}.get(kind, "")
    raise GuidanceError(f"{name} must be a torch tensor, got {'a numpy array' if kind == 'ndarray' else kind}{made}.")


def check_floating(name: str, given: object) -> Tensor:
    """The tensor of floating numbers that was given. Raises GuidanceError for anything else."""
    tensor = check_tensor(name, given)
    if not tensor.is_floating_point():
        bytes_are = "bytes are pixels: encode them first, or for a model of pixels pass"
        instead = f"{bytes_are} {name} / 127.5 - 1" if tensor.dtype == torch.uint8 else f"pass {name}.float()"
        raise GuidanceError(f"{name} must be of floating numbers, got {tensor.dtype}: {instead}.")
    return tensor


def expand(value: Tensor | float, x: Tensor) -> Tensor:
    """A per-sample value ([B], or a scalar) shaped to broadcast against x [B, C, ...], in x's dtype and device."""
    value = torch.as_tensor(value, device=x.device, dtype=x.dtype)
    return value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim else value


def per_sample(value: Tensor | float, x: Tensor) -> Tensor:
    """A noise level, one number or [B], as [B] on x's device. Raises GuidanceError for any other count, and for no x.

    A floating tensor keeps its dtype; a plain number takes x's, float32 at least: half precision would blur it.
    """
    value = torch.as_tensor(value, device=x.device, dtype=_level_dtype(value, x)).flatten()
    if not len(x):
        raise GuidanceError(f"There are no samples: x has the shape {list(x.shape)}.")
    if len(value) not in (1, len(x)):
        raise GuidanceError(f"Got {len(value)} noise levels for a batch of {len(x)}; give one, or one a sample.")
    return value.expand(len(x))


def _level_dtype(value: Tensor | float, x: Tensor) -> torch.dtype:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.dtype
    return torch.promote_types(x.dtype, torch.float32)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each sample, [B]."""
    return (a * b).flatten(1).sum(1)


def norm(a: Tensor) -> Tensor:
    """Euclidean norm of each sample, [B]."""
    return a.flatten(1).norm(dim=1)


def std(a: Tensor) -> Tensor:
    """Standard deviation of each sample over all its axes, [B]."""
    return a.flatten(1).std(dim=1)


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1), 0)


def excess(a: Tensor, b: Tensor, difference: Tensor, axes: tuple[int, ...]) -> Tensor:
    """(|a| - |b|) / |a| of the Euclidean norms over `axes`, which stay with length 1; 0 where a is 0.

    By difference = a - b, so that it keeps its digits where a and b are nearly one.
    """
    size, other = (torch.linalg.vector_norm(each, dim=axes, keepdim=True) for each in (a, b))
    return ratio((difference * (a + b)).sum(axes, keepdim=True), size * (size + other))


def sample_axes(x: Tensor) -> tuple[int, ...]:
    """All axes of x but the batch."""
    return tuple(range(1, x.ndim))


def project(a: Tensor, onto: Tensor) -> Tensor:
    """The part of each sample of `a` that is parallel to `onto`; 0 where `onto` is 0."""
    return expand(ratio(dot(a, onto), dot(onto, onto)), a) * onto


def quantile(a: Tensor, q: float) -> Tensor:
    """The q-quantile along the last axis, linear between values; of any size, where torch.quantile has a limit."""
    ordered = a.sort(-1).values
    place = q * (a.shape[-1] - 1)
    low = int(place)
    high = min(low + 1, a.shape[-1] - 1)
    return ordered[..., low].lerp(ordered[..., high], place - low)


def seeded_noise(x: Tensor, seed: int, draws: Sequence[int], samples: Sequence[int] | None = None) -> Tensor:
    """Unit normal noise like x whose sample i depends on (seed, draws[i], i): not on the batch size or the device.

    samples: the places of x in a larger batch, in place of each i.
    """
    rows = []
    for i, draw in zip(samples if samples is not None else range(len(draws)), draws, strict=True):
        generator = torch.Generator().manual_seed((SALT + seed * 1_000_003 + draw * 7_919 + i) % 2**63)
        rows.append(torch.randn(x.shape[1:], generator=generator, dtype=torch.float32))
    return torch.stack(rows).to(x)


def draw_of(sigma: float) -> int:
    """A whole number that names a noise level, so that a run split in two draws what the whole run would."""
    return struct.unpack("<I", struct.pack("<f", sigma))[0]
