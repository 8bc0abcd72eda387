"""One run of a term on a MODEL: part by part where the latent holds several things, and what it has done so far."""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

from torch import Tensor

from ...guidance_core.classifier.noisy import NoisyClassifier
from ...guidance_core.run import Run
from ...guidance_core.terms import Guidance, TermEvent
from ..ui.messages import speaking_as
from .packed import Packing, PartRuns
from .plan import PartEvent, TermPart


class TermRun:
    """One run of a term, and what it has seen so far.

    A judge sees the part of the latent that it was made for, one of pictures the first; any other term adds to each.
    """

    def __init__(self, part: TermPart, run: Run, record: Callable[[object], None], packing: Packing):
        self.part, self.additions, self.passes = part, 0, 0
        self.shares: list[float] = []  # at each call that was timed, its time in that of the model's own passes
        self.first: PartEvent | None = None
        self.last: PartEvent | None = None
        self.now: PartEvent | None = None  # of the call under way, or the one just done
        self._record, self._packing = record, packing
        self._parts = PartRuns(replace(run, record=self._seen), packing)
        with speaking_as(part.title, part.node_id):
            self._guided = {place: part.term.start(self._parts.run(place)) for place in self._places()}

    def _places(self) -> list[int]:
        if not self.part.judged:
            return list(range(len(self._packing.shapes)))
        classifier = self.part.term.classifier
        return [self._packing.part_for(classifier.channels) if isinstance(classifier, NoisyClassifier) else 0]

    def begin(self, x: Tensor, sigma: Tensor) -> None:
        """Note a call of the guider, at the whole latent x."""
        self.now = None
        self._parts.begin(x, sigma)

    def __call__(self, denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """denoised with the term added, of the whole latent; denoised itself where it adds nothing."""
        began = perf_counter()
        parts, xs = self._packing.split(denoised), self._packing.split(x)
        added = [self.to_part(i, each, at, sigma) for i, (each, at) in enumerate(zip(parts, xs, strict=True))]
        self.seconds = perf_counter() - began  # what acted has read its gradient, and so waited for it
        if all(after is before for after, before in zip(added, parts, strict=True)):
            return denoised
        return self._packing.joined(added)

    def to_part(self, i: int, denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The same of one part of the latent."""
        guided: Guidance | None = self._guided.get(i)
        if guided is None:
            return denoised
        with speaking_as(self.part.title, self.part.node_id):
            return guided(denoised, x, sigma)

    def _seen(self, event: TermEvent) -> None:
        if self.now is not None and not self.part.judged:
            return  # of another part of the same latent
        self.additions += 1
        self.last = self.now = PartEvent(self.part, event)
        self.first = self.first or self.now
        self._record(self.now)
