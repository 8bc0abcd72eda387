"""The bundled digits in a real ComfyUI: conditions, sampling, decoding, and the numbers of the library's own run."""

import os

import numpy as np
import pytest
import torch
from graph import Graph, cfg_combine, fresh, guided_digits, ksampler, read, schedule

import guidance_core as gc
from guidance_core import demo
from guidance_core.null import NullCondition


def sampler(g, digits, target, scale, batch=10, positive=None, **changes):
    null = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=digits)
    settings = {"target": target, "classifier_scale": scale, "seed": 3, "steps": 12}
    return guided_digits(g, digits, null, positive, count=batch, **settings | changes)


def test_host_and_library_give_the_same_digits(server):
    """The same noise and noise levels through ComfyUI's euler and through guidance_core's: the same latents."""
    g = Graph()
    node = g.ProbeRead(
        latent=sampler(g, g.GuidanceKitLoadDigitsDemo(), "zero | one | two", 2.0, batch=3), nonce=fresh()
    )
    latent = read(server.run(g.prompt), node).latent

    d = demo.load()
    levels = d.sigmas.float().log()
    timesteps = torch.linspace(999, 0, 12)
    low = timesteps.floor().long()
    high = timesteps.ceil().long()
    share = timesteps.frac()
    sigmas = torch.cat([((1 - share) * levels[low] + share * levels[high]).exp(), torch.zeros(1)])
    noise = torch.randn((3, 1, 16, 16), generator=torch.manual_seed(3))
    target = gc.parse_target("zero | one | two", d.labels)
    x0 = gc.sample(
        gc.classifier_guided(d.uncond, d.classifier, target, 2.0),
        noise * (1 + sigmas[0] ** 2).sqrt() / sigmas[0],  # ComfyUI begins at sqrt(1 + sigma^2)
        sigmas,
        "euler",
    )
    np.testing.assert_allclose(latent, x0.numpy(), atol=5e-3)


@pytest.mark.parametrize("way", ["classifier", "cfg"])
def test_guided_digits_are_what_was_asked_for(server, way):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    names = " | ".join(demo.load().labels)
    if way == "classifier":
        latent = sampler(g, digits, names, 3.0, batch=50)
    else:
        positive = g.GuidanceKitClassCondition(model=digits, label=names)
        latent = sampler(g, digits, "one", 0.0, batch=50, cfg=3.0, positive=positive)
    picture = g.PreviewImage(images=g.VAEDecode(samples=latent, vae=digits.slot(1)))
    node = g.ProbeRead(latent=latent, nonce=fresh())
    result = server.run(g.prompt)
    d = demo.load()
    images = d.to_image(torch.from_numpy(read(result, node).latent.copy()))
    wanted = torch.arange(50) % 10
    assert d.judge.accuracy(images, wanted) >= 0.9
    shown = result.images(picture.node)
    assert len(shown) == 50
    assert shown[0].size == (128, 128)
    (trace,) = result.images(latent.node)
    assert trace.size == (360, 396)
    assert len(np.unique(np.asarray(trace).reshape(-1, 3), axis=0)) > 100  # something is drawn
    assert any("passes run" in text for text in result.texts.get(latent.node, []))


def test_vae_takes_pictures_back_to_latents(server):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    latent = sampler(g, digits, "four", 2.0, batch=2)
    there = g.ProbeRead(latent=latent, nonce=fresh())
    decoded = g.VAEDecode(samples=latent, vae=digits.slot(1))
    back = g.ProbeRead(latent=g.VAEEncode(pixels=decoded, vae=digits.slot(1)), nonce=fresh())
    result = server.run(g.prompt)
    before, after = read(result, there).latent, read(result, back).latent
    assert after.shape == before.shape
    assert np.abs(np.clip(before, -1, 1) - after).mean() < 0.06


def test_null_conditions_of_every_kind(server):
    """Zeros keep the shape, a learned file gives its tensor, none is left out, the class null label is the last one."""
    folder = server.base / "models" / "null_conditions"
    folder.mkdir(parents=True, exist_ok=True)
    NullCondition(torch.full((1, 7, 16), 0.5)).save(folder / "half.safetensors")
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    like = g.ProbeCondition(seed=1)
    nulls = {
        "zeros": g.GuidanceKitNullConditionEncoder(kind={"kind": "zeros"}, like=like),
        "zero out": g.ConditioningZeroOut(conditioning=like),
        "learned": g.GuidanceKitNullConditionEncoder(kind={"kind": "learned", "file": "half.safetensors"}),
    }
    latent = g.ProbeLatent(batch=1, channels=4, frames=0, masked=False)
    common = {"seed": 7, "steps": 3, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    nodes = {
        name: g.ProbeRead(
            latent=g.KSampler(model=model, positive=like, negative=null, latent_image=latent, **common), nonce=fresh()
        )
        for name, null in nulls.items()
    }
    digits = g.GuidanceKitLoadDigitsDemo()
    empty = g.EmptyLatentImage(width=128, height=128, batch_size=1)
    for kind, extra in (("none", {}), ("class null label", {"model": digits})):
        null = g.GuidanceKitNullConditionEncoder(kind={"kind": kind}, **extra)
        sampled = g.KSampler(model=digits, positive=null, negative=null, latent_image=empty, **{**common, "cfg": 1.0})
        nodes[kind] = g.ProbeRead(latent=sampled, nonce=fresh())
    result = server.run(g.prompt)
    got = {name: read(result, node).latent for name, node in nodes.items()}
    assert np.array_equal(got["zeros"], got["zero out"])
    assert not np.array_equal(got["zeros"], got["learned"])
    assert np.array_equal(got["none"], got["class null label"])


def test_a_replaced_null_condition_is_read_anew(server):
    folder = server.base / "models" / "null_conditions"
    folder.mkdir(parents=True, exist_ok=True)
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    learned = g.GuidanceKitNullConditionEncoder(kind={"kind": "learned", "file": "changing.safetensors"})
    latent = ksampler(g, model, positive=learned)
    node = g.ProbeRead(latent=latent, nonce=fresh())
    found = []
    for value, age in ((0.5, 100), (-0.5, 0)):
        NullCondition(torch.full((1, 7, 16), value)).save(folder / "changing.safetensors")
        stat = (folder / "changing.safetensors").stat()
        os.utime(folder / "changing.safetensors", (stat.st_atime, stat.st_mtime - age))
        found.append(read(server.run(g.prompt), node).latent)
    assert not np.array_equal(*found)


def test_no_steps_leave_the_latent_as_it_is(server):
    """At denoise 0 the sampler returns its latent, and the trace is empty."""
    g = Graph()
    latent = sampler(g, g.GuidanceKitLoadDigitsDemo(), "four", 2.0, batch=2, denoise=0.0)
    node = g.ProbeRead(latent=latent, nonce=fresh())
    assert np.abs(read(server.run(g.prompt), node).latent).max() == 0


def test_schedule_node_draws_its_curve(server):
    g = Graph()
    made = schedule(g, "cosine", "step", low=0.0, start=0.1, end=0.9)
    saved = g.PreviewImage(images=made.slot(1))
    result = server.run(g.prompt)
    (on_node,), (image,) = result.images(made.node), result.images(saved.node)
    assert on_node.size == (360, 132) and image.size == (480, 190)
    blue = np.asarray(image.convert("RGB")).astype(int)
    columns = [np.nonzero((blue[:, x, 2] > 180) & (blue[:, x, 0] < 160))[0] for x in range(60, 460, 40)]
    heights = [rows.mean() for rows in columns if len(rows)]
    assert len(heights) >= 8
    assert heights[1] > heights[-3] + 40  # it rises over the run, so its pixels' row falls


def test_drawn_curve_takes_the_place_of_the_shape(server):
    def passes(curve):
        g = Graph()
        model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
        drawn = g.CurveEditor(curve={"points": curve, "interpolation": "linear"})
        made = schedule(g, "constant", "step", curve=drawn)
        latent = ksampler(g, cfg_combine(g, model, 5.0, schedule=made), steps=11)
        node = g.ProbeRead(latent=latent, model=model, nonce=fresh())
        result = server.run(g.prompt)
        assert any("drawn curve" in text for text in result.texts[made.node])
        return read(result, node).passes

    assert passes([[0, 1], [1, 1]]) == 22
    assert passes([[0, 0], [0.5, 0], [0.55, 1], [1, 1]]) == 11 + 5


def test_interrupt_stops_a_run_and_the_server_goes_on(server):
    from devtools.server import PromptInterrupted

    g = Graph()
    latent = sampler(g, g.GuidanceKitLoadDigitsDemo(), "one", 2.0, batch=2, steps=5000)
    g.ProbeRead(latent=latent, nonce=fresh())
    seen = []

    def stop(kind, data):
        if kind == "progress" and data["value"] > 3:
            seen.append(data)
            server.interrupt()

    with pytest.raises(PromptInterrupted):
        server.run(g.prompt, watch=stop)
    assert seen
    again = Graph()
    node = again.ProbeRead(latent=sampler(again, again.GuidanceKitLoadDigitsDemo(), "one", 2.0, batch=1), nonce=fresh())
    assert np.isfinite(read(server.run(again.prompt), node).latent).all()
