"""What a weakened model predicts, beside the same from module hooks: as its authors or diffusers compute it."""

import json
import math

import comfy.samplers
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from .pack import kit

SIGMA = 0.7
INFINITE = 1e9  # where diffusers' blur begins to be its mean or, as it is written there, the other way round


def predicted(model: ModelPatcher, x: torch.Tensor, **about) -> torch.Tensor:
    """What a MODEL predicts of x under a condition of noise that holds `about` too, with the options that are on it."""
    comfy.model_management.load_models_gpu([model])
    draw = torch.Generator().manual_seed(4)
    tokens, pooled = torch.randn(1, 7, 16, generator=draw), torch.randn(1, 8, generator=draw)
    conds = comfy.sampler_helpers.convert_cond([[tokens, {"pooled_output": pooled, **about}]])
    made = comfy.samplers.process_conds(model.model, x, {"positive": conds}, x.device)["positive"]
    options = comfy.model_patcher.create_model_options_clone(model.model_options)
    model.pre_run()
    try:
        with torch.no_grad():
            return comfy.samplers.calc_cond_batch(model.model, [made], x, torch.full((len(x),), SIGMA), options)[0]
    finally:
        model.cleanup()


def transformer_blocks(network) -> list:
    """The transformer blocks in the middle of a UNet."""
    spatial = [layer for layer in network.middle_block if isinstance(layer, SpatialTransformer)]
    return [block for each in spatial for block in each.transformer_blocks]


def blurred(model, way, x):
    """Smoothed energy as diffusers has it: what to_q gives is blurred."""
    from diffusers.hooks import smoothed_energy_guidance_utils as seg  # slow to load, and needs Python 3.11

    kernel = math.ceil(6 * way.blur) + 1 - math.ceil(6 * way.blur) % 2
    threshold = INFINITE if way.blur == 9999 else 0

    def smooth(_, given, out):
        return seg._gaussian_blur_2d(out, kernel, way.blur, threshold)

    blocks = transformer_blocks(model.model.diffusion_model)
    handles = [block.attn1.to_q.register_forward_hook(smooth) for block in blocks]
    return run_and_removed(model, x, handles)


def shuffled(model, way, x):
    """Token perturbation as its authors have it: the first thing that a transformer block does is to shuffle."""
    draws = kit("nodes.host.weaken.draws")
    layer_count = kit("nodes.host.weaken.token_perturbation").LAYERS
    handles, inside = [], {"sigmas": torch.tensor([SIGMA])}

    def entering(place):
        def enter(_, given, named):
            tokens = named["img"] if "img" in named else given[0]
            order = torch.randperm(tokens.shape[1], generator=draws.drawn_at(inside, way.seed, 1 + place))
            return (
                ((), named | {"img": tokens[:, order]}) if "img" in named else ((tokens[:, order], *given[1:]), named)
            )

        return enter

    network = model.model.diffusion_model
    if hasattr(network, "middle_block"):
        layers = {place: block for place, block in enumerate(transformer_blocks(network))}
    else:
        layers = {place * layer_count: block for place, block in enumerate(network.double_blocks)}
    for place, layer in layers.items():
        handles.append(layer.register_forward_pre_hook(entering(place), with_kwargs=True))
    return run_and_removed(model, x, handles)


def windowed(model, way, x):
    """Sliding windows as the paper describes them: crops in turn, their sum over how often each place was seen."""
    total, seen = torch.zeros_like(x), torch.zeros_like(x)
    length = round(way.size * x.shape[-1])
    for top in (0, x.shape[-2] - length):
        for left in (0, x.shape[-1] - length):
            place = (..., slice(top, top + length), slice(left, left + length))
            total[place] += predicted(model, x[place])
            seen[place] += 1
    return total / seen


def hooks_on(model) -> int:
    """How many hooks are on the modules of a MODEL's network."""
    modules = [*model.model.diffusion_model.modules()]
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in modules)


def run_and_removed(model, x, handles):
    try:
        return predicted(model, x)
    finally:
        for handle in handles:
            handle.remove()


REFERENCES = {"smoothed_energy": blurred, "token_perturbation": shuffled, "sliding_windows": windowed}


class ProbeWeakened(io.ComfyNode):
    """How far what a weakened MODEL predicts is from the reference, and from the MODEL as it is."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeWeakened",
            is_output_node=True,
            not_idempotent=True,
            inputs=[
                io.Model.Input("model"),
                io.Model.Input("weak"),
                io.String.Input("shape"),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, model, weak, shape, nonce):
        (way,) = weak.model_options[kit("nodes.host.weaken").WEAKENED].ways
        x = torch.randn([*map(int, shape.split(","))], generator=torch.Generator().manual_seed(9))
        if hasattr(model.model.diffusion_model, "middle_block"):
            for block in transformer_blocks(model.model.diffusion_model):
                block.norm1.weight.fill_(
                    1
                )  # so that a place of the picture attends to some others, and not to all alike
                block.attn1.to_q.weight.mul_(5)
        before = hooks_on(model)
        ours, plain = predicted(weak, x), predicted(model, x)
        left = hooks_on(model) - before
        apart = ours - REFERENCES[way.name](model, way, x)
        report = {"apart": float(apart.abs().max()), "moved": float((ours - plain).abs().max()), "left": left}
        return io.NodeOutput(ui={"text": [json.dumps(report)]})


class ProbeTokens(io.ComfyNode):
    """Which tokens the first attention of a transformer's first block is said to hold of the picture, and which change.

    told: their numbers, as they are told; changed: those whose queries change with the latent; one: the token that
    changes most with the latent's second to last row and last column alone; grid: rows and columns; counts: how many
    each self-attention of the block is said to hold. references: pictures to edit beside the latent.
    """

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeTokens",
            is_output_node=True,
            not_idempotent=True,
            inputs=[
                io.Model.Input("model"),
                io.String.Input("shape"),
                io.Int.Input("references"),
                io.Int.Input("nonce", default=0),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, model, shape, references, nonce):
        kind = kit("nodes.host.architectures.known").architecture_of(model.model.diffusion_model)
        seen = []

        def attend(attention):
            seen.append(attention)
            return attention.of(attention.q)

        watched = model.clone()
        watched.model_options = kind.attended(
            watched.model_options, kind.blocks(model.model.diffusion_model)[0], attend
        )
        x = torch.randn([*map(int, shape.split(","))], generator=torch.Generator().manual_seed(9))
        about = {"reference_latents": [x[:1, ..., :6, :6]] * references} if references else {}
        one = x.clone()
        one[..., -2, -1] += 5
        queries = []
        for each in (x, x + torch.randn(x.shape, generator=torch.Generator().manual_seed(8)), one):
            seen.clear()
            predicted(watched, each, **about)
            queries.append(seen[0].q.float())
        size = [(q - queries[0]).abs().amax((0, *range(1, q.ndim - 2), -1)) for q in queries]
        count = queries[0].shape[-2]
        report = {
            "told": [*range(count)][seen[0].image],
            "changed": (size[1] > 1e-6).nonzero().flatten().tolist(),
            "one": int(size[2].argmax()),
            "grid": seen[0].grid,
            "counts": [len(range(each.q.shape[-2])[each.image]) for each in seen],
        }
        return io.NodeOutput(ui={"text": [json.dumps(report)]})
