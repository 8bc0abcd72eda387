"""Plain classifier-free guidance."""

from ..frozen import frozen
from .base import Method


@frozen
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
