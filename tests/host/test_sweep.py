"""Guidance Sweep in a real ComfyUI: its cells are the single runs, and its sheet says what they are."""

import numpy as np
import pytest
import torch
from graph import Graph, cfg_combine, classifier_guidance, fresh, read, schedule

import guidance_core as gc
from devtools.server import PromptFailed, PromptInterrupted
from guidance_core import demo
from guidance_core.drawing.contact_sheet import Cell, contact_sheet, in_rows
from guidance_core.params import params_of

STEPS = 6
NOTHING = {"rows": "nothing"}


def across(kind, **values):
    return {"columns": kind, **values}


def down(kind, **values):
    return {"rows": kind, **values}


def schedules(*made):
    return {f"schedules.schedule{i}": each for i, each in enumerate(made)}


class Digits:
    """A graph with the digits, and the inputs that every sampler on them shares."""

    def __init__(self, batch=2):
        self.g = Graph()
        self.model = self.g.GuidanceKitLoadDigitsDemo()
        self.vae, self.classifier = self.model.slot(1), self.model.slot(2)
        self.common = {
            "positive": self.g.GuidanceKitClassCondition(model=self.model, label="three"),
            "negative": self.g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=self.model),
            "latent_image": self.g.EmptyLatentImage(width=128, height=128, batch_size=batch),
            "seed": 11,
            "steps": STEPS,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        }

    def sweep(self, columns, rows=NOTHING, model=None, **changes):
        inputs = {"cfg": 3.0, "target": "seven", "classifier_scale": 2.0, "vae": self.vae}
        inputs |= {"model": model or self.model, "columns": columns, "rows": rows}
        return self.g.GuidanceKitGuidanceSweep(**{**self.common, **inputs, **changes})

    def ksampler(self, model, cfg=1.0):
        return self.g.KSampler(**self.common, model=model, cfg=cfg)

    def all_in_one(self, scale, cfg, model=None, **schedules):
        return self.g.GuidanceKitClassifierGuidanceSampler(
            **self.common,
            **schedules,
            model=model or self.model,
            classifier=self.classifier,
            target="seven",
            classifier_scale=scale,
            cfg=cfg,
            entropy_aware=False,
            max_shift=0.0,
        )

    def read(self, latent):
        return self.g.ProbeRead(latent=latent, nonce=fresh())


def test_cells_are_the_single_runs(server):
    """Scales of both kinds: as KSampler with CFG Combine, and as Classifier Guidance Sampler, bit for bit."""
    on = Digits()
    sweep = on.sweep(
        across("cfg scale", values="1, 4"), down("classifier scale", values="0:2:2"), classifier=on.classifier
    )
    swept = on.read(sweep.slot(2))
    single = [on.all_in_one(scale, cfg) for scale in (0.0, 2.0) for cfg in (1.0, 4.0)]
    single[1] = on.ksampler(cfg_combine(on.g, on.model, 4.0))
    readings = [on.read(each) for each in single]
    decoded = [on.g.PreviewImage(images=on.g.VAEDecode(samples=each, vae=on.vae)) for each in single]
    images = on.g.PreviewImage(images=sweep.slot(1))
    result = server.run(on.g.prompt)
    expected = np.concatenate([read(result, each).latent for each in readings])
    assert len(np.unique(expected.reshape(4, -1), axis=0)) == 4
    assert np.array_equal(read(result, swept).latent, expected)
    pictures = [np.asarray(each) for node in decoded for each in result.images(node.node)]
    assert np.array_equal([np.asarray(each) for each in result.images(images.node)], pictures)
    texts = result.texts[sweep.node]
    assert all(text.startswith("Picture ") for text in texts[:-1])
    assert "Picture 2 of 4: cfg scale 4, classifier scale 0\nCFG: scale 4; 12 of 12 passes." in "\n".join(texts)
    assert texts[-1] == f"4 pictures: {2 * STEPS + 4 * STEPS} of {8 * STEPS} passes run."


def test_schedules_and_methods_are_those_of_the_nodes(server):
    """And the guidance that is on the model stays: a method under a swept scale, a classifier beside it."""
    on = Digits(batch=1)
    g = on.g
    windows = [schedule(g, "interval", "step", start=0.0, end=0.5), schedule(g, "cosine", "step", low=0.0)]
    given = {
        "cfg schedules": on.sweep(across("cfg schedule", **schedules(*windows))),
        "classifier schedules": on.sweep(
            across("classifier schedule", **schedules(*windows)), classifier=on.classifier, cfg=1.0
        ),
        "methods": on.sweep(across("cfg method", methods="standard, rescale, apg")),
    }
    rescaled = cfg_combine(g, on.model, 5.0, "rescale", windows[0], rescale=0.5)
    steered = classifier_guidance(g, rescaled, on.classifier, "-three", 3.0)
    given["on guidance"] = on.sweep(across("cfg scale", values="2, 7"), model=steered)
    defaults = {
        name: {key: param.default for key, param in params_of(gc.cfg_methods()[name]).items()}
        for name in ("rescale", "apg")
    }
    single = {
        "cfg schedules": [on.ksampler(cfg_combine(g, on.model, 3.0, schedule=each)) for each in windows],
        "classifier schedules": [on.all_in_one(2.0, 1.0, classifier_schedule=each) for each in windows],
        "methods": [on.ksampler(on.model, 3.0)]
        + [on.ksampler(cfg_combine(g, on.model, 3.0, name, **defaults[name])) for name in ("rescale", "apg")],
        "on guidance": [on.ksampler(cfg_combine(g, steered, scale, schedule=windows[0])) for scale in (2.0, 7.0)],
    }
    swept = {name: on.read(sweep.slot(2)) for name, sweep in given.items()}
    alone = {name: [on.read(each) for each in latents] for name, latents in single.items()}
    result = server.run(g.prompt)
    for name, node in swept.items():
        expected = np.concatenate([read(result, each).latent for each in alone[name]])
        assert np.array_equal(read(result, node).latent, expected), name
        assert len(np.unique(expected, axis=0)) == len(expected), name


def same(sheet, expected):
    """Whether two sheets are one but for the rounding of their pixels: a letter differs by far more."""
    return sheet.shape == expected.shape and np.abs(sheet.astype(int) - expected.astype(int)).max() <= 2


def pictures_of(result, node):
    return np.stack([np.asarray(each.convert("RGB")) for each in result.images(node.node)])


def verdict(latents, target):
    """What stands under a picture: the mean probability of the target, without weights, in clean latents."""
    d = demo.load()
    sigma = gc.VE.sigma_at(d.classifier.log_snr_range[1]).float()
    log_prob = gc.parse_target(target, d.labels).log_prob(d.classifier(torch.from_numpy(latents.copy()), sigma))
    return f"target {100 * float(log_prob.exp().mean()):.1f} %"


def test_the_sheet_shows_each_picture_with_its_values_probability_and_passes(server):
    """Drawn anew from the pictures and latents that the node gives, the sheet is the same to the pixel."""
    on = Digits(batch=2)
    window = schedule(on.g, "interval", "step", start=0.0, end=0.5)
    grid = on.sweep(
        across("classifier scale", values="0, 3"),
        down("cfg schedule", **schedules(window, schedule(on.g))),
        classifier=on.classifier,
        cfg=2.0,
    )
    row = on.sweep(across("cfg method", methods="standard, apg"), judge=on.classifier, target="(three:5) | (seven:0.1)")
    plain = on.sweep(across("cfg scale", values="4"), denoise=0.0)
    images, latents = (
        [show(sweep.slot(slot)) for sweep in (grid, row, plain)]
        for slot, show in ((1, lambda each: on.g.PreviewImage(images=each)), (2, on.read))
    )
    result = server.run(on.g.prompt)
    images = [pictures_of(result, each).reshape(-1, 2, 128, 128, 3) for each in images]
    latents = [read(result, each).latent.reshape(-1, 2, 1, 16, 16) for each in latents]
    verdicts = [verdict(latents[0][i], "seven") for i in range(4)]
    assert len(set(verdicts)) > 2
    passes = [3 + STEPS, 2 * STEPS]
    cells = [
        [
            Cell(images[0][2 * j + i], f"classifier scale {scale}", (verdicts[2 * j + i], f"{ran} of 12 passes"))
            for i, scale in enumerate((0, 3))
        ]
        for j, ran in enumerate(passes)
    ]
    settings = f"{STEPS} steps, euler, normal, seed 11, cfg scale"
    head = [
        "Sweep: classifier scale across, cfg schedule down",
        "Target: seven, judged by the classifier that guides. Mean of 2 pictures.",
        f"{settings} 2",
    ]
    expected = contact_sheet(head, cells, ["1: schedule interval by step from 0 to 0.5", "2: constant"])
    assert same(pictures_of(result, grid)[0], expected.pixels)

    cells = [
        Cell(images[1][i], name, (verdict(latents[1][i], "three | seven"), "12 of 12 passes"))
        for i, name in enumerate(("standard", "apg"))
    ]
    head = [
        "Sweep: cfg method",
        "Target: (three:5) | (seven:0.1), judged by another classifier. Mean of 2 pictures.",
        f"{settings} 3",
    ]
    assert same(pictures_of(result, row)[0], contact_sheet(head, in_rows(cells)).pixels)

    head = ["Sweep: cfg scale", f"{STEPS} steps, euler, normal, seed 11"]
    expected = contact_sheet(head, [[Cell(images[2][0], "cfg scale 4")]])
    assert same(pictures_of(result, plain)[0], expected.pixels)


def test_long_schedules_are_told_by_their_beginning(server):
    on = Digits(batch=1)
    points = ", ".join(f"{i / 150:.4f}: 1" for i in range(151))
    sweep = on.sweep(
        across("cfg schedule", **schedules(schedule(on.g, "keyframes", "step", points=points, interpolation="linear"))),
        steps=1,
    )
    text = server.run(on.g.prompt).texts[sweep.node][0]
    assert "1: schedule keyframes (points 0.0000: 1, " in text
    assert "...\n" in text and len(text) < 200


def test_large_sheets_are_made_smaller_and_it_is_said(server):
    on = Digits(batch=1)
    on.common["latent_image"] = on.g.EmptyLatentImage(width=1024, height=1024, batch_size=1)
    sweep = on.sweep(across("cfg scale", values="1:6:6"), steps=1, target="")
    images = on.g.PreviewImage(images=sweep.slot(1))
    result = server.run(on.g.prompt)
    (sheet,) = result.images(sweep.node)
    assert max(sheet.size) <= 4096
    assert sheet.size[0] > 3000
    assert [each.size for each in result.images(images.node)] == [(1024, 1024)] * 6
    assert "% of their size" in result.texts[sweep.node][-1]


def test_video_shows_its_first_frame(server):
    g = Graph()
    on = {"positive": g.ProbeCondition(seed=1), "negative": g.ProbeCondition(seed=2), "target": ""}
    on |= {"seed": 7, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    sweep = g.GuidanceKitGuidanceSweep(
        **on,
        model=g.ProbeModel(kind="video", seed=0, nonce=fresh()),
        latent_image=g.ProbeLatent(batch=2, channels=4, frames=3, masked=False),
        vae=g.ProbeVideoVAE(),
        columns=across("cfg scale", values="1, 3, 5"),
        rows=NOTHING,
        classifier_scale=1.0,
    )
    images, latents = g.PreviewImage(images=sweep.slot(1)), g.ProbeRead(latent=sweep.slot(2), nonce=fresh())
    result = server.run(g.prompt)
    swept = read(result, latents).latent
    assert swept.shape == (6, 4, 3, 16, 16)
    gray = 255 * np.clip(swept.mean(1) / 8 + 0.5, 0, 1)
    shown = pictures_of(result, images)
    assert shown.shape == (6, 16, 16, 3)
    assert np.abs(shown[..., 0] - gray[:, 0]).max() <= 1.5
    assert np.abs(shown[..., 0] - gray[:, 1]).max() > 5
    assert len(result.images(sweep.node)) == 1


@pytest.mark.parametrize(
    ("columns", "rows", "more", "sentence"),
    [
        (across("cfg scale", values="1, two"), NOTHING, {}, "cfg scale: 'two' is not a number"),
        (across("cfg scale", values="1, 500"), NOTHING, {}, "cfg scale: scale must be in [-100, 100], got 500"),
        (across("cfg scale", values="1:8:60"), down("cfg method", methods="apg, tcfg"), {}, "are 120 pictures"),
        (across("cfg scale", values="1"), down("cfg scale", values="2"), {}, "both go through 'cfg scale'"),
        (across("classifier scale", values="1"), NOTHING, {}, "classifier scale: connect a classifier"),
        (across("cfg method", methods="apg, agp"), NOTHING, {}, "cfg method: there is no 'agp': choose from standard"),
        (across("cfg method", methods="autoguidance"), NOTHING, {}, "'autoguidance' needs a model at weak"),
        (
            across("cfg scale", values="1, 2"),
            NOTHING,
            {"judge": True, "target": "sevn"},
            "no label 'sevn': did you mean",
        ),
    ],
    ids=[
        "no number",
        "out of range",
        "too many",
        "same twice",
        "no classifier",
        "no method",
        "needs model",
        "no label",
    ],
)
def test_what_cannot_be_swept_is_refused_before_the_first_sample(server, columns, rows, more, sentence):
    on = Digits()
    more = {key: on.classifier if value is True else value for key, value in more.items()}
    sweep = on.sweep(columns, rows, **more)
    seen = []
    with pytest.raises(PromptFailed) as caught:
        server.run(on.g.prompt, watch=lambda kind, data: seen.append((kind, data)))
    assert caught.value.exception_message.startswith("Guidance Sweep: ")
    assert sentence in caught.value.exception_message
    assert not any(kind == "progress" and data["node"] == sweep.node for kind, data in seen)


def test_a_schedule_that_fails_in_a_run_is_refused_before_the_first_sample(server):
    on = Digits()
    never = schedule(on.g, "interval", "percent", start=0.25, end=0.35, preserve_mean=True)
    sweep = on.sweep(across("cfg schedule", **schedules(schedule(on.g), never)))
    seen = []
    with pytest.raises(
        PromptFailed, match="Guidance Sweep: .*preserve_mean needs a schedule whose mean over the run is not 0"
    ):
        server.run(on.g.prompt, watch=lambda kind, data: seen.append((kind, data)))
    assert not any(kind == "progress" and data["node"] == sweep.node for kind, data in seen)


@pytest.mark.parametrize("after", [5, 250])
def test_interrupt_stops_a_sweep_and_the_server_goes_on(server, after):
    """Inside the first cell, and inside a later one; progress counts the steps of all cells."""
    on = Digits(batch=1)
    sweep = on.sweep(across("cfg scale", values=f"1:60:60, {60 + fresh() / 1000:.3f}"), steps=100)
    seen = []

    def stop(kind, data):
        if kind == "progress" and data["node"] == sweep.node:
            seen.append((data["value"], data["max"]))
            if data["value"] > after:
                server.interrupt()

    with pytest.raises(PromptInterrupted):
        server.run(on.g.prompt, watch=stop)
    values = [value for value, _ in seen]
    assert values == sorted(values)
    assert {most for _, most in seen} == {61 * 100}
    assert values[-1] < 61 * 100
    again = Digits(batch=1)
    node = again.read(again.sweep(across("cfg scale", values="1, 2")).slot(2))
    assert np.isfinite(read(server.run(again.g.prompt), node).latent).all()
