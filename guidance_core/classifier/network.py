"""The network that a card describes, built without trusting the file that it came from."""

import torch
from torch import Tensor, nn

from ..errors import GuidanceError
from ..files import Header
from .adm import AdmEncoder
from .card import Card
from .latent_encoder import LatentEncoder

ARCHITECTURES: dict[str, type[nn.Module]] = {"latent_encoder": LatentEncoder, "adm_encoder": AdmEncoder}
MAX_WEIGHTS = 10**9
DTYPES = ("F64", "F32", "F16", "BF16")


def outline(card: Card, header: Header, name: str) -> nn.Module:
    """The network of a card without memory for its weights, once those in the file `name` are known to fit it."""
    if card.architecture not in ARCHITECTURES:
        raise GuidanceError(f"'{name}' has the unknown architecture '{card.architecture}': update Guidance Kit.")
    try:
        with torch.device("meta"):
            network = ARCHITECTURES[card.architecture](**card.parameters)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise GuidanceError(f"'{name}' is damaged: its parameters build no network ({str(error)[:200]}).") from error
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    shapes = {key: declared.shape for key, declared in header.tensors.items()}
    for key in expected.keys() | shapes.keys():
        if expected.get(key) != shapes.get(key):
            raise GuidanceError(
                f"'{name}' is damaged: its weights and its description do not agree ('{key[:80]}' is "
                f"{_shape(shapes.get(key))}, described as {_shape(expected.get(key))})."
            )
    for key, dtype in ((key, declared.dtype) for key, declared in header.tensors.items()):
        if dtype not in DTYPES:
            raise GuidanceError(f"'{name}' is damaged: its weights '{key}' are {dtype[:20]}, not real numbers.")
    count = sum(parameter.numel() for parameter in network.parameters())
    if count > MAX_WEIGHTS:
        raise GuidanceError(f"'{name}' holds {count} weights; classifiers of up to {MAX_WEIGHTS} are loaded.")
    return network


def check_finite(weights: dict[str, Tensor], name: str) -> None:
    """Raise GuidanceError unless the weights in the file `name` are finite numbers."""
    for key, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise GuidanceError(f"'{name}' is damaged: its weights '{key[:80]}' are not all finite numbers.")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
