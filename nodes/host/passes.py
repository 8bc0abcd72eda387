"""The passes of a run, counted where they reach the network and not where they are asked for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from comfy.patcher_extension import WrappersMP

from .hooks import HOOKS, IN_PLACE_OF_THE_GUIDER, owner_of
from .plan import KEY

TOLD = HOOKS.keys() - IN_PLACE_OF_THE_GUIDER
GUIDER, TERMS = "the guider and our methods", "our terms"


class PassCounter:
    """Counts the conditions that reach a network, by whose they are.

    own: those of the guider and of our methods. beside: all others. of_terms: those that our terms run for themselves.
    of_hooks: those that hooks of other nodes run, by the node.
    """

    def __init__(self, batch: int):
        self.own = self.beside = 0
        self._others: dict[str, int] = {}  # beside, by whose they are
        self._whose = GUIDER  # of the call under way
        self._before = (0, 0)  # own and beside, as the call under way began
        self._batch = batch
        self._telling: set[int] = set()  # models whose network runs wrappers of its own, and so tells when it runs
        self._thread, self._lock = threading.local(), threading.Lock()  # ComfyUI may run each condition in a thread

    @property
    def of_terms(self) -> int:
        return self._others.get(TERMS, 0)

    @property
    def of_hooks(self) -> dict[str, int]:
        return {whose: passes for whose, passes in self._others.items() if whose != TERMS}

    @property
    def of_call(self) -> tuple[int, int]:
        """own and beside, of the call under way."""
        own, beside = self._before
        return self.own - own, self.beside - beside

    @property
    def of_guider(self) -> bool:
        """Whether it is the guider or a method that runs now, and no term or hook."""
        return self._whose == GUIDER

    def watch(self, transformer_options: dict) -> None:
        """Count what reaches a model under these options, behind whatever other nodes put before it.

        A step cache (EasyCache, say) sits at the network itself: only beside such a wrapper is it watched as well.
        """
        wrappers = transformer_options.setdefault("wrappers", {})
        watched = any(wrappers.get(WrappersMP.DIFFUSION_MODEL, {}).values())
        wrappers.setdefault(WrappersMP.APPLY_MODEL, {})[KEY] = [self._apply_watched if watched else self._apply_model]
        if watched:
            wrappers[WrappersMP.DIFFUSION_MODEL][KEY] = [self._diffusion_model]

    def begin_call(self) -> None:
        """The guider's own passes come first."""
        self._whose, self._before = GUIDER, (self.own, self.beside)

    @contextmanager
    def by(self, whose: str) -> Iterator[None]:
        """Passes inside the block are those of the GUIDER, of TERMS, or of the named node."""
        before, self._whose = self._whose, whose
        try:
            yield
        finally:
            self._whose = before

    def before_hooks(self, model_options: dict) -> dict:
        """model_options whose hooks of other nodes tell that they run."""
        told = {}
        for hook in TOLD:
            if isinstance(hooks := model_options.get(hook), list):
                told[hook] = [*map(self._as_hook, hooks)]
            elif hooks is not None:
                told[hook] = self._as_hook(hooks)
        return {**model_options, **told} if told else model_options

    def _as_hook(self, function: Callable) -> Callable:
        def told(args):
            with self.by(owner_of(function)):
                return function(args)

        return told

    def _apply_model(self, executor, x, *args, **kwargs):
        out = executor(x, *args, **kwargs)
        self._add(x.shape[0] // self._batch)
        return out

    def _apply_watched(self, executor, x, *args, **kwargs):
        self._thread.reached = False
        out = executor(x, *args, **kwargs)
        model = id(executor.class_obj)
        if self._thread.reached:
            self._telling.add(model)
        if self._thread.reached or model not in self._telling:
            self._add(x.shape[0] // self._batch)
        return out

    def _diffusion_model(self, executor, *args, **kwargs):
        self._thread.reached = True
        return executor(*args, **kwargs)

    def _add(self, passes: int) -> None:
        with self._lock:
            if self._whose == GUIDER:
                self.own += passes
            else:
                self.beside += passes
                self._others[self._whose] = self._others.get(self._whose, 0) + passes
