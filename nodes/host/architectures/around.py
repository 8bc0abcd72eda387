"""Wrappers of ComfyUI's around a model as a whole, which every kind of model runs in the same way."""

from collections.abc import Callable

from comfy.patcher_extension import WrappersMP
from torch import nn
from torch.utils.hooks import RemovableHandle

from .base import Options

Hooks = Callable[[nn.Module, Options], list[RemovableHandle]]


def around_model(options: Options, key: str, around: Callable) -> Options:
    """model_options under which around(executor, x, t, c_concat, c_crossattn, control, inside, **kwargs) takes a pass.

    It comes behind what is there. inside: transformer_options.
    """
    return _with_wrappers(options, lambda there: {**there, key: [around]})


def instead_of_a_pass(options: Options, key: str, around: Callable) -> Options:
    """The same before all that is there, so that each run of the executor is counted as a pass."""
    return _with_wrappers(options, lambda there: {key: [around], **there})


def _with_wrappers(options: Options, added: Callable[[dict], dict]) -> Options:
    inside = options["transformer_options"]
    wrappers = inside.get("wrappers", {})
    wrappers = {**wrappers, WrappersMP.APPLY_MODEL: added(wrappers.get(WrappersMP.APPLY_MODEL, {}))}
    return {**options, "transformer_options": {**inside, "wrappers": wrappers}}


def with_hooks(options: Options, key: str, hooks: Hooks) -> Options:
    """model_options under which hooks are on modules of the network while it runs, and on none afterwards.

    hooks: (network, transformer_options) -> the handles of what it has put on.
    """

    def around(executor, x, t, c_concat, c_crossattn, control, inside, **kwargs):
        handles = hooks(executor.class_obj.diffusion_model, inside)
        try:
            return executor(x, t, c_concat, c_crossattn, control, inside, **kwargs)
        finally:
            for handle in handles:
                handle.remove()

    return around_model(options, key, around)
