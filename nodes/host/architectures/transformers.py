"""Transformers: stacks of blocks that ComfyUI replaces one by one, and one that it only numbers."""

from collections.abc import Callable
from dataclasses import field

import comfy.model_patcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ....guidance_core.frozen import frozen
from .base import Architecture, Attend, Attention, Block, Options

OVERRIDE = "optimized_attention_override"


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
    places: bool = True

    def knows(self, network):
        return isinstance(network, self.network)

    def blocks(self, network):
        return [
            Block(kind, number) for kind, name in self.stacks.items() for number in range(len(getattr(network, name)))
        ]

    def attended(self, options, block, attend):
        def replaced(args: dict, extra: dict) -> dict:
            inside, text = args["transformer_options"], args.get("txt")
            image = slice(None) if self.cross else _image(inside, text if block.kind == "double" else None)
            override = _overriding(attend, image, first=self.cross, before=inside.get(OVERRIDE))
            return extra["original_block"]({**args, "transformer_options": {**inside, OVERRIDE: override}})

        return _with_block(options, block, replaced)

    def skipped(self, options, block, when):
        def replaced(args: dict, extra: dict) -> dict:
            return args if when(args["transformer_options"]) else extra["original_block"](args)

        return _with_block(options, block, replaced)


@frozen
class Lumina(Architecture):
    """Lumina 2 and Z-Image, whose blocks ComfyUI numbers but does not replace."""

    title: str
    network: type[nn.Module]
    places: bool = False

    def knows(self, network):
        return isinstance(network, self.network)

    def blocks(self, network):
        return [Block("double", number) for number in range(len(network.layers))]

    def attended(self, options, block, attend):
        inside = options["transformer_options"]
        before = inside.get(OVERRIDE)
        override = _overriding(attend, None, first=False, before=before)

        def chosen(run: Callable, *args, **kwargs) -> Tensor:
            here = kwargs["transformer_options"].get("block_index") == block.number
            if here:
                return override(run, *args, **kwargs)
            return before(run, *args, **kwargs) if before else run(*args, **kwargs)

        return {**options, "transformer_options": {**inside, OVERRIDE: chosen}}

    def skipped(self, options, block, when):
        def around(executor, *args, **kwargs):
            """The block runs, and what it was given is taken in the place of what it gives."""
            if not when(kwargs["transformer_options"]):
                return executor(*args, **kwargs)
            hook = executor.class_obj.layers[block.number].register_forward_hook(lambda layer, given, out: given[0])
            try:
                return executor(*args, **kwargs)
            finally:
                hook.remove()

        inside = options["transformer_options"]
        wrappers = inside.get("wrappers", {})
        of_network = wrappers.get(WrappersMP.DIFFUSION_MODEL, {})
        key = f"guidance_kit_skip_{block.number}"
        wrappers = {**wrappers, WrappersMP.DIFFUSION_MODEL: {**of_network, key: [around]}}
        return {**options, "transformer_options": {**inside, "wrappers": wrappers}}


def _with_block(options: Options, block: Block, replaced: Callable[[dict, dict], dict]) -> Options:
    """model_options with a function in the place of a block; one that was there before gives way."""
    return comfy.model_patcher.set_model_options_patch_replace(
        dict(options), replaced, "dit", f"{block.kind}_block", block.number
    )


def _image(inside: dict, text: Tensor | None) -> slice | None:
    """Which tokens of text and picture in one sequence are of the picture, inside a block."""
    if text is not None:
        return slice(text.shape[1], None)
    return slice(*inside["img_slice"]) if "img_slice" in inside else None


def _overriding(attend: Attend, image: slice | None, first: bool, before: Callable | None) -> Callable:
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
        return attend(Attention(q, values, of, image))

    return override
