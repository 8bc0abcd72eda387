"""What is connected to a CFG method (a model, a condition, a classifier), as the method and the run take it."""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.sampler_helpers
import comfy.samplers
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from torch import Tensor

from ..guidance_core.cfg import Method
from ..guidance_core.errors import GuidanceError
from ..guidance_core.params import params_of
from .model_facts import check_classifier
from .types import HostClassifier


@dataclass(frozen=True, eq=False)
class Condition:
    """A CONDITIONING that a method predicts under, beside those of the guider."""

    conditioning: list

    @property
    def key(self) -> str:
        """Its name among the guider's conditions."""
        return f"guidance_kit_{id(self)}"


def connected(model: ModelPatcher, kind: type[Method], given: dict) -> tuple[dict, tuple[ModelPatcher, ...]]:
    """(a method's parameters with what its sockets carry made ready, the patchers to load with the model).

    given: the node's values by name; a socket that is not connected may be missing. Raises GuidanceError for a
    classifier of other latents, and for a weak model that shares the model's weights.
    """
    values, patchers = {}, []
    for name, param in params_of(kind).items():
        value = given.get(name)
        if isinstance(value, HostClassifier):
            check_classifier(model, value.classifier)
            patchers.append(value.patcher)
            value = value.classifier
        elif isinstance(value, ModelPatcher):
            if value.is_clone(model) and value.patches_uuid != model.patches_uuid:
                raise GuidanceError(
                    f"the model connected as {name} is this model itself with other patches (a LoRA, say), and one set "
                    f"of weights cannot be both at once: load the {name} model from a checkpoint of its own."
                )
            patchers.append(value)
        elif param.socket == "conditioning" and value is not None:
            value = Condition(value)
        values[name] = value
    return values, tuple(patchers)


def conditions_of(methods: tuple[Method, ...]) -> dict[str, list[dict]]:
    """The conditions that methods predict under, by key, for the guider to prepare with its own."""
    found = [
        getattr(method, name) for method in methods for name, p in params_of(type(method)).items() if p.kind is object
    ]
    return {
        each.key: comfy.sampler_helpers.convert_cond(
            node_helpers.conditioning_set_values(each.conditioning, {"prompt_type": "negative"})
        )
        for each in found
        if isinstance(each, Condition)
    }


def denoiser_of(guider, options: Callable[[], dict], ran: Callable[[int], None]) -> Callable[[object], Callable]:
    """What a method was given to predict with -> denoiser, under a guider's run.

    options gives the model_options of the call under way; ran is told of each pass.
    """

    def from_model(patcher: ModelPatcher):
        own = None

        def predict(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal own
            if own is None:
                patcher.pre_run()
                own = create_model_options_clone(patcher.model_options)
                sigmas = options()["transformer_options"]["sample_sigmas"]
                own.setdefault("transformer_options", {})["sample_sigmas"] = sigmas
            positive = guider.conds["positive"]
            ran(len(positive))
            return _predicted(patcher.model, positive, x, sigma, own)

        return predict

    def from_condition(condition: Condition):
        def predict(x: Tensor, sigma: Tensor) -> Tensor:
            parts = guider.conds[condition.key]
            ran(len(parts))
            return _predicted(guider.inner_model, parts, x, sigma, options())

        return predict

    def of(source: object):
        if isinstance(source, ModelPatcher):
            return from_model(source)
        return from_condition(source) if isinstance(source, Condition) else source

    return of


def _predicted(model, parts: list[dict], x: Tensor, sigma: Tensor, options: dict) -> Tensor:
    with torch.no_grad():
        return comfy.samplers.calc_cond_batch(model, [parts], x, sigma, options)[0]
