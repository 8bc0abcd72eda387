"""Whether a SAMPLER adds fresh noise at its steps, as ancestral and SDE ones do."""

import inspect
from collections.abc import Callable
from functools import lru_cache

from comfy.samplers import KSAMPLER, Sampler

_NEVER = frozenset(("sample_res_multistep", "sample_res_multistep_cfg_pp"))  # take a source of noise and leave it alone


@lru_cache(maxsize=64)
def _takes(function: Callable) -> tuple[frozenset[str], bool]:
    """The parameters of a function, and whether it takes any others by name as well."""
    parameters = inspect.signature(function).parameters
    return frozenset(parameters), any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def adds_noise(sampler: Sampler) -> bool | None:
    """Whether it does, by what its function takes and the options it was given; None where that does not tell."""
    if not isinstance(sampler, KSAMPLER):
        return None
    function, options = sampler.sampler_function, sampler.extra_options
    takes, any_other = _takes(function)
    if options.get("s_churn", 0) > 0 or options.get("eta", 0) > 0:
        return True
    if options.get("eta") == 0 or options.get("s_noise") == 0 or function.__name__ in _NEVER:
        return False
    if "noise_sampler" in takes:
        return True
    return None if any_other else False
