"""UNets, whose attention ComfyUI replaces block by block."""

import comfy.model_patcher
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ....guidance_core.frozen import frozen
from ..digits import ATTENTIONS, DigitsNetwork
from .base import Architecture, Attention, Block


@frozen
class UNet(Architecture):
    """The UNets of Stable Diffusion 1 and 2 and of SDXL."""

    title: str = "UNet (SD 1.5, SDXL)"
    skips: bool = False
    grid: bool = True

    def knows(self, network):
        return isinstance(network, UNetModel)

    def blocks(self, network):
        stacks = [
            ("input", network.input_blocks),
            ("middle", [network.middle_block]),
            ("output", network.output_blocks),
        ]
        return [
            Block(kind, number)
            for kind, stack in stacks
            for number, layers in enumerate(stack)
            if layers is not None and any(isinstance(layer, SpatialTransformer) for layer in layers)
        ]

    def attended(self, options, block, attend):
        def attn1(q: Tensor, k: Tensor, v: Tensor, extra_options: dict, mask: Tensor | None = None) -> Tensor:
            def of(queries: Tensor) -> Tensor:
                heads, precision = extra_options["n_heads"], extra_options["attn_precision"]
                return optimized_attention(
                    queries, k, v, heads, attn_precision=precision, transformer_options=extra_options
                )

            rows, columns = extra_options["activations_shape"][-2:]
            return attend(Attention(q, v, of, image=slice(None), grid=(rows, columns)))

        return comfy.model_patcher.set_model_options_patch_replace(
            dict(options), attn1, "attn1", block.kind, block.number
        )

    def skipped(self, options, block, when):
        return options  # the sizes of its blocks differ: none can be left out


@frozen
class Digits(UNet):
    """The network of the digits demo, which takes the hooks of ComfyUI's UNets."""

    title: str = "the digits demo"

    def knows(self, network):
        return isinstance(network, DigitsNetwork)

    def blocks(self, network):
        return [Block(*block) for block, _ in ATTENTIONS.values()]
