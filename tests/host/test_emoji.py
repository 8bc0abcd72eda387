"""The bundled emoji in a real ComfyUI: the library's own numbers, latents with scale and shift, attention patches."""

import numpy as np
import torch
from graph import Graph, fresh, read

import guidance_core as gc
from guidance_core.demo import emoji


def sampled(g, demo, model, names, cfg=3.0, steps=8):
    """Latents of the classes named, as KSampler draws them with euler."""
    positive = g.GuidanceKitClassCondition(model=demo, label=" | ".join(names))
    negative = g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=demo)
    latent = g.EmptyLatentImage(width=64, height=64, batch_size=len(names))
    common = {"seed": 3, "steps": steps, "cfg": cfg, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    return g.KSampler(model=model, positive=positive, negative=negative, latent_image=latent, **common)


def test_host_and_library_give_the_same_emoji(server):
    """The same noise and levels through ComfyUI's own UNet and through guidance_core's: the same raw latents."""
    names = ["face", "heart", "clock"]
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    node = g.ProbeRead(latent=sampled(g, demo, demo, names), nonce=fresh())
    latent = read(server.run(g.prompt), node).latent

    d = emoji.load()
    levels = d.sigmas.float().log()
    timesteps = torch.linspace(999, 0, 8)
    low, high = timesteps.floor().long(), timesteps.ceil().long()
    sigmas = torch.cat([((1 - timesteps.frac()) * levels[low] + timesteps.frac() * levels[high]).exp(), torch.zeros(1)])
    noise = torch.randn((3, *d.shape), generator=torch.manual_seed(3))
    labels = [d.labels.index(name) for name in names]
    x0 = gc.sample(
        gc.cfg_guided(d.cond(labels), d.uncond, 3.0),
        noise * (1 + sigmas[0] ** 2).sqrt() / sigmas[0],  # ComfyUI begins at sqrt(1 + sigma^2)
        sigmas,
        "euler",
    )
    np.testing.assert_allclose(latent, (x0 / d.scale + d.shift).numpy(), atol=5e-3)


def test_vae_takes_pictures_back_to_latents(server):
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    latent = sampled(g, demo, demo, ["face", "flag"])
    there = g.ProbeRead(latent=latent, nonce=fresh())
    decoded = g.VAEDecode(samples=latent, vae=demo.slot(1))
    back = g.ProbeRead(latent=g.VAEEncode(pixels=decoded, vae=demo.slot(1)), nonce=fresh())
    picture = g.PreviewImage(images=decoded)
    result = server.run(g.prompt)
    before, after = read(result, there).latent, read(result, back).latent
    assert after.shape == before.shape == (2, 4, 16, 16)
    assert result.images(picture.node)[0].size == (64, 64)
    d = emoji.load()
    again, once = (d.vae.decode(torch.from_numpy(raw.copy())).clamp(0, 1) for raw in (after, before))
    assert (again - once).abs().mean() < 0.05


def test_perturbed_attention_acts_on_it(server):
    """ComfyUI's own attention patch changes the samples: the UNet is the host's."""
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    patched = g.PerturbedAttentionGuidance(model=demo, scale=2.0)
    plain, perturbed = (g.ProbeRead(latent=sampled(g, demo, m, ["face"]), nonce=fresh()) for m in (demo, patched))
    result = server.run(g.prompt)
    assert np.abs(read(result, plain).latent - read(result, perturbed).latent).mean() > 1e-3


def test_no_condition_is_the_null_label(server):
    g = Graph()
    demo = g.GuidanceKitLoadEmojiDemo()
    nulls = [
        g.GuidanceKitNullConditionEncoder(kind={"kind": "none"}),
        g.GuidanceKitNullConditionEncoder(kind={"kind": "class null label"}, model=demo),
    ]
    common = {"seed": 3, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    latent = g.EmptyLatentImage(width=64, height=64, batch_size=1)
    nodes = [
        g.ProbeRead(
            latent=g.KSampler(model=demo, positive=null, negative=null, latent_image=latent, **common), nonce=fresh()
        )
        for null in nulls
    ]
    result = server.run(g.prompt)
    none, label = (read(result, node).latent for node in nodes)
    np.testing.assert_allclose(none, label, atol=1e-5)
