"""The noise levels that a sampler node will visit, before it runs: as far as the graph tells them.

They are those of the model that the sampler last ran, or of Stable Diffusion where it has not run yet.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import EPS, ModelSamplingDiscrete

from ...guidance_core.errors import GuidanceError
from ...guidance_core.frozen import frozen
from ...guidance_core.params import Checked, integer, number, text
from ...guidance_core.paths import VE, NoisePath
from ...guidance_core.run import Run, percent_of_training
from ..ui.curve import STABLE_DIFFUSION
from .model_facts import path_on, percent_on
from .running import running_node, running_workflow

MOST_STEPS = 10000
KEPT = 64  # sampler nodes

Key = tuple[str, str]  # workflow, node


@frozen(eq=False)
class Sampled:
    """What a sampler node ran: its model's noise levels, as ComfyUI has them, and those that it visited."""

    sampling: object
    sigmas: tuple[float, ...] = ()


_sampled: OrderedDict[Key, Sampled] = OrderedDict()


def remember(model: ModelPatcher, sigmas: torch.Tensor) -> None:
    """Note that the node which is being executed samples this MODEL."""
    node = running_node()
    if node is None:
        return
    key = (running_workflow(), node)
    _sampled.pop(key, None)
    _sampled[key] = Sampled(model.get_model_object("model_sampling"), tuple(sigmas.tolist()))
    while len(_sampled) > KEPT:
        _sampled.popitem(last=False)


@frozen
class Asked(Checked):
    """What the graph tells of a run: the values of a sampler's widgets, by their names.

    scheduler: empty where a node that has none makes the noise levels. workflow, node: whose the sampler is.
    """

    steps: int = integer(20, 1, MOST_STEPS, "Denoising steps.")
    scheduler: str = text("", "How the noise levels are spaced.")
    sampler_name: str = text("", "How each step is taken.")
    denoise: float = number(1.0, 0.0, 1.0, 0.01, "Below 1 the latent image is kept in part.")
    start_at_step: int = integer(0, 0, MOST_STEPS, "The first step that is taken.")
    end_at_step: int = integer(MOST_STEPS, 0, MOST_STEPS, "The step before which it ends.")
    workflow: str = text("", "The id of the workflow.")
    node: str = text("", "The id of the sampler.")

    def run(self) -> tuple[Run, str]:
        """The run to come, and on whose noise levels it is where they are not its own.

        Raises GuidanceError for a run without a step.
        """
        seen = _sampled.get((self.workflow, self.node))
        if seen is None:
            model, note = _stable_diffusion(), STABLE_DIFFUSION
        else:
            model, note = _model_of(seen.sampling), "" if self.scheduler else "on noise levels like the last run's"
        if seen is not None and not self.scheduler and len(seen.sigmas) == self.steps + 1:
            return Run(model.path, seen.sigmas, percent=model.percent), "on the last run's noise levels"
        return Run(model.path, self._sigmas(model.sampling), percent=model.percent), note

    def _sigmas(self, sampling: object) -> tuple[float, ...]:
        """As ComfyUI's KSampler and KSampler (Advanced) have them."""
        shorter = self.sampler_name in comfy.samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS
        steps = int(self.steps)
        if self.denoise <= 0.9999:
            steps = int(steps / self.denoise) if self.denoise * MOST_STEPS >= steps else 0
        sigmas = _spaced(sampling, self.scheduler, steps + shorter) if steps else ()
        if shorter:
            sigmas = sigmas[:-2] + sigmas[-1:]
        if self.denoise <= 0.9999:
            sigmas = sigmas[-(int(self.steps) + 1) :]
        sigmas = sigmas[int(self.start_at_step) : int(self.end_at_step) + 1]
        if len(sigmas) < 2:
            raise GuidanceError("the sampler takes no step with its denoise, first and last step as they are.")
        return sigmas


@frozen(eq=False)
class _Model:
    """The noise levels of a model: ComfyUI's object for them, path and timestep percent."""

    sampling: object
    path: NoisePath
    percent: Callable[[float], float]


@lru_cache(maxsize=8)
def _model_of(sampling: object) -> _Model:
    """A copy apart from the model's own, which may be moved between devices while this one is read."""
    try:
        apart = copy.deepcopy(sampling).cpu()
    except (AttributeError, RuntimeError, TypeError) as error:
        raise GuidanceError(f"the noise levels of the sampler's model cannot be read ({error}).") from error
    return _Model(apart, path_on(apart) or VE, lru_cache(maxsize=4096)(percent_on(apart)))


@lru_cache(maxsize=1)
def _stable_diffusion() -> _Model:
    sampling = type("StableDiffusion", (ModelSamplingDiscrete, EPS), {})()
    return _Model(sampling, VE, lru_cache(maxsize=4096)(percent_of_training(sampling.sigmas)))


@lru_cache(maxsize=16)
def _spaced(sampling: object, scheduler: str, steps: int) -> tuple[float, ...]:
    """The sigmas of a scheduler, which may be another pack's; of ComfyUI's first one where its name is not known."""
    known = scheduler if scheduler in comfy.samplers.SCHEDULER_HANDLERS else comfy.samplers.KSampler.SCHEDULERS[0]
    try:
        sigmas = comfy.samplers.calculate_sigmas(sampling, known, steps).tolist()
    except Exception as error:  # of whatever kind that pack raises
        raise GuidanceError(f"the scheduler '{known}' makes no {steps} steps ({error}).") from error
    return tuple(sigmas)
