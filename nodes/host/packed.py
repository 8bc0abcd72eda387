"""Latents that hold several things in one flat tensor, as picture and sound: each part is guided by itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, cast

import comfy.utils
from torch import Tensor

from ...guidance_core.cfg import Method, Pipeline, PipelineRun
from ...guidance_core.cfg.pipeline import Add, nothing_added
from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ...guidance_core.params import params_of
from ...guidance_core.run import Run


@frozen
class Packing:
    """The shapes of the parts, batch first; a latent that is one thing has one."""

    shapes: tuple[tuple[int, ...], ...]

    def split(self, latent: Tensor) -> list[Tensor]:
        """The parts of a flat latent [B, 1, N], each [B, C, ...]; of one thing it is the latent itself."""
        return comfy.utils.unpack_latents(latent, self.shapes)

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """The flat latent of the parts."""
        return comfy.utils.pack_latents(parts)[0] if len(self.shapes) > 1 else parts[0]

    def part_for(self, channels: int) -> int:
        """The place of the part with so many channels. Raises GuidanceError where there is none."""
        for i, shape in enumerate(self.shapes):
            if shape[1] == channels:
                return i
        there = " and ".join(f"{shape[1]} channels ({len(shape)}-D)" for shape in self.shapes)
        parts = "the parts of this run's latent have" if len(self.shapes) > 1 else "this run's latent has"
        raise GuidanceError(
            f"the classifier was trained on {channels}-channel latents; {parts} {there}: load a classifier made for "
            f"{'one of them' if len(self.shapes) > 1 else 'these'}."
        )


class PartRuns:
    """A run as each part of a latent sees it: what predicts runs once a call, for all of them."""

    def __init__(self, run: Run, packing: Packing):
        self._run, self._packing = run, packing
        self._whole: tuple[Tensor, Tensor] | None = None  # x and sigma of the call under way
        self._denoisers: dict[int, Callable] = {}  # by what they were made of
        self._predicted: dict[int, list[Tensor] | None] = {}  # in that call, by what predicts

    def run(self, i: int) -> Run:
        """The run of part i; of a latent that is one thing it is the run itself."""
        if len(self._packing.shapes) == 1:
            return self._run
        conditional = self._part_of(self._run.conditional, i)
        return replace(self._run, denoiser_of=lambda source: self._made(source, i), conditional=conditional)

    def begin(self, x: Tensor, sigma: Tensor) -> None:
        """Note a call, at the whole latent x."""
        self._whole, self._predicted = (x, sigma), {}

    def _made(self, source: object, i: int) -> Callable:
        if id(source) not in self._denoisers:
            self._denoisers[id(source)] = self._run.denoiser_of(source)
        return self._part_of(self._denoisers[id(source)], i)

    def _part_of(self, denoiser: Callable, i: int) -> Callable:
        """One part of what a denoiser predicts."""

        def predict(x: Tensor, sigma: Tensor) -> Tensor | None:
            if id(denoiser) not in self._predicted:
                whole = denoiser(*self._whole)
                self._predicted[id(denoiser)] = None if whole is None else self._packing.split(whole)
            parts = self._predicted[id(denoiser)]
            return None if parts is None else parts[i]

        return predict


class PartAdd(Protocol):
    """What terms add to a latent: to the whole of it when it is called, or to one of its parts."""

    def __call__(self, guided: Tensor) -> Tensor:
        """guided with terms added."""

    def to_part(self, i: int) -> Add:
        """What adds to part i."""


class PackedPipeline(PipelineRun):
    """One run of a pipeline on each part of a packed latent, with state and reductions of its own.

    A method that takes a mask acts on the first part, the picture, and one with a classifier where that belongs.
    """

    def __init__(self, pipeline: Pipeline, run: Run, packing: Packing):
        super().__init__(pipeline, run)
        self._packing, self._runs = packing, PartRuns(run, packing)
        self._parts = [self._part(pipeline, i) for i in range(len(packing.shapes))]

    def _part(self, pipeline: Pipeline, i: int) -> PipelineRun:
        methods = tuple(method for method in pipeline.methods if self._acts_on(method, i))
        run = self._runs.run(i)
        about = run if i == 0 else replace(run, record=lambda event: None)  # one scale is told for all
        return replace(pipeline, methods=methods).start(about)

    def _acts_on(self, method: Method, i: int) -> bool:
        for name, param in params_of(type(method)).items():
            value = getattr(method, name)
            if param.socket == "mask" and i > 0:
                return False
            if param.socket == "classifier" and value is not None and self._packing.part_for(value.channels) != i:
                return False
        return True

    def begin(self, x: Tensor, sigma: Tensor) -> None:
        """As PipelineRun's, part by part."""
        for each, at in zip(self._parts, self._packing.split(x), strict=True):
            each.begin(at, sigma)

    def scale_at(self, sigma: float | Tensor) -> float:
        """The effective scale; 1 only where no part needs guidance any more."""
        return next((scale for each in self._parts if (scale := each.scale_at(sigma)) != 1), 1.0)

    def combine(
        self, cond: Tensor, uncond: Tensor | None, x: Tensor, sigma: Tensor, scale: float, add: Add = nothing_added
    ) -> Tensor:
        """As PipelineRun's, part by part."""
        self._runs.begin(x, sigma)
        conds, xs = self._packing.split(cond), self._packing.split(x)
        unconds = [None] * len(xs) if uncond is None else self._packing.split(uncond)
        adds = [add if add is nothing_added else cast(PartAdd, add).to_part(i) for i in range(len(xs))]
        of_each = zip(self._parts, conds, unconds, xs, adds, strict=True)
        return self._packing.joined([each.combine(c, u, at, sigma, scale, add) for each, c, u, at, add in of_each])
