"""Transformers: stacks of blocks that ComfyUI replaces one by one, and one that it only numbers."""

from collections.abc import Callable, Sequence
from dataclasses import field

import comfy.model_patcher
from torch import Tensor, nn

from ....guidance_core.frozen import frozen
from .around import with_hooks
from .base import Architecture, Attend, Attention, Block, Options
from .tokens import Tokens, image_in, tokens_in, with_tokens

OVERRIDE = "optimized_attention_override"
SINGLE = "single"  # of blocks: picture and text go through as one sequence


@frozen
class Transformer(Architecture):
    """A stack of blocks that ComfyUI can replace one by one.

    stacks: the network's lists of blocks, by the kind of block. cross: whether a block attends to its text apart from
    its picture, after it; else both are one sequence, the text first.
    """

    title: str
    network: type[nn.Module]
    stacks: dict[str, str] = field(hash=False)
    cross: bool = False
    video: bool = False

    def knows(self, network):
        return isinstance(network, self.network)

    def blocks(self, network):
        return [
            Block(kind, number) for kind, name in self.stacks.items() for number in range(len(getattr(network, name)))
        ]

    def patch(self, network) -> int | Sequence[int]:
        """How many rows and columns of the latent a token is, behind frames where they are told."""
        return network.patch_size

    def attended(self, options, block, attend):
        def replaced(args: dict, extra: dict) -> dict:
            inside = args["transformer_options"]
            image, grid = image_in(inside, _tokens(args), block.kind == SINGLE), tokens_in(inside).grid
            override = _overriding(attend, image, grid, first=self.cross, before=inside.get(OVERRIDE))
            return extra["original_block"]({**args, "transformer_options": {**inside, OVERRIDE: override}})

        return _with_block(with_tokens(options, self._laid_out), block, replaced)

    def skipped(self, options, block, when):
        def replaced(args: dict, extra: dict) -> dict:
            return args if when(args["transformer_options"]) else extra["original_block"](args)

        return _with_block(options, block, replaced)

    def entered(self, options, block, enter):
        def replaced(args: dict, extra: dict) -> dict:
            inside, tokens = args["transformer_options"], _tokens(args)
            image = image_in(inside, tokens, block.kind == SINGLE)
            changed = tokens.clone()
            changed[:, image] = enter(tokens[:, image], inside, 0)
            sound = args["img"][1:] if isinstance(args["img"], tuple) else None
            return extra["original_block"]({**args, "img": changed if sound is None else (changed, *sound)})

        return _with_block(options, block, replaced)

    def _laid_out(self, network, latent):
        patch = self.patch(network)
        down, across = (patch, patch) if isinstance(patch, int) else patch[-2:]
        return Tokens.of(latent, (down, across))


@frozen
class Ltx(Transformer):
    """LTX-Video, which knows its patches in an object of their own."""

    def patch(self, network):
        return network.patchifier.patch_size


@frozen
class Lumina(Architecture):
    """Lumina 2 and Z-Image, whose blocks ComfyUI numbers but does not replace; the picture comes last."""

    title: str
    network: type[nn.Module]

    def knows(self, network):
        return isinstance(network, self.network)

    def blocks(self, network):
        return [Block("double", number) for number in range(len(network.layers))]

    def attended(self, options, block, attend):
        options = with_tokens(options, self._laid_out)
        inside = options["transformer_options"]
        before = inside.get(OVERRIDE)

        def chosen(run: Callable, *args, **kwargs) -> Tensor:
            under_way = kwargs["transformer_options"]
            if under_way.get("block_index") == block.number:
                tokens = tokens_in(under_way)
                return _overriding(attend, tokens.at_the_end, tokens.grid, False, before)(run, *args, **kwargs)
            return before(run, *args, **kwargs) if before else run(*args, **kwargs)

        return {**options, "transformer_options": {**inside, OVERRIDE: chosen}}

    def skipped(self, options, block, when):
        def hooks(network, inside):
            """The block runs, and what it was given is taken in the place of what it gives."""
            if not when(inside):
                return []
            return [network.layers[block.number].register_forward_hook(lambda layer, given, out: given[0])]

        return with_hooks(options, f"guidance_kit_skip_{block}", hooks)

    def entered(self, options, block, enter):
        def hooks(network, inside):
            def entering(_, given: tuple) -> tuple:
                image, changed = tokens_in(inside).at_the_end, given[0].clone()
                changed[:, image] = enter(given[0][:, image], inside, 0)
                return (changed, *given[1:])

            return [network.layers[block.number].register_forward_pre_hook(entering)]

        return with_hooks(with_tokens(options, self._laid_out), f"guidance_kit_enter_{block}", hooks)

    def _laid_out(self, network, latent):
        return Tokens.of(latent, (network.patch_size, network.patch_size), network.pad_tokens_multiple or 1)


def _tokens(args: dict) -> Tensor:
    """The tokens that a block is given; of picture and sound, the picture's."""
    return args["img"][0] if isinstance(args["img"], tuple) else args["img"]


def _with_block(options: Options, block: Block, replaced: Callable[[dict, dict], dict]) -> Options:
    """model_options with a function in the place of a block; one that was there before gives way."""
    return comfy.model_patcher.set_model_options_patch_replace(
        dict(options), replaced, "dit", f"{block.kind}_block", block.number
    )


def _overriding(attend: Attend, image: slice, grid: tuple[int, int], first: bool, before: Callable | None) -> Callable:
    """What ComfyUI calls in the place of an attention; first: of those of a block, only the first is self-attention."""
    calls = 0

    def override(run: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs) -> Tensor:
        nonlocal calls
        calls += 1

        def of(queries: Tensor) -> Tensor:
            if before is not None:
                return before(run, queries, k, v, heads, *args, **kwargs)
            return run(queries, k, v, heads, *args, **kwargs)

        if first and calls > 1:
            return of(q)
        apart = kwargs.get("skip_reshape", False)
        kept_apart = apart and kwargs.get("skip_output_reshape", False)
        values = v if kept_apart else (v.transpose(1, 2) if apart else v).flatten(2)  # Stable Diffusion 3's are 4-D
        return attend(Attention(q, values, of, image, grid))

    return override
