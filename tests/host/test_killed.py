"""A server killed while it writes a file: what was there before is whole, and the next server goes on from it."""

from pathlib import Path

import numpy as np
import pytest
from graph import SIZE, Graph, folder, fresh, progress, read, train
from PIL import Image

from devtools.server import ComfyServer, ServerFailed
from guidance_core.classifier.noisy import NoisyClassifier, read_card

PROBE = Path(__file__).parent / "probe"
PICTURES = 12


def server_at(base) -> ComfyServer:
    return ComfyServer(base, packs=[PROBE])


def killed(server, g, moment, where, at):
    """Run a graph on a server that is killed at its write number `at` of a file in a folder."""
    switch = Graph()
    switch.ProbeKill(moment=moment, folder=str(where), at=at)
    server.run(switch.prompt)
    with pytest.raises(ServerFailed):
        server.run(g.prompt)


def saved(licence):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    g.GuidanceKitSaveNoisyClassifier(classifier=digits.slot(2), name="kept", replace=True, licence=licence, author="")
    return g


def trained():
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    node = train(g, digits, folder(g, digits), "long", steps=60, checkpoint_every=20, evaluate_every=30)
    return g, node, g.PreviewAny(source=node.slot(4))


def encoded():
    g = Graph()
    examples = folder(g, g.GuidanceKitLoadDigitsDemo(), "mine", "mine")
    return g, g.ProbeRead(latent=g.ProbeExamples(examples=examples), nonce=fresh())


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["half written", "before its name"])
def test_a_server_killed_while_writing(tmp_path, moment):
    """At one moment of writing a classifier, then a training's second checkpoint, then a folder's seventh latent."""
    file = tmp_path / "models" / "noisy_classifiers" / "kept.safetensors"
    states = tmp_path / "user" / "guidance_kit" / "trainings"
    cache = tmp_path / "user" / "guidance_kit" / "latents"

    with server_at(tmp_path) as server:
        server.run(saved("the old one").prompt)
        killed(server, saved("the new one"), moment, file.parent, 1)
    assert len(list(file.parent.iterdir())) == 2, "the server was not killed between the two names"
    assert read_card(file).record.licence == "the old one"

    with server_at(tmp_path) as server:
        options = str(server.object_info()["GuidanceKitLoadNoisyClassifier"]["input"]["required"]["file"])
        assert "kept.safetensors" in options and "part" not in options
        targets = str(server.object_info()["GuidanceKitGuidanceTarget"])
        assert "kept.safetensors" in targets and ".part" not in targets
        g = Graph()
        g.GuidanceKitSaveNoisyClassifier(
            classifier=g.GuidanceKitLoadNoisyClassifier(file="kept.safetensors"),
            name="again",
            replace=True,
            licence="",
            author="",
        )
        server.run(g.prompt)
        server.run(saved("the new one").prompt)
        assert read_card(file).record.licence == "the new one"
        killed(server, trained()[0], moment, states, 2)
    (state,) = states.glob("*.safetensors")
    assert len(list(states.iterdir())) == 2
    whole, copy = (
        NoisyClassifier.load(each).network.state_dict() for each in (file, file.with_name("again.safetensors"))
    )
    assert all(bool((copy[key] == value).all()) for key, value in whole.items())

    place = tmp_path / "input" / "mine"
    place.mkdir()
    draw = np.random.default_rng(0)
    for i in range(PICTURES):
        Image.fromarray(draw.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(place / f"{i}.png")
    with server_at(tmp_path) as server:
        g, node, report = trained()
        result = server.run(g.prompt)
        assert progress(result.messages, node, 60)[0] > 20, "it began anew"
        assert "60 steps" in result.outputs[report.node]["text"][0]
        assert not state.exists()
        before = set(cache.rglob("*.safetensors"))
        killed(server, encoded()[0], moment, cache, 7)
    whole = set(cache.rglob("*.safetensors")) - before
    assert len(whole) == 6

    with server_at(tmp_path) as server:
        times = {each: each.stat().st_mtime_ns for each in whole}
        g, node = encoded()
        resumed = read(server.run(g.prompt), node).latent
        assert {each: each.stat().st_mtime_ns for each in whole} == times
        for each in set(cache.rglob("*.safetensors")) - before:
            each.unlink()
        (place / "0.png").touch()
        g, node = encoded()
        assert np.array_equal(read(server.run(g.prompt), node).latent, resumed)
        assert len(resumed) == PICTURES
