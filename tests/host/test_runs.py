"""Runs that do not fall evenly from noise to picture: grown on the way, flipped, restarted."""

import re

import numpy as np
import pytest
from graph import Graph, cfg_combine, classifier_guidance, fresh, history_guidance, read, said, schedule
from test_methods import METHODS, on

SCALE = 5.5


def sampled(g, model, sampler, sigmas):
    """A run with any sampler and noise levels."""
    guider = g.CFGGuider(model=model, positive=g.ProbeCondition(seed=1), negative=g.ProbeCondition(seed=2), cfg=1.0)
    return g.SamplerCustomAdvanced(
        noise=g.RandomNoise(noise_seed=7),
        guider=guider,
        sampler=sampler,
        sigmas=sigmas,
        latent_image=g.ProbeLatent(batch=2, channels=4, frames=0, masked=False),
    )


def test_a_latent_that_grows_within_its_run(server):
    """Every method, and a classifier: what they keep of smaller latents is forgotten."""
    g = Graph()
    nodes = {}
    for name in ("standard", *METHODS):
        model = g.ProbeModel(kind="eps", seed=0, nonce=1)
        judge = g.ProbeClassifier(channels=4, latent_space="", nan_below_log_snr=-1000.0, nonce=1)
        guided = cfg_combine(g, model, SCALE, name, **(on(g, name, "eps") if name != "standard" else {}))
        guided = classifier_guidance(g, guided, judge, "cat", 5.0)
        growing = g.SamplerLCMUpscale(scale_ratio=2.0, scale_steps=-1, upscale_method="nearest-exact")
        sigmas = g.BasicScheduler(model=model, scheduler="normal", steps=3, denoise=1.0)
        nodes[name] = g.ProbeRead(latent=sampled(g, guided, growing, sigmas), nonce=fresh())
    result = server.run(g.prompt)
    for name, node in nodes.items():
        latent = read(result, node).latent
        assert latent.shape == (2, 4, 32, 32) and np.isfinite(latent).all(), name


def test_a_video_that_is_sampled_frame_by_frame(server):
    """SamplerARVideo runs all steps for one frame after another: each is as in a run of its own.

    For methods and terms that remember, and windows by the step.
    """
    g = Graph()
    frames = g.ProbeLatents(shape="1,4,2,16,16", level=0.0, seed=1)
    sampler, sigmas = g.SamplerARVideo(num_frame_per_block=1), g.ManualSigmas(sigmas="0.9, 0.6, 0.3, 0")

    def read_of(model, latent, seed):
        samples = g.SamplerCustom(
            model=model,
            add_noise=False,
            noise_seed=seed,
            cfg=1.0,
            positive=g.ProbeCondition(seed=1),
            negative=g.ProbeCondition(seed=2),
            sampler=sampler,
            sigmas=sigmas,
            latent_image=latent,
        )
        return g.ProbeRead(latent=samples, nonce=fresh())

    model = g.ProbeModel(kind="causal", seed=0, nonce=1)
    early = schedule(g, "interval", "step", start=0.0, end=0.4)
    guided = {
        "plain": model,
        "apg": cfg_combine(g, model, SCALE, "apg", **on(g, "apg", "video")),
        "momentum": cfg_combine(g, model, SCALE, "momentum", **on(g, "momentum", "video")),
        "feedback": cfg_combine(g, model, SCALE, "feedback", **on(g, "feedback", "video")),
        "in the first steps": cfg_combine(g, model, SCALE, "standard", early),
        "history": history_guidance(g, model, "mg", 0.8, memory=0.5),
    }
    whole = {name: read_of(each, frames, 7) for name, each in guided.items()}
    alone = {  # a frame's fresh noise is of the run's seed and a thousand for each frame before it
        name: [read_of(each, g.LatentCut(samples=frames, dim="t", index=i, amount=1), 7 + 1000 * i) for i in range(2)]
        for name, each in guided.items()
    }
    result = server.run(g.prompt)
    plain = read(result, whole["plain"]).latent
    for name in guided:
        together = read(result, whole[name]).latent
        apart = np.concatenate([read(result, node).latent for node in alone[name]], axis=2)
        np.testing.assert_array_equal(together, apart, err_msg=name)
        if name != "plain":
            moved = np.abs(together - plain).max(axis=(0, 1, 3, 4))
            assert (moved > 1e-3 * np.abs(plain).max()).all(), name


FLIPPED = "0.05, 0.5, 1, 2, 5, 10, 14"
RESTARTED = "14, 5, 1, 5, 1, 0.2, 0"


@pytest.mark.parametrize("levels", [FLIPPED, RESTARTED], ids=["flipped", "restarted"])
def test_windows_go_by_the_order_of_the_run(server, levels):
    """The second half of the steps is guided, whether noise is taken away, added, or both."""
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    window = schedule(g, "interval", "step", start=0.55, end=1.0)
    sampler = g.KSamplerSelect(sampler_name="euler")
    latent = sampled(
        g, cfg_combine(g, model, SCALE, "apg", window, **on(g, "apg", "eps")), sampler, g.ManualSigmas(sigmas=levels)
    )
    node = g.ProbeRead(latent=latent, model=model, nonce=fresh())
    result = server.run(g.prompt)
    reading = read(result, node)
    assert np.isfinite(reading.latent).all()
    assert [len(conditions) for _, conditions in reading.calls] == [1, 1, 1, 2, 2, 2]
    assert "9 of 12 passes, 25 % saved." in said(result)


def test_nodes_tell_the_step_in_the_order_of_the_run(server):
    """A run that goes down to 1, and then once more from the top."""
    levels = [*np.linspace(14, 1, 50), *np.linspace(14, 0, 50)]
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    sigmas = g.ManualSigmas(sigmas=", ".join(f"{level:.4f}" for level in levels))
    latent = sampled(g, cfg_combine(g, model, SCALE), g.KSamplerSelect(sampler_name="euler"), sigmas)
    g.ProbeRead(latent=latent, nonce=fresh())
    steps = [int(step) for step in re.findall(r"Step (\d+) of 99", said(server.run(g.prompt)))]
    assert steps[0] == 1 and steps == sorted(steps) and steps[-1] > 50
