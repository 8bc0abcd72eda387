"""Ways to weaken a model for guidance that leads away from it, one a file, found by discovery."""

import importlib
import inspect
import pkgutil
from functools import cache

from comfy.model_patcher import ModelPatcher

from ....guidance_core.frozen import frozen
from ..architectures import Options
from .base import Weakening

WEAKENED = "guidance_kit_weakened"  # where a MODEL carries what it was weakened by


@frozen
class Weakened:
    """How a MODEL was weakened, and the patches of its weights at that time."""

    ways: tuple[Weakening, ...]
    patches_uuid: object

    def on(self, model: ModelPatcher, options: Options) -> Options:
        """model_options of this model's, weakened."""
        for way in self.ways:
            options = way.on(model.get_model_object("diffusion_model"), options)
        return options


@cache
def weakenings() -> dict[str, type[Weakening]]:
    """Every way to weaken by name, in the order of their ranks."""
    found = set()
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f".{module.name}", __name__)).values()
        found |= {m for m in members if inspect.isclass(m) and issubclass(m, Weakening) and not inspect.isabstract(m)}
    return {cls.name: cls for cls in sorted(found, key=lambda cls: (cls.rank, cls.name))}


def weakened(model: ModelPatcher, way: Weakening) -> ModelPatcher:
    """A clone of MODEL that predicts weakened. Raises GuidanceError for a model or blocks that the way lacks."""
    before, model = model.model_options.get(WEAKENED), model.clone()
    model.model_options = way.on(model.get_model_object("diffusion_model"), model.model_options)
    ways = (*before.ways, way) if before is not None else (way,)
    model.model_options[WEAKENED] = Weakened(ways, model.patches_uuid)
    return model


def weaker_self(weak: ModelPatcher, model: ModelPatcher) -> Weakened | None:
    """How `weak` is the very model weakened, and nothing else of its weights changed since; None where it is not."""
    record: Weakened | None = weak.model_options.get(WEAKENED)
    same = record is not None and weak.is_clone(model) and weak.patches_uuid == record.patches_uuid
    return record if same else None
