"""Picture and sound in one latent: each is guided by itself, and a classifier judges the one it was made for."""

import numpy as np
import pytest
from graph import Graph, cfg_combine, classifier_guidance, fresh, ksampler, read
from test_methods import METHODS, on

from devtools.server import PromptFailed

SCALE = 5.5
PICTURE = 4 * 2 * 8 * 8  # numbers of the picture, before those of the sound


def sampled(server, latents):
    """The flat latents of {name: build(g, model)}, of which model makes an AV model."""
    g = Graph()
    nodes = {
        name: g.ProbeRead(latent=build(g, g.ProbeModel(kind="av", seed=0, nonce=1)), nonce=fresh())
        for name, build in latents.items()
    }
    result = server.run(g.prompt)
    return {name: read(result, node).latent[0, 0] for name, node in nodes.items()}


def test_every_method_guides_the_picture_whatever_the_sound(server):
    """The network keeps them apart, and so does guidance: a longer sound changes no number of the picture."""

    def build(name, length):
        def latent(g, model):
            patched = cfg_combine(g, model, SCALE, name, **(on(g, name, "av") if name != "standard" else {}))
            return ksampler(g, patched, 1.0, 4, latent=g.ProbeNested(length=length, channels=4))

        return latent

    names = ["standard", *METHODS]
    found = sampled(server, {(name, length): build(name, length) for name in names for length in (6, 40)})
    plain = found["standard", 6]
    for name in names:
        short, long = found[name, 6], found[name, 40]
        assert np.isfinite(long).all() and len(long) - len(short) == 2 * 4 * 34
        np.testing.assert_allclose(short[:PICTURE], long[:PICTURE], atol=1e-5 * np.abs(plain).max(), err_msg=name)
        if name != "standard":
            assert np.abs(short[:PICTURE] - plain[:PICTURE]).max() > 1e-4 * np.abs(plain).max(), name


def judged(g, model, channels=4, of=4, latent_space="", latent=None):
    """Steered by a classifier of so many channels, with a picture of so many."""
    made = g.ProbeClassifier(channels=of, latent_space=latent_space, nan_below_log_snr=-1000.0, nonce=fresh())
    steered = classifier_guidance(g, model, made, "cat", 20.0)
    return ksampler(g, steered, 1.0, 4, latent=latent or g.ProbeNested(length=6, channels=channels))


def test_a_classifier_judges_its_own_part(server):
    """Of the picture by its channels, of the sound by the latents that both are of and its channels."""
    found = sampled(
        server,
        {
            "plain": lambda g, m: ksampler(g, m, 1.0, 4, latent=g.ProbeNested(length=6, channels=4)),
            "picture": judged,
            "sound": lambda g, m: judged(g, m, of=2, latent_space="VideoFormat"),
        },
    )
    parts = {"picture": slice(None, PICTURE), "sound": slice(PICTURE, None)}
    for judge in parts:
        for part, place in parts.items():
            same = np.array_equal(found["plain"][place], found[judge][place])
            assert same == (part != judge), (judge, part)


REFUSED = {
    "of no part": (
        lambda g: judged(g, g.ProbeModel(kind="av", seed=0, nonce=fresh()), channels=3),
        "trained on 4-channel latents; the parts of this run's latent have 3 channels (5-D) and 2 channels (4-D): load "
        "a classifier made for one of them.",
    ),
    "of a part that is not there": (
        lambda g: judged(
            g,
            g.ProbeModel(kind="video", seed=0, nonce=fresh()),
            of=2,
            latent_space="VideoFormat",
            latent=g.ProbeLatent(batch=1, channels=4, frames=2, masked=False),
        ),
        "trained on 2-channel latents; this run's latent has 4 channels (5-D): load a classifier made for these.",
    ),
    "of other latents": (
        lambda g: judged(g, g.ProbeModel(kind="av", seed=0, nonce=fresh()), of=2),
        "trained on 2-channel latents, this model has 4 (VideoFormat): load a classifier made for VideoFormat latents.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_classifier_of_no_part_is_refused_with_the_parts_that_there_are(server, case):
    build, sentence = REFUSED[case]
    g = Graph()
    g.ProbeRead(latent=build(g), nonce=fresh())
    with pytest.raises(PromptFailed) as caught:
        server.run(g.prompt)
    assert caught.value.exception_message.startswith(f"Classifier Guidance: the classifier was {sentence}")
