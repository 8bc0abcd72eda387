"""UNets, whose attention ComfyUI replaces block by block."""

import comfy.model_patcher
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ....guidance_core.frozen import frozen
from ..digits import ATTENTIONS, DigitsNetwork
from .around import with_hooks
from .base import Architecture, Attention, Block


@frozen
class UNet(Architecture):
    """The UNets of Stable Diffusion 1 and 2 and of SDXL."""

    title: str = "UNet (SD 1.5, SDXL)"
    skips: bool = False

    def knows(self, network):
        return isinstance(network, UNetModel)

    def blocks(self, network):
        return [
            Block(kind, number)
            for kind, stack in _stacks(network).items()
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

    def entered(self, options, block, enter):
        def hooks(network, inside):
            spatial = [s for s in _stacks(network)[block.kind][block.number] if isinstance(s, SpatialTransformer)]
            layers = [layer for each in spatial for layer in each.transformer_blocks]
            return [
                layer.register_forward_pre_hook(lambda _, given, n=n: (enter(given[0], inside, n), *given[1:]))
                for n, layer in enumerate(layers)
            ]

        return with_hooks(options, f"guidance_kit_enter_{block}", hooks)


def _stacks(network: UNetModel) -> dict[str, list[nn.Module] | nn.ModuleList]:
    """The blocks of a UNet, by their kind."""
    return {"input": network.input_blocks, "middle": [network.middle_block], "output": network.output_blocks}


@frozen
class Digits(UNet):
    """The network of the digits demo, which takes the hooks of ComfyUI's UNets."""

    title: str = "the digits demo"

    def knows(self, network):
        return isinstance(network, DigitsNetwork)

    def blocks(self, network):
        return [Block(*block) for block, _ in ATTENTIONS.values()]

    def entered(self, options, block, enter):
        place = next(name for name, (of, _) in ATTENTIONS.items() if of == (block.kind, block.number))

        def hooks(network, inside):
            def entering(_, given: tuple) -> tuple:
                tokens = given[0].flatten(2).transpose(1, 2)  # [B, H*W, C]
                tokens = enter(tokens, inside, 0)
                return (tokens.transpose(1, 2).reshape(given[0].shape), *given[1:])

            attention = getattr(network.network, f"{place}_attention")
            return [attention.register_forward_pre_hook(entering)]

        return with_hooks(options, f"guidance_kit_enter_{block}", hooks)
