"""One run of a variety on a MODEL: which tensors of a condition are its prompt, and what it makes of them at a call."""

from collections.abc import Iterator

import comfy.utils
import torch
from torch import Tensor

from ...guidance_core.errors import GuidanceError
from ...guidance_core.run import Run
from ...guidance_core.variety.base import PLACES
from ..ui.messages import speaking_as
from .plan import VarietyPart

ROLES = ("positive", "middle")  # conditions of guiders that say what is wanted
WHOLE = {  # what a model makes of a prompt, as ComfyUI names it, and as its users know it
    "c_crossattn": "prompt tokens",
    "clip_text": "prompt tokens",
    "encoder_hidden_states_llama3": "prompt tokens",
    "txt_byt5": "prompt tokens",
    "lyric_embed": "lyrics",
    "clip_text_pooled": "pooled prompt",
}
LEADING = ("y", "pooled prompt")  # in which sizes or the like may follow the pooled prompt


class VarietyRun:
    """One run of a variety, and what it has done so far."""

    def __init__(self, part: VarietyPart, run: Run):
        self.part = part
        self.calls = 0  # at which it changed something
        self.varied: list[str] = []  # in words
        with speaking_as(part.title):
            self._vary = part.variety.start(run)

    def __call__(self, conds: dict[str, list[dict]], x: Tensor, sigma: Tensor) -> dict[str, list[dict]]:
        """The conditions of a guider for a call at x and sigma [B]. Raises GuidanceError where there is no prompt."""
        with speaking_as(self.part.title):
            roles = [role for role in ROLES if conds.get(role)]
            if not any(_prompts(part) for role in roles for part in conds[role]):
                raise GuidanceError(
                    "the positive condition holds no prompt that could be varied: connect one that has text or a "
                    "class, or remove this node."
                )
            changed = {role: [self._part(each, i, x, sigma) for i, each in enumerate(conds[role])] for role in roles}
        self.calls += any(new is not old for role in roles for new, old in zip(changed[role], conds[role], strict=True))
        return {**conds, **changed}

    def _part(self, part: dict, number: int, x: Tensor, sigma: Tensor) -> dict:
        varied = {}
        for i, (name, words, width) in enumerate(_prompts(part)):
            held = part["model_conds"][name]
            each = comfy.utils.repeat_to_batch_size(held.cond, len(x))
            prompt = each[..., :width]
            new = self._vary(prompt, sigma, (number * len(WHOLE) + i) % PLACES)
            if new is not prompt:
                varied[name] = type(held)(torch.cat([new, each[..., width:]], -1))
                self.varied += [words] if words not in self.varied else []
        return {**part, "model_conds": {**part["model_conds"], **varied}} if varied else part


def _prompts(part: dict) -> list[tuple[str, str, int]]:
    """(name among a condition's tensors, in words, how many of its last axis are the prompt)."""
    return list(_found(part.get("model_conds", {}), part.get("pooled_output")))


def _found(tensors: dict, pooled: Tensor | None) -> Iterator[tuple[str, str, int]]:
    for name, words in WHOLE.items():
        if name in tensors and tensors[name].cond.is_floating_point():
            yield name, words, tensors[name].cond.shape[-1]
    name, words = LEADING
    if name in tensors and pooled is not None and _leads(pooled, tensors[name].cond):
        yield name, words, pooled.shape[-1]


def _leads(pooled: Tensor, vector: Tensor) -> bool:
    """Whether a vector [B, D] begins with the pooled prompt [B or 1, d]."""
    begins = vector[..., : pooled.shape[-1]]
    return begins.shape == pooled.shape and torch.allclose(begins.cpu().float(), pooled.cpu().float(), atol=1e-2)
