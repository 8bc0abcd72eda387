"""Parameters as ComfyUI widgets and sockets."""

from comfy_api.latest import io

from ...guidance_core.errors import GuidanceError
from ...guidance_core.params import Param, params_of
from ..host.types import NOISY_CLASSIFIER

SOCKETS = {"model": io.Model, "conditioning": io.Conditioning, "mask": io.Mask, "classifier": NOISY_CLASSIFIER}


def widget(name: str, param: Param) -> io.Input:
    """One widget, or optional socket, for one declared parameter."""
    if param.kind is object:
        return SOCKETS[param.socket].Input(name, optional=True, tooltip=param.doc)
    common = {"default": param.default, "tooltip": param.doc, "advanced": param.advanced or None}
    if param.kind is tuple:
        return io.Combo.Input(name, options=list(param.options), **common)
    if param.kind is bool:
        return io.Boolean.Input(name, **common)
    if param.kind is str:
        return io.String.Input(name, **common)
    if param.kind is int:
        return io.Int.Input(name, min=int(param.low), max=int(param.high), **common)
    return io.Float.Input(name, min=param.low, max=param.high, step=param.step, **common)


def chosen(name: str, value: object) -> dict:
    """What a dynamic combo carries. Raises GuidanceError where ComfyUI found no option of its and left it out."""
    if not isinstance(value, dict):
        raise GuidanceError(f"{name} is set to something that is not among its choices (any more): choose it anew.")
    return value


def widgets(cls: type, *only: str) -> list[io.Input]:
    """The widgets of a dataclass's parameters, or of the named ones among them."""
    return [widget(name, param) for name, param in params_of(cls).items() if not only or name in only]
