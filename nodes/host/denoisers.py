"""What a CFG method predicts with beside the guider, a condition or a second model, ready to be called in a run."""

from collections.abc import Callable
from contextlib import ExitStack

import comfy.hooks
import comfy.sampler_helpers
import comfy.samplers
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from torch import Tensor

from ...guidance_core.cfg import Method
from ...guidance_core.frozen import frozen
from ...guidance_core.params import params_of
from .conditions import active_parts
from .connections import Condition
from .guiders import Guider
from .passes import PassCounter
from .weaken import Weakened, weaker_self


@frozen(eq=False)
class Start:
    """What a run begins with, as ComfyUI hands it to OUTER_SAMPLE. Latents and noise are [B, C, ...], or packed."""

    noise: Tensor
    latent: Tensor
    sigmas: Tensor
    mask: Tensor | None
    seed: int | None
    shapes: tuple[tuple[int, ...], ...]  # of the parts of the latent


def add_conditions(guider: Guider, methods: tuple[Method, ...]) -> None:
    """Give the guider the conditions that methods predict under, made ready as it has done with its own.

    It has registered the hooks of its own conditions before this run was opened: all are registered anew.
    """
    given = [
        getattr(method, name) for method in methods for name, p in params_of(type(method)).items() if p.kind is object
    ]
    conds = {
        each.key: comfy.sampler_helpers.convert_cond(
            node_helpers.conditioning_set_values(each.conditioning, {"prompt_type": "negative"})
        )
        for each in given
        if isinstance(each, Condition)
    }
    if not conds:
        return
    guider.conds = {**guider.conds, **conds}
    comfy.samplers.preprocess_conds_hooks(conds)
    if _hooks_of(conds).hooks:
        if guider.model_patcher.is_dynamic():
            guider.model_patcher = guider.model_patcher.get_non_dynamic_delegate()
        _register(guider.model_patcher, _hooks_of(guider.conds), guider.model_options)
        comfy.samplers.filter_registered_hooks_on_conds(conds, guider.model_options)


def _hooks_of(conds: dict[str, list[dict]]) -> comfy.hooks.HookGroup:
    hooks = comfy.hooks.HookGroup()
    for parts in conds.values():
        comfy.sampler_helpers.get_hooks_from_cond(parts, hooks)
    return hooks


def _register(patcher: ModelPatcher, hooks: comfy.hooks.HookGroup, model_options: dict) -> None:
    """As ComfyUI's prepare_model_patcher does, which would add the model's wrappers a second time."""
    registered = model_options.get("registered_hooks", comfy.hooks.HookGroup())
    target = comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Model)
    for kind in (comfy.hooks.EnumHookType.TransformerOptions, comfy.hooks.EnumHookType.AdditionalModels):
        for hook in hooks.get_type(kind):
            if not registered.contains(hook):
                hook.add_hook_patches(patcher, model_options, target, registered)
    patcher.register_all_hook_patches(hooks, target, model_options, registered)
    model_options["registered_hooks"] = registered


class Denoisers:
    """Makes denoisers of what methods were given, under one run of a guider."""

    def __init__(self, guider: Guider, start: Start, counter: PassCounter, closing: ExitStack):
        """closing: what is to be done when the run is over, however it ends."""
        self.options: dict = {}  # the model_options of the call under way
        self._positive: list[dict] = []  # the positive's parts, whether this call leaves them out or not
        self._ran: list[tuple] = []  # conditions and outputs of the guider's own batches at this call
        self._guider, self._start, self._counter, self._closing = guider, start, counter, closing

    def begin_call(self, options: dict) -> None:
        """Note a call's model_options, before it leaves anything out."""
        self.options, self._positive, self._ran = options, self._guider.conds.get("positive") or [], []

    def ran(self, conds: list, out: list[Tensor]) -> None:
        """Note a whole batch that the guider ran at the call under way: its conditions and their outputs."""
        self._ran.append((conds, tuple(out)))

    def __call__(self, source: object) -> Callable[[Tensor, Tensor], Tensor | None]:
        """A second model, a condition, or what is a denoiser already."""
        if isinstance(source, ModelPatcher):
            weaker = weaker_self(source, self._guider.model_patcher)
            return self._from_self(weaker) if weaker else self._from_model(source)
        return self._from_condition(source) if isinstance(source, Condition) else source

    def positive(self, x: Tensor, sigma: Tensor) -> Tensor | None:
        """What the guider's own model predicts under the positive; None where that is not active.

        It runs only where the guider has not run it: methods bring lists of conditions of their own.
        """
        if active_parts(self._positive, sigma):
            for conds, out in self._ran:
                for parts, each in zip(conds, out, strict=True):
                    if parts is self._positive:
                        return each
        return _predicted(self._guider.inner_model, self._positive, x, sigma, self.options)

    def _from_condition(self, condition: Condition) -> Callable:
        def predict(x: Tensor, sigma: Tensor) -> Tensor | None:
            return _predicted(self._guider.inner_model, self._guider.conds[condition.key], x, sigma, self.options)

        return predict

    def _from_self(self, weaker: Weakened) -> Callable:
        """The guider's own model with all that is on it, weakened; for a step cache its parts are others."""

        def predict(x: Tensor, sigma: Tensor) -> Tensor | None:
            parts = [{**part, "uuid": (id(weaker), part.get("uuid"))} for part in self._positive]
            options = weaker.on(self._guider.model_patcher, self.options)
            return _predicted(self._guider.inner_model, parts, x, sigma, options)

        return predict

    def _from_model(self, patcher: ModelPatcher) -> Callable:
        ready: tuple[list[dict], dict] | None = None

        def predict(x: Tensor, sigma: Tensor) -> Tensor | None:
            nonlocal ready
            ready = ready or self._opened(patcher)
            return _predicted(patcher.model, ready[0], x, sigma, ready[1])

        return predict

    def _opened(self, patcher: ModelPatcher) -> tuple[list[dict], dict]:
        """The positive as the second model takes it, and the options to run that model under.

        They are made ready as the guider makes its own: hooks registered, wrappers in place, conditions encoded.
        """
        options = create_model_options_clone(patcher.model_options)
        options.setdefault("transformer_options", {})["sample_sigmas"] = self._start.sigmas
        conds = {"positive": [part.copy() for part in self._guider.original_conds["positive"]]}
        comfy.samplers.preprocess_conds_hooks(conds)
        comfy.sampler_helpers.prepare_model_patcher(patcher, conds, options)
        self._closing.callback(patcher.restore_hook_patches)
        comfy.samplers.filter_registered_hooks_on_conds(conds, options)
        comfy.samplers.cast_to_load_options(options, device=patcher.load_device, dtype=patcher.model_dtype())
        self._closing.callback(comfy.samplers.cast_to_load_options, options, device=patcher.offload_device)
        if not patcher.is_clone(self._guider.model_patcher):
            patcher.pre_run()
            self._closing.callback(patcher.cleanup)
        self._counter.watch(options["transformer_options"])
        return self._encoded(patcher.model, conds, patcher.load_device)["positive"], options

    def _encoded(self, model, conds: dict[str, list[dict]], device: torch.device) -> dict[str, list[dict]]:
        start, latent = self._start, self._start.latent.to(device, torch.float32)
        if torch.count_nonzero(latent) > 0:
            latent = model.process_latent_in(latent)
        noise = start.noise.to(device, torch.float32)
        with torch.no_grad():
            return comfy.samplers.process_conds(
                model, noise, conds, device, latent, start.mask, start.seed, latent_shapes=start.shapes
            )


def _predicted(model, parts: list[dict], x: Tensor, sigma: Tensor, options: dict) -> Tensor | None:
    """None where no part of the condition is active."""
    if not (active := active_parts(parts, sigma)):
        return None
    with torch.no_grad():
        return comfy.samplers.calc_cond_batch(model, [active], x, sigma, options)[0]
