"""Prompts in API format, written as calls, and what the probe reads out of a finished run."""

import base64
import itertools
import json
from dataclasses import dataclass

import numpy as np

_fresh = itertools.count(1)


class Output(list):
    """An output of a node, as prompts refer to it: [node id, slot]."""

    @property
    def node(self) -> str:
        return self[0]

    def slot(self, index: int) -> "Output":
        return Output([self[0], index])


class Graph:
    """A prompt under construction: `g.KSampler(model=m, ...)` adds a node and gives its first output.

    A dict value is a dynamic combo: `shape={"shape": "power", "exponent": 3}`.
    """

    def __init__(self):
        self.prompt: dict[str, dict] = {}

    def __getattr__(self, class_type: str):
        def add(**inputs) -> Output:
            node_id = str(len(self.prompt) + 1)
            self.prompt[node_id] = {"class_type": class_type, "inputs": _flat(inputs)}
            return Output([node_id, 0])

        return add


def _flat(inputs: dict) -> dict:
    flat = {}
    for name, value in inputs.items():
        if isinstance(value, dict) and name in value:
            flat |= {name if key == name else f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def fresh() -> int:
    """A number not used before, to keep ComfyUI from reusing a node's cached output."""
    return next(_fresh)


@dataclass(frozen=True)
class Reading:
    """What ProbeRead saw: the latent, the network's calls (timestep, conditions), the classifier's calls (log-SNR)."""

    latent: np.ndarray
    calls: list
    second_calls: list
    classifier_calls: list
    loaded: list  # class names of the networks under ComfyUI's memory management

    @property
    def passes(self) -> int:
        """Conditions run through the network, whether batched into one call or not."""
        return sum(len(conditions) for _, conditions in self.calls)


def read(result, node: Output) -> Reading:
    """The reading of a ProbeRead node."""
    report = json.loads(result.outputs[node.node]["text"][0])
    latent = np.frombuffer(base64.b64decode(report["data"]), dtype=np.float32).reshape(report["shape"])
    return Reading(latent, **{name: report[name] for name in ("calls", "second_calls", "classifier_calls", "loaded")})


def executed(result) -> set[str]:
    """The ids of the nodes that a prompt really ran; ComfyUI kept the outputs of the others."""
    return {data["node"] for kind, data in result.messages if kind == "executing" and data["node"] is not None}


def said(result) -> str:
    """All that nodes have said."""
    return "\n".join(text for texts in result.texts.values() for text in texts)


def emptied(server, outputs: bool, kept: Graph | None = None) -> None:
    """Have ComfyUI unload every model and, where `outputs`, forget what its nodes gave.

    It does so when it is idle or behind the next prompt, which therefore runs here; with the nodes of `kept`, whose
    last one reads, because ComfyUI may forget the nodes that a prompt does not have.
    """
    server._post("/free", {"unload_models": True, "free_memory": outputs})
    for _ in range(2):
        g = Graph()
        g.prompt |= dict(list(kept.prompt.items())[:-1]) if kept else {}
        node = g.ProbeRead(latent=g.ProbeLatents(shape="1,4,2,2", level=0.0, seed=0), nonce=fresh())
        result = server.run(g.prompt)
    assert read(result, node).loaded == []


SCHEDULE_AXES = {"step": {"start": 0.0, "end": 1.0}, "sigma": {"start": 100.0, "end": 0.0}}


def schedule(
    g: Graph, shape="constant", axis="step", curve=None, reverse=False, preserve_mean=False, **values
) -> Output:
    """A Scale Schedule node; values are the shape's and the window's (start, end)."""
    window = {
        "axis": axis,
        **SCHEDULE_AXES.get(axis, {}),
        **{k: values.pop(k) for k in ("start", "end") if k in values},
    }
    extra = {} if curve is None else {"curve": curve}
    return g.GuidanceKitScaleSchedule(
        shape={"shape": shape, "high": 1.0, **values},
        axis=window,
        reverse=reverse,
        preserve_mean=preserve_mean,
        **extra,
    )


def cfg_combine(g: Graph, model, scale, method="standard", schedule=None, **parameters) -> Output:
    """A CFG Combine node."""
    extra = {} if schedule is None else {"schedule": schedule}
    return g.GuidanceKitCFGCombine(model=model, scale=scale, method={"method": method, **parameters}, **extra)


def classifier_guidance(g: Graph, model, classifier, target, scale=2.0, schedule=None, **options) -> Output:
    """A Classifier Guidance node."""
    extra = {} if schedule is None else {"schedule": schedule}
    options = {"entropy_aware": False, "max_shift": 0.0, **options}
    return g.GuidanceKitClassifierGuidance(
        model=model, classifier=classifier, target=target, scale=scale, **options, **extra
    )


WAYS = {  # to weaken, each with the settings that it has beside its blocks
    "smoothed_energy": {"blur": 9999.0},
    "stochastic_blocks": {"share": 0.1, "seed": 0},
    "token_perturbation": {"seed": 0},
    "sliding_windows": {"size": 0.625},
}


def weakened(g: Graph, model, way="perturbed_attention", blocks="", **parameters) -> Output:
    """A Weaken Model node, with the way's own settings where none are given."""
    named = {} if way == "sliding_windows" else {"blocks": blocks}
    return g.GuidanceKitWeakenModel(model=model, way={"way": way, **named, **WAYS.get(way, {}), **parameters})


def self_guidance(g: Graph, model, weak, scale=2.0, schedule=None) -> Output:
    """A Self-Guidance node."""
    extra = {} if schedule is None else {"schedule": schedule}
    return g.GuidanceKitSelfGuidance(model=model, weak=weak, scale=scale, **extra)


def history_guidance(g: Graph, model, term="mg", scale=0.5, schedule=None, **parameters) -> Output:
    """A History Guidance node."""
    extra = {} if schedule is None else {"schedule": schedule}
    return g.GuidanceKitHistoryGuidance(model=model, term={"term": term, "scale": scale, **parameters}, **extra)


def vary_condition(g: Graph, model, variety="cads", scale=0.5, schedule=None, variation=0, **parameters) -> Output:
    """A Vary Condition node."""
    extra = {} if schedule is None else {"schedule": schedule}
    values = {"variety": variety, "variation": variation, "scale": scale, **parameters}
    return g.GuidanceKitVaryCondition(model=model, variety=values, **extra)


def ksampler(
    g: Graph,
    model,
    cfg=1.0,
    steps=6,
    sampler="euler",
    scheduler="normal",
    latent=None,
    positive=None,
    negative=None,
    seed=7,
) -> Output:
    """A KSampler, on the probe's conditions and its latent where none are given."""
    return g.KSampler(
        model=model,
        seed=seed,
        steps=steps,
        cfg=cfg,
        sampler_name=sampler,
        scheduler=scheduler,
        denoise=1.0,
        positive=positive or g.ProbeCondition(seed=1),
        negative=negative or g.ProbeCondition(seed=2),
        latent_image=latent or g.ProbeLatent(batch=1, channels=4, frames=0, masked=False),
    )


GUIDERS = ("cfg", "basic", "perp_neg", "dual_model", "dual_regular", "dual_nested")


def custom_sampler(
    g: Graph,
    model,
    guider: str,
    cfg: float,
    steps=6,
    sampler="euler",
    second=None,
    negative=None,
    positive=None,
    latent=None,
) -> Output:
    """SamplerCustomAdvanced under one of ComfyUI's guiders, on the probe's conditions."""
    positive = positive or g.ProbeCondition(seed=1)
    negative = negative or g.ProbeCondition(seed=2)
    third = g.ProbeCondition(seed=3)
    if guider == "cfg":
        made = g.CFGGuider(model=model, positive=positive, negative=negative, cfg=cfg)
    elif guider == "basic":
        made = g.BasicGuider(model=model, conditioning=positive)
    elif guider == "perp_neg":
        made = g.PerpNegGuider(
            model=model, positive=positive, negative=negative, empty_conditioning=third, cfg=cfg, neg_scale=0.8
        )
    elif guider == "dual_model":
        made = g.DualModelGuider(model=model, model_negative=second, positive=positive, negative=negative, cfg=cfg)
    else:
        made = g.DualCFGGuider(
            model=model,
            cond1=positive,
            cond2=third,
            negative=negative,
            cfg_conds=cfg,
            cfg_cond2_negative=cfg - 1.5,
            style=guider.removeprefix("dual_"),
        )
    return g.SamplerCustomAdvanced(
        noise=g.RandomNoise(noise_seed=7),
        guider=made,
        sampler=g.KSamplerSelect(sampler_name=sampler),
        sigmas=g.BasicScheduler(model=model, scheduler="normal", steps=steps, denoise=1.0),
        latent_image=latent or g.ProbeLatent(batch=1, channels=4, frames=0, masked=False),
    )


def all_in_one(g, m, c, cfg=3.0) -> Output:
    """A Classifier Guidance Sampler on the probe's conditions."""
    return g.GuidanceKitClassifierGuidanceSampler(
        model=m,
        classifier=c,
        positive=g.ProbeCondition(seed=1),
        negative=g.ProbeCondition(seed=2),
        latent_image=g.ProbeLatent(batch=1, channels=4, frames=0, masked=False),
        target="cat, -dog",
        classifier_scale=5.0,
        seed=7,
        steps=6,
        cfg=cfg,
        sampler_name="dpmpp_2m",
        scheduler="normal",
        denoise=1.0,
        entropy_aware=True,
        max_shift=0.5,
    )


def stacked(g: Graph, model, classifier) -> Output:
    """The model under CFG by a method with a memory, under a schedule, and under a classifier behind it."""
    window = schedule(g, "linear", start=0.0, end=1.0, low=0.3)
    patched = cfg_combine(g, model, 5.0, "apg", window, eta=0.3, norm_threshold=5.0, momentum=-0.5)
    return classifier_guidance(g, patched, classifier, "cat, -dog", 5.0)


SIZE = 128  # pixels of a digit


def guided_digits(g: Graph, digits, negative, positive=None, classifier=None, count=1, **changes) -> Output:
    """A Classifier Guidance Sampler on the digits demo, which steers to seven; changes: of its widgets."""
    settings = {"target": "seven", "classifier_scale": 1.0, "seed": 0, "steps": 2, "cfg": 1.0, "sampler_name": "euler"}
    settings |= {"scheduler": "normal", "denoise": 1.0, "entropy_aware": False, "max_shift": 0.0}
    return g.GuidanceKitClassifierGuidanceSampler(
        model=digits,
        classifier=classifier or digits.slot(2),
        positive=positive or negative,
        negative=negative,
        latent_image=g.EmptyLatentImage(width=SIZE, height=SIZE, batch_size=count),
        **settings | changes,
    )


TRAINING = {
    "size": "small",
    "steps": 60,
    "batch": 32,
    "learning_rate": 0.003,
    "hold_out": 0.25,
    "patience": 0,
    "balance": True,
    "seed": 0,
    "evaluate_every": 20,
    "checkpoint_every": 500,
    "weight_decay": 0.05,
    "entropy_penalty": 0.0,
    "label_smoothing": 0.0,
    "ema": 0.99,
    "precision": "auto",
    "flip": False,
    "shift": False,
    "crop": False,
    "share": 0.05,
    "log_snr_low": -6.0,
    "log_snr_high": 6.0,
}


def folder(g, digits, name="digits demo", label="", **more) -> Output:
    """A Labelled Folder node, on the digits' own pictures unless named otherwise."""
    return g.GuidanceKitLabelledFolder(folder=name, vae=digits.slot(1), label=label, width=SIZE, height=SIZE, **more)


def train(g, model, examples, name, **changes) -> Output:
    """A Train Noisy Classifier node."""
    return g.GuidanceKitTrainNoisyClassifier(model=model, examples=examples, name=name, **TRAINING | changes)


def checkpoint(server) -> str:
    """The name of a small random SD3 among the server's models/diffusion_models, for ComfyUI's own loader."""
    g = Graph()
    g.ProbeCheckpoint(name="small_sd3.safetensors", nonce=fresh())
    server.run(g.prompt)
    return "small_sd3.safetensors"


def progress(messages, node: Output, count: int) -> list[int]:
    """What a node's progress bar of so many steps has shown."""
    shown = [data["nodes"].get(node.node) for kind, data in messages if kind == "progress_state"]
    return [int(each["value"]) for each in shown if each and each["max"] == count]
