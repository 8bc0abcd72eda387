"""The conditions of a guider: which of their parts act at a noise level, and how many passes they are."""

import comfy.samplers
import torch
from comfy.context_windows import IndexListContextWindow
from torch import Tensor

TIMED = frozenset({"timestep_start", "timestep_end"})  # what a part has that acts in a part of the run only


def active_parts(parts: list[dict] | None, sigma: Tensor) -> list[dict]:
    """The parts of a condition that act at this noise level (ConditioningSetTimestepRange and its kin)."""
    return [part for part in parts or () if _acts(part, sigma)]


def _acts(part: dict, sigma: Tensor) -> bool:
    if "timestep_end" in part and sigma[0] < part["timestep_end"]:
        return False
    return not ("timestep_start" in part and sigma[0] > part["timestep_start"])


def always_act(conds: dict[str, list[dict]]) -> bool:
    """Whether conditions are the same passes at every call: one part each at most, and none for a part of the run."""
    return all(len(parts or ()) < 2 and all(TIMED.isdisjoint(part) for part in parts or ()) for parts in conds.values())


def passes_of(active: list[dict], x: Tensor, sigma: Tensor) -> int:
    """How many passes a condition is: its parts that act, less default ones of which nothing is seen."""
    if len(active) == 1 or not (defaults := [part for part in active if "default" in part]):
        return len(active)
    others = [part for part in active if "default" not in part]
    return len(others) + (0 if _covered(others, x, sigma) else len(defaults))


def _covered(parts: list[dict], x: Tensor, sigma: Tensor) -> bool:
    """Whether the areas and masks of parts leave nothing of x free."""
    free = torch.ones_like(x)
    for part in parts:
        placed = comfy.samplers.get_area_and_mult(part, x, sigma)
        if placed is None:
            continue
        at, sides = free, len(placed.area or ()) // 2
        for i in range(sides):
            at = at.narrow(i + 2, placed.area[sides + i], placed.area[i])
        at -= placed.mult
    return not bool((free > 0).any())


def window_of(model_options: dict) -> object:
    """What tells one context window from another, at the same noise level; None without windows."""
    window = model_options["transformer_options"].get("context_window")
    return tuple(window.index_list) if isinstance(window, IndexListContextWindow) else window
