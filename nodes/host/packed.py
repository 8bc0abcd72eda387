"""Latents that hold several things in one flat tensor, as picture and sound: each part is guided by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import comfy.utils
from torch import Tensor

from ...guidance_core.cfg import Method, Pipeline, PipelineRun
from ...guidance_core.errors import GuidanceError
from ...guidance_core.params import params_of
from ...guidance_core.run import Run


@dataclass(frozen=True)
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


class PackedPipeline(PipelineRun):
    """One run of a pipeline on each part of a packed latent, with state and reductions of its own.

    A method that takes a mask acts on the first part, the picture, and one with a classifier where that belongs.
    """

    def __init__(self, pipeline: Pipeline, run: Run, packing: Packing):
        super().__init__(pipeline, run)
        self._packing, self._denoisers = packing, {}
        self._whole: tuple[Tensor, Tensor] | None = None  # x and sigma of the call under way
        self._predicted: dict[int, list[Tensor] | None] = {}  # in that call, by what predicts
        self._parts = [self._part(pipeline, run, i) for i in range(len(packing.shapes))]

    def _part(self, pipeline: Pipeline, run: Run, i: int) -> PipelineRun:
        methods = tuple(method for method in pipeline.methods if self._acts_on(method, i))
        record = run.record if i == 0 else lambda event: None  # one scale is told for all
        about = replace(run, record=record, denoiser_of=lambda source: self._part_of(run.denoiser_of, source, i))
        return replace(pipeline, methods=methods).start(about)

    def _acts_on(self, method: Method, i: int) -> bool:
        for name, param in params_of(type(method)).items():
            value = getattr(method, name)
            if param.socket == "mask" and i > 0:
                return False
            if param.socket == "classifier" and value is not None and self._packing.part_for(value.channels) != i:
                return False
        return True

    def _part_of(self, denoiser_of: Callable, source: object, i: int) -> Callable:
        """One part of what a denoiser predicts, which runs once for all of them."""
        if id(source) not in self._denoisers:
            self._denoisers[id(source)] = denoiser_of(source)

        def predict(x: Tensor, sigma: Tensor) -> Tensor | None:
            if id(source) not in self._predicted:
                whole = self._denoisers[id(source)](*self._whole)
                self._predicted[id(source)] = None if whole is None else self._packing.split(whole)
            parts = self._predicted[id(source)]
            return None if parts is None else parts[i]

        return predict

    def begin(self, x: Tensor, sigma: Tensor) -> None:
        """As PipelineRun's, part by part."""
        for each, at in zip(self._parts, self._packing.split(x), strict=True):
            each.begin(at, sigma)

    def scale_at(self, sigma: float | Tensor) -> float:
        """The effective scale; 1 only where no part needs guidance any more."""
        return next((scale for each in self._parts if (scale := each.scale_at(sigma)) != 1), 1.0)

    def combine(self, cond: Tensor, uncond: Tensor | None, x: Tensor, sigma: Tensor, scale: float) -> Tensor:
        """As PipelineRun's, part by part."""
        self._whole, self._predicted = (x, sigma), {}
        conds, xs = self._packing.split(cond), self._packing.split(x)
        unconds = [None] * len(xs) if uncond is None else self._packing.split(uncond)
        of_each = zip(self._parts, conds, unconds, xs, strict=True)
        return self._packing.joined([each.combine(c, u, at, sigma, scale) for each, c, u, at in of_each])
