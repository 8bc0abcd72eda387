"""What it takes to drive a guider of ComfyUI's: which of its attributes to set for the length of one call.

A guider reads its scales and conditions anew at every call. Setting them is the one way in which passes are skipped: a
scale of 1 or a condition of None is not run, and what is not run has no weight in the result.
"""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import field
from functools import cached_property
from itertools import pairwise
from typing import ClassVar, Protocol

from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...guidance_core.cfg import Pipeline, PipelineRun
from ...guidance_core.frozen import frozen
from ...guidance_core.run import Run
from .hooks import HOOKS


class Guider(Protocol):
    """What is used of a guider of ComfyUI's: its model, its conditions by role, and the options of the run."""

    model_patcher: ModelPatcher
    model_options: dict
    original_conds: dict[str, list[dict]]  # as they were given
    conds: dict[str, list[dict]]  # as they are prepared for the run
    inner_model: BaseModel  # while it samples

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None) -> Tensor:
        """The denoised prediction at one call, guided."""


AS_IT_IS = nullcontext()  # in place of overriding nothing


class overridden:
    """Set attributes of a guider for the length of a block; where one cannot be set, those before it are set back."""

    def __init__(self, guider: Guider, attributes: dict):
        self._guider, self._attributes = guider, attributes

    def __enter__(self) -> None:
        self._before = {name: getattr(self._guider, name) for name in self._attributes}
        try:
            for name, value in self._attributes.items():
                setattr(self._guider, name, value)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *raised: object) -> None:
        for name, value in self._before.items():
            setattr(self._guider, name, value)


@frozen
class Call:
    """The guider's attributes for one call, and the conditions it leaves out.

    skipped: those the guider leaves out by itself under these attributes. without: those to take away from it as well.
    methods: whether the pipeline's methods act; without a positive there is nothing for them to work on.
    """

    attributes: dict[str, float]
    skipped: frozenset[str] = field(default_factory=frozenset)
    without: frozenset[str] = field(default_factory=frozenset)
    methods: bool = True

    @cached_property
    def scale(self) -> float | None:
        """The scale to speak of, of two the first; None where it is the guider's own."""
        return self.attributes.get("cfg", self.attributes.get("cfg1"))

    def on(self, guider: Guider) -> dict:
        """What to set on the guider that is otherwise now, its conditions among it where some are taken away."""
        changed: dict = {name: value for name, value in self.attributes.items() if getattr(guider, name) != value}
        if self.without:
            changed["conds"] = {role: None if role in self.without else parts for role, parts in guider.conds.items()}
        return changed

    @cached_property
    def left_out(self) -> frozenset[str]:
        """The conditions that do not run, whoever leaves them out."""
        return self.skipped | self.without

    @cached_property
    def combines(self) -> bool:
        """Whether two predictions become one."""
        return any(name.startswith("cfg") and value != 1 for name, value in self.attributes.items())

    @cached_property
    def by_methods(self) -> bool:
        """Whether they do so by the pipeline's methods, where there are any."""
        return self.combines and self.methods


Present = frozenset[str]  # the conditions that exist and are active at this noise level


class GuiderKind(ABC):
    """How one kind of guider is driven.

    runs, scaled_by: the qualified names of the predict_noise and the set_cfg by which it is known: ComfyUI loads its
    extra nodes under module names of their own. known: whether it is known what its attributes mean. roles: the order
    in which it hands its conditions to one batch of passes, where a left-out one may take the positive's output.
    hooks: those of other nodes that it runs.
    """

    runs: ClassVar[str] = ""
    scaled_by: ClassVar[str] = ""
    known: ClassVar[bool] = True
    roles: ClassVar[tuple[str, ...]] = ()
    hooks: ClassVar[frozenset[str]] = frozenset(HOOKS) - {"sampler_calc_cond_batch_function"}

    def tames(self, guider: Guider) -> bool:
        """Whether what is added in a post-CFG hook arrives as it is, so that terms may be added among the methods."""
        return True

    @property
    def name(self) -> str:
        """The class that ComfyUI has for it."""
        return self.runs.partition(".")[0]

    def loading(self, pipeline: Pipeline, run: Run) -> dict[str, float]:
        """What to set before the run, by which a guider sees whether its unconditional model is needed at all."""
        between = (a + (b - a) * k / 8 for a, b in pairwise(run.sigmas) for k in range(8))
        return {"cfg": next((scale for scale in map(pipeline.scale_over(run), between) if scale != 1), 1.0)}

    @abstractmethod
    def call(self, guider: Guider, run: PipelineRun, sigma: Tensor, present: Present) -> Call:
        """What to set for a call at this noise level."""

    def predictions(self, guider: Guider, args: dict) -> tuple[Tensor, Tensor]:
        """The conditional and the unconditional prediction, from what a post-CFG hook is given."""
        return args["cond_denoised"], args["uncond_denoised"]

    def note(self, guider: Guider, pipeline: Pipeline) -> str:
        """What its user should know."""
        return ""
