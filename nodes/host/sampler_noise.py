"""Whether a SAMPLER adds fresh noise at its steps, as ancestral and SDE ones do."""

import inspect
from functools import lru_cache

from comfy.samplers import KSAMPLER, Sampler

_NEVER = frozenset(("sample_res_multistep", "sample_res_multistep_cfg_pp"))  # take a source of noise and leave it alone


_signature = lru_cache(maxsize=64)(inspect.signature)


def adds_noise(sampler: Sampler) -> bool | None:
    """Whether it does, by what its function takes and the options it was given; None where that does not tell."""
    if not isinstance(sampler, KSAMPLER):
        return None
    function, options = sampler.sampler_function, sampler.extra_options
    takes = _signature(function).parameters
    if options.get("s_churn", 0) > 0 or options.get("eta", 0) > 0:
        return True
    if options.get("eta") == 0 or options.get("s_noise") == 0 or function.__name__ in _NEVER:
        return False
    if "noise_sampler" in takes:
        return True
    passes_on = any(str(each).startswith("**") for each in takes.values())
    return None if passes_on else False
