"""The passes of a run, counted where they reach the network and not where they are asked for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from comfy.patcher_extension import WrappersMP

from .hooks import HOOKS
from .plan import KEY


class PassCounter:
    """Counts the conditions that reach a network.

    own: those of the guider and of our methods. of_hooks: those that other nodes' hooks run for themselves.
    """

    def __init__(self, batch: int):
        self.own = self.of_hooks = 0
        self.in_hooks = False  # of the call under way: whether the guider's own passes are over
        self._batch = batch
        self._telling: set[int] = set()  # models whose network runs wrappers of its own, and so tells when it runs
        self._thread, self._lock = threading.local(), threading.Lock()  # ComfyUI may run each condition in a thread

    def watch(self, transformer_options: dict) -> None:
        """Count what reaches a model under these options, behind whatever other nodes put before it.

        A step cache (EasyCache, say) sits at the network itself: only beside such a wrapper is it watched as well.
        """
        wrappers = transformer_options.setdefault("wrappers", {})
        wrappers.setdefault(WrappersMP.APPLY_MODEL, {})[KEY] = [self._apply_model]
        if any(wrappers.get(WrappersMP.DIFFUSION_MODEL, {}).values()):
            wrappers[WrappersMP.DIFFUSION_MODEL][KEY] = [self._diffusion_model]

    def begin_call(self) -> None:
        """The guider's own passes come first."""
        self.in_hooks = False

    @contextmanager
    def by_methods(self) -> Iterator[None]:
        """Passes inside the block are our own."""
        before, self.in_hooks = self.in_hooks, False
        try:
            yield
        finally:
            self.in_hooks = before

    def before_hooks(self, model_options: dict) -> dict:
        """model_options that tell when the guider's own passes are over and other nodes' hooks begin."""
        told = {}
        for hook in HOOKS:
            if isinstance(hooks := model_options.get(hook), list):
                told[hook] = [*map(self._as_hook, hooks[:1]), *hooks[1:]]
            elif hooks is not None:
                told[hook] = self._as_hook(hooks)
        return {**model_options, **told}

    def _as_hook(self, function: Callable) -> Callable:
        def told(args):
            self.in_hooks = True
            return function(args)

        return told

    def _apply_model(self, executor, x, *args, **kwargs):
        self._thread.reached = False
        out = executor(x, *args, **kwargs)
        model = id(executor.class_obj)
        if self._thread.reached:
            self._telling.add(model)
        if self._thread.reached or model not in self._telling:
            self._add(len(x) // self._batch)
        return out

    def _diffusion_model(self, executor, *args, **kwargs):
        self._thread.reached = True
        return executor(*args, **kwargs)

    def _add(self, passes: int) -> None:
        with self._lock:
            if self.in_hooks:
                self.of_hooks += passes
            else:
                self.own += passes
