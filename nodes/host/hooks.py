"""The CFG hooks that nodes of other packs put on a MODEL."""

HOOKS = {  # as ComfyUI names them, and as its users know them
    "sampler_cfg_function": "CFG function",
    "sampler_pre_cfg_function": "pre-CFG hook",
    "sampler_post_cfg_function": "post-CFG hook",
}


def hook_names(model_options: dict, hook: str) -> list[str]:
    """The nodes that set a hook, each named by its class or, failing that, by the function's module."""
    functions = model_options.get(hook) or []
    functions = functions if isinstance(functions, list) else [functions]
    return [_owner(function) for function in functions]


def _owner(function) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    owner = name.partition(".")[0]
    return owner if owner != name else f"{getattr(function, '__module__', '?').rpartition('.')[2]}.{name}"
