"""The CFG hooks that nodes of other packs put on a MODEL, and which of ComfyUI's guiders run them."""

HOOKS = {  # as ComfyUI names them, and as its users know them
    "sampler_cfg_function": "CFG function",
    "sampler_pre_cfg_function": "pre-CFG hook",
    "sampler_post_cfg_function": "post-CFG hook",
}

RUN_BY = {  # by the qualified name of the guider's predict_noise
    "CFGGuider.predict_noise": frozenset(HOOKS),
    "Guider_DualModel.predict_noise": frozenset(HOOKS) - {"sampler_pre_cfg_function"},
    "Guider_DualCFG.predict_noise": frozenset(HOOKS) - {"sampler_pre_cfg_function"},
    "Guider_PerpNeg.predict_noise": frozenset(HOOKS) - {"sampler_cfg_function"},
}


def hook_names(model_options: dict, hook: str) -> list[str]:
    """The nodes that set a hook, each named by its class or, failing that, by the function's module."""
    functions = model_options.get(hook) or []
    functions = functions if isinstance(functions, list) else [functions]
    return [_owner(function) for function in functions]


def unread_hooks(guider) -> list[str]:
    """A sentence for each hook on the guider's model that this guider does not run."""
    runs = RUN_BY.get(type(guider).predict_noise.__qualname__, frozenset(HOOKS))
    kind = type(guider).__name__
    return [
        f"The {words} of {' and '.join(names)} is not run by this guider ({kind}); ComfyUI's CFG Guider runs it."
        for hook, words in HOOKS.items()
        if hook not in runs and (names := hook_names(guider.model_options, hook))
    ]


def _owner(function) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    owner = name.partition(".")[0]
    return owner if owner != name else f"{getattr(function, '__module__', '?').rpartition('.')[2]}.{name}"
