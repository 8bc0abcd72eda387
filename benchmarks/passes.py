"""What schedules save: the time of runs that leave passes out, against how many they leave out and against peers."""

import itertools
from collections.abc import Iterator
from importlib.util import find_spec

import torch
from comfy.samplers import CFGGuider, sampling_function
from comfy_extras.nodes_custom_sampler import CFGOverride

import guidance_core as gc
from guidance_core import demo
from guidance_core.demo.network import NULL
from guidance_core.parameterizations import X0

from . import host
from .measure import Row, Target, interleaved, ratio

TITLE = "Passes saved"
INTRO = (
    "Scale 6 under schedules, whose effective scale is 1 at some steps, against a constant scale 6. *Time / passes* is "
    "the ratio of the times over the ratio of the passes of the network; it is below 1 where two passes in one batch "
    "take more than twice the time of one. *Time / its steps in core* is the time over that of as many steps of one "
    "pass and of two as ComfyUI's CFGGuider takes for them, at scale 1 and at 6: 1 where a pass left out saves all of "
    "its time and the schedule costs nothing. A run that saves a larger share of the time than of the passes is not "
    "short: the target is one-sided for that. Peers run the same plan with results that are equal."
)
SCALE = 6.0
WINDOW = (0.28, 5.42)  # sigma_lo < sigma <= sigma_hi (arXiv:2404.07724, on EDM2-S)
INTERVAL = {"shape": "interval", "axis": "sigma", "start": WINDOW[1], "end": WINDOW[0]}
PASSES = Target(high=1.03)  # below it is no fault: see INTRO


def entries(quick: bool) -> Iterator[Row | str]:
    """In ComfyUI on the digits and at SD1.5's size, then the library against diffusers' guiders."""
    yield from _digits(rounds=2 if quick else 9, batch=8 if quick else 32)
    yield from _sd15(*(64, 16) if quick else (320, 64), rounds=2 if quick else 3)
    yield from _library(rounds=2 if quick else 9, batch=8 if quick else 32)


def _digits(rounds: int, batch: int) -> Iterator[Row]:
    model, positive, negative = host.digits()
    noise = torch.randn(batch, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    sigmas = host.karras(model, 30)

    def run(of, cfg=SCALE, guider=None):
        return lambda: host.sampled(of, positive, negative, noise, sigmas, cfg, guider)

    full = run(host.combined(model, SCALE))
    window = host.combined(model, SCALE, schedule=INTERVAL)
    plans = {
        "interval (0.28, 5.42] in sigma": window,
        "interval from 20 % to 60 % of the steps": host.combined(
            model, SCALE, schedule={"shape": "interval", "start": 0.2, "end": 0.6}
        ),
        "falling evenly to 1 at half of the steps": host.combined(
            model, SCALE, schedule={"shape": "linear", "reverse": True, "end": 0.5}
        ),
        "adaptive": host.combined(model, SCALE, "adaptive", gamma=0.991),
    }
    for name, planned in plans.items():
        title = f"digits, batch {batch}, 30 karras steps, {name}"
        yield from _saved(title, model, run(planned), full, (run(model, cfg=1.0), run(model)), rounds, batch)
    guided = [WINDOW[0] < sigma <= WINDOW[1] for sigma in sigmas[:-1].tolist()]
    ours = run(window)
    peers = {
        "ComfyUI's CFG Override": run(_overridden(model, sigmas, guided), cfg=1.0),
        "a guider with a list of cfg by step": run(model, guider=_by_step([SCALE if on else 1.0 for on in guided])),
    }
    for name, theirs in peers.items():
        if not torch.equal(ours(), theirs()):
            raise SystemExit(f"{name} gave another result than CFG Combine.")
        mine, others = (host.passes_of(model, run, batch) for run in (ours, theirs))
        a, b = interleaved(ours, theirs, rounds=rounds)
        made = f"{mine:.4g} and {others:.4g} passes; {rounds} rounds"
        yield Row(f"digits, the same interval, ours / {name}", ratio(a, b), "", Target(high=1.05), made, (ours, theirs))


def _sd15(width: int, side: int, rounds: int) -> Iterator[Row]:
    model, positive, negative = host.sd15(width)
    noise = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    sigmas = host.karras(model, 4)

    def run(of, cfg=SCALE):
        return lambda: host.sampled(of, positive, negative, noise, sigmas, cfg)

    window, full = (host.combined(model, SCALE, **plan) for plan in ({"schedule": INTERVAL}, {}))
    core = run(model, cfg=1.0), run(model)
    name = f"SD1.5-sized UNet ({width} channels), {side}x{side}, 4 karras steps, interval (0.28, 5.42]"
    yield from _saved(name, model, run(window), run(full), core, rounds, 1)


def _saved(name, model, ours, full, core, rounds, batch) -> Iterator[Row]:
    """ours: the planned run. full: guided at every step. core: its run of one pass a step, and that of two."""
    mine, all_passes = (host.passes_of(model, run, batch) for run in (ours, full))  # and warm up
    a, b, one, two = interleaved(ours, full, *core, rounds=rounds, warm_up=False)
    share = mine / all_passes
    made = f"{mine:.4g} of {all_passes:g} passes ({share:.3f}), {ratio(a, b).median:.3f} of the time; {rounds} rounds"
    yield Row(f"{name}: time / passes", ratio([x / share for x in a], b), "", PASSES, made, (ours, full))
    guided = 2 * share - 1  # share of the steps, the others being of one pass
    steps = [(1 - guided) * x + guided * y for x, y in zip(one, two, strict=True)]
    made = f"a step of two passes takes {ratio(two, one).median:.3f} times one of one pass"
    yield Row(f"{name}: time / its steps in core", ratio(a, steps), detail=made)


def _overridden(model, sigmas, guided):
    """MODEL with ComfyUI's CFG Override at our scale over the steps that are guided, which follow one another."""
    percent = host.pack("nodes.host.model_facts").percent_on(model.get_model_object("model_sampling"))
    levels = sigmas.tolist()
    first, last = guided.index(True), len(guided) - guided[::-1].index(True) - 1
    start, end = percent((levels[first - 1] + levels[first]) / 2), percent((levels[last] + levels[last + 1]) / 2)
    return CFGOverride.PREPARE_CLASS_CLONE(None).execute(model, SCALE, start, end).result[0]


def _by_step(scales: list[float]) -> type[CFGGuider]:
    """A guider that reads its cfg from a list, as packs with a list of cfg do it."""

    class ByStep(CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            levels = model_options["transformer_options"]["sample_sigmas"]
            cfg = scales[int((levels == timestep[0]).nonzero()[0])]
            negative, positive = self.conds["negative"], self.conds["positive"]
            return sampling_function(
                self.inner_model, x, timestep, negative, positive, cfg, model_options=model_options, seed=seed
            )

    return ByStep


def _library(rounds: int, batch: int) -> Iterator[Row | str]:
    if not find_spec("diffusers"):
        yield "Without diffusers, whose guiders are compared here."
        return
    from diffusers import guiders

    digits = demo.load()
    noise = torch.randn(batch, *digits.shape, generator=torch.Generator().manual_seed(0))
    sigmas = gc.trailing(digits.sigmas, 30)
    conditions = (torch.full((batch,), 7), torch.full((batch,), NULL))
    window = gc.ScaleSchedule("interval", start=6 / 29, end=17 / 29)  # steps 6 to 17 of 30
    network = gc.v_denoiser(digits.network, digits.sigmas)
    for method, guider in (
        ("standard", guiders.ClassifierFreeGuidance(SCALE, start=0.2, stop=0.6)),
        ("cfg_zero_star", guiders.ClassifierFreeZeroStarGuidance(SCALE, zero_init_steps=0, start=0.2, stop=0.6)),
    ):
        guided = gc.cfg_guided(digits.cond(conditions[0]), digits.uncond, SCALE, window, method, output=X0)

        def ours(guided=guided):
            return gc.sample(guided, noise, sigmas)

        def theirs(guider=guider):
            step = itertools.count()

            def denoiser(x, sigma):
                guider.set_state(next(step), len(sigmas) - 1, sigma)
                parts = guider.prepare_inputs({"y": conditions})
                for part in parts:
                    part.noise_pred = network(x, sigma, y=part.y)
                return guider(parts).pred

            return gc.sample(denoiser, noise, sigmas)

        peer = type(guider).__name__
        if not torch.allclose(ours(), theirs(), atol=1e-4):
            raise SystemExit(f"diffusers' {peer} gave another result than cfg_guided.")
        a, b = interleaved(ours, theirs, rounds=rounds)
        made = f"batch {batch}, 30 ddim steps of which 12 are guided; {rounds} rounds"
        name = f"the library alone, digits, {method} / diffusers' {peer}"
        yield Row(name, ratio(a, b), "", Target(high=1.05), made, (ours, theirs))
