"""CFG-Norm: every place of the guided prediction keeps the size it has in the conditional one, as in Qwen-Image."""

from dataclasses import replace

from ..errors import GuidanceError
from ..frozen import frozen
from ..params import number
from ..tensors import excess
from . import order
from .base import Decision, Method, Phase

CHANNELS = (1,)


@frozen
class CfgNorm(Method):
    name = "cfg_norm"
    title = "CFG-Norm"
    doc = "Turns each place of the picture towards the prompt without making it stronger: even light at high scales."
    source = "Qwen-Image, arXiv:2508.02324 (reference sampler); in the model's own output space"
    rank = order.SIZE_OF_PLACES
    decides = frozenset({Decision.SIZE})
    strength: float = number(1.0, 0.0, 1.0, 0.05, "How far to go; 0 is plain guidance.")

    def start(self, run):
        own = run.parameterization

        def stage(p):
            if p.x.ndim < 4:
                raise GuidanceError(
                    f"cfg_norm needs pictures or video [B, C, ...], got {list(p.x.shape)}: use another method."
                )
            cond, guided = (own.output(denoised, p.x, p.sigma, run.path) for denoised in (p.cond, p.guided))
            difference = own.output_change(p.guided - p.cond, p.x, p.sigma, run.path)
            gain = -self.strength * excess(guided, cond, difference, CHANNELS)  # |cond| / |guided| - 1 at each place
            return replace(p, guided=own.with_output_gained(p.guided, gain, p.x, p.sigma, run.path))

        return {Phase.RESULT: stage}
