"""Conditions and models that methods bring are made ready as the guider makes its own: hooks, ControlNets, wrappers."""

import numpy as np
import pytest
from graph import Graph, cfg_combine, custom_sampler, fresh, ksampler, read
from test_other_patches import lora  # noqa: F401 (a fixture)

SCALE = 5.5


def hooked(g, condition, strength=20.0):
    """A condition under which a LoRA is on the model."""
    hooks = g.CreateHookLoraModelOnly(lora_name="r.safetensors", strength_model=strength)
    return g.ConditioningSetProperties(cond_NEW=condition, strength=1.0, set_cond_area="default", hooks=hooks)


def controlled(g, condition):
    """A condition with a ControlNet."""
    return g.ControlNetApplyAdvanced(
        positive=condition,
        negative=condition,
        control_net=g.ProbeControlNet(),
        image=g.EmptyImage(width=128, height=128, batch_size=1, color=0x4080C0),
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )


def plain(g, condition):
    return condition


CASES = {  # of the positive, of the empty condition
    "hook on empty": (plain, hooked),
    "hooks on both": (lambda g, c: hooked(g, c, -14.0), hooked),
    "ControlNet on empty": (plain, controlled),
}


@pytest.mark.parametrize("case", CASES)
def test_the_empty_condition_of_perp_neg_is_as_in_the_perp_neg_guider(server, lora, case):  # noqa: F811
    of_positive, of_empty = CASES[case]

    def ours(g, m, of_empty=of_empty):
        empty = of_empty(g, g.ProbeCondition(seed=3))
        guided = cfg_combine(g, m, SCALE, "perp_neg", neg_scale=0.8, empty=empty)
        return custom_sampler(g, guided, "cfg", 1.0, positive=of_positive(g, g.ProbeCondition(seed=1)))

    def theirs(g, m):
        guider = g.PerpNegGuider(
            model=m,
            positive=of_positive(g, g.ProbeCondition(seed=1)),
            negative=g.ProbeCondition(seed=2),
            empty_conditioning=of_empty(g, g.ProbeCondition(seed=3)),
            cfg=SCALE,
            neg_scale=0.8,
        )
        return g.SamplerCustomAdvanced(
            noise=g.RandomNoise(noise_seed=7),
            guider=guider,
            sampler=g.KSamplerSelect(sampler_name="euler"),
            sigmas=g.BasicScheduler(model=m, scheduler="normal", steps=6, denoise=1.0),
            latent_image=g.ProbeLatent(batch=1, channels=4, frames=0, masked=False),
        )

    ours, theirs, without = latents(server, ours, theirs, lambda g, m: ours(g, m, plain))
    matters = np.abs(theirs - without).max()
    assert matters > 1e-4 * np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=0.02 * matters)


def latents(server, *builds):
    g = Graph()
    model = g.ProbeModel(kind="eps", seed=0, nonce=fresh())
    nodes = [g.ProbeRead(latent=build(g, model), nonce=fresh()) for build in builds]
    result = server.run(g.prompt)
    return [read(result, node).latent for node in nodes]


def test_a_hook_on_the_positive_acts_on_the_weak_model_too(server, lora):  # noqa: F811
    """One step is the guided prediction itself: what either model gives alone, put together."""

    def weak(g):
        return g.ProbeModel(kind="eps", seed=9, nonce=1)

    def positive(g):
        return hooked(g, g.ProbeCondition(seed=1))

    def alone(g, m):
        return ksampler(g, m, 1.0, 1, positive=positive(g))

    both, strong, of_weak, unhooked = latents(
        server,
        lambda g, m: ksampler(g, cfg_combine(g, m, SCALE, "autoguidance", weak=weak(g)), 1.0, 1, positive=positive(g)),
        alone,
        lambda g, m: alone(g, weak(g)),
        lambda g, m: ksampler(g, weak(g), 1.0, 1),
    )
    matters = (SCALE - 1) * np.abs(of_weak - unhooked).max()
    assert matters > 1e-4 * np.abs(of_weak).max()
    np.testing.assert_allclose(both, of_weak + SCALE * (strong - of_weak), atol=0.02 * matters)
