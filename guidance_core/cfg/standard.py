"""Plain classifier-free guidance."""

from dataclasses import dataclass

from .base import Method


@dataclass(frozen=True)
class Standard(Method):
    name = "standard"
    title = "Standard"
    doc = "Classifier-free guidance as it is: uncond + scale * (cond - uncond)."
    source = "Ho & Salimans 2022, arXiv:2207.12598"
    reads_level = False
    plain = True

    def uncond_at_zero(self, strength):
        return True

    def start(self, run):
        return {}
