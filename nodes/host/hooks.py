"""The CFG hooks that nodes of other packs put on a MODEL."""

from collections.abc import Callable

HOOKS = {  # as ComfyUI names them, and as its users know them
    "sampler_cfg_function": "CFG function",
    "sampler_pre_cfg_function": "pre-CFG hook",
    "sampler_post_cfg_function": "post-CFG hook",
    "sampler_calc_cond_batch_function": "function in place of the passes",
}
IN_PLACE_OF_THE_GUIDER = frozenset({"sampler_calc_cond_batch_function"})  # whose passes are the guider's own


def hook_names(model_options: dict, hook: str) -> list[str]:
    """The nodes that set a hook, each named by its class or, failing that, by the function's module."""
    functions = model_options.get(hook) or []
    functions = functions if isinstance(functions, list) else [functions]
    return [owner_of(function) for function in functions]


def owner_of(function: Callable) -> str:
    """The node that set a hook: its class or, failing that, the function's module and name."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    owner = name.partition(".")[0]
    return owner if owner != name else f"{getattr(function, '__module__', '?').rpartition('.')[2]}.{name}"


NAG = "NAGuidance"  # ComfyUI's Normalized Attention Guidance: a patch that acts where both conditions are in a batch
READ_NO_NEGATIVE = frozenset({"PerturbedAttentionGuidance", "SkipLayerGuidanceDiT"})


def only_nag_asks(model_options: dict) -> bool:
    """Whether Normalized Attention Guidance alone is why every pass is asked for (`disable_cfg1_optimization`).

    Whoever else sets that brings a hook, which is told by its name: what is not known may read the negative.
    """
    patches = model_options["transformer_options"].get("patches", {}).get("attn1_output_patch", ())
    others = {name for hook in HOOKS for name in hook_names(model_options, hook)} - READ_NO_NEGATIVE
    return NAG in map(owner_of, patches) and not others
