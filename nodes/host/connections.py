"""What is connected to a CFG method (a model, a condition, a classifier), as the method and the run take it."""

from collections.abc import Iterable

from comfy.model_patcher import ModelPatcher

from ...guidance_core.cfg import Method
from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ...guidance_core.params import params_of
from ...guidance_core.terms import Term
from .classifiers import HostClassifier
from .model_facts import check_classifier, latent_space, path_of
from .weaken import weaker_self


@frozen(eq=False)
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
            check_second_model(model, value)
            patchers += patchers_beside(model, value)
        elif param.socket == "conditioning" and value is not None:
            value = Condition(value)
        if value is None and param.needed:
            raise GuidanceError(f"the method '{kind.name}' needs a {param.socket} at {name}: connect one.")
        values[name] = value
    return values, tuple(patchers)


def patchers_beside(model: ModelPatcher, second: ModelPatcher) -> list[ModelPatcher]:
    """What is to be loaded for a second model: nothing where it is the first one itself, weakened."""
    return [] if weaker_self(second, model) else [second]


def check_second_model(model: ModelPatcher, second: ModelPatcher) -> None:
    """Raise GuidanceError unless the second model can predict beside the first one, on the same latents."""
    if weaker_self(second, model):
        return
    if second.is_clone(model) and (
        second.patches_uuid != model.patches_uuid or second.object_patches != model.object_patches
    ):
        raise GuidanceError(
            "the second model is this model itself with other patches (a LoRA, say), and one set of weights cannot be "
            "both at once: load the second model from a checkpoint of its own."
        )
    if path_of(second) is not path_of(model) or latent_space(second) != latent_space(model):
        raise GuidanceError(
            f"the second model samples {latent_space(second)} latents and this one {latent_space(model)}, or they mix "
            f"noise in other ways: connect a model of the same family."
        )


def check_connected(model: ModelPatcher, methods: Iterable[Method | Term]) -> None:
    """As `connected` does, for the MODEL that is sampled in the end: patches may have been added to it."""
    for method in methods:
        for name in params_of(type(method)):
            if isinstance(value := getattr(method, name), ModelPatcher):
                check_second_model(model, value)
