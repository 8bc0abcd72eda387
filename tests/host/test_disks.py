"""Full disks under a training: it goes on, Cancel keeps what can be kept, and each refusal is a sentence."""

from pathlib import Path

import pytest
from graph import Graph, folder, progress, train

from devtools.server import TEXT, ComfyServer, PromptFailed, PromptInterrupted
from devtools.small_disk import NoDisk, small_disk
from guidance_core.classifier.noisy import NoisyClassifier

PROBE = Path(__file__).parent / "probe"
STEPS = 150


class Run:
    """A training on a server, cancelled at a step where one is given; the last text of its node, and its steps."""

    def __init__(self, server, name, cancel_at=None, **changes):
        g = Graph()
        digits = g.GuidanceKitLoadDigitsDemo()
        options = {"steps": STEPS, "evaluate_every": STEPS, "checkpoint_every": 20} | changes
        node = train(g, digits, folder(g, digits), name, **options)
        g.PreviewAny(source=node.slot(4))
        self.texts, messages, pressed = [], [], []

        def watch(kind, data):
            messages.append((kind, data))
            if kind == TEXT and data["node"] == node.node:
                self.texts.append(data["text"])
            each = data["nodes"].get(node.node) if kind == "progress_state" else None
            if cancel_at and each and each["max"] == STEPS and each["value"] >= cancel_at and not pressed:
                pressed.append(each["value"])
                server.interrupt()

        if cancel_at:
            with pytest.raises(PromptInterrupted):
                server.run(g.prompt, watch=watch)
        else:
            server.run(g.prompt, watch=watch)
        self.text = self.texts[-1]
        self.steps = progress(messages, node, STEPS)


def saved(server):
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    g.GuidanceKitSaveNoisyClassifier(classifier=digits.slot(2), name="digits", replace=False, licence="", author="")
    server.run(g.prompt)


def test_full_disks_stop_no_training_and_lose_nothing_that_could_be_kept(tmp_path):
    base = tmp_path / "base"
    states, files = base / "user" / "guidance_kit" / "trainings", base / "models" / "noisy_classifiers"
    try:
        with (
            small_disk(states, 24 * 2**20) as of_states,
            small_disk(files, 16 * 2**20) as of_files,
            ComfyServer(base, packs=[PROBE]) as server,
        ):
            of_states.fill()
            whole = Run(server, "whole", steps=60)
            notes = [text for text in whole.texts if "Training goes on" in text]
            assert f"cannot be resumed from here: '{states}" in notes[0] and "the disk is full" in notes[0]
            assert "\n60 steps, loss" in whole.text and whole.text.count("Training goes on") == 1

            stopped = Run(server, "stopped", cancel_at=10).text
            assert "; kept as stopped (unfinished).safetensors.\nRunning again begins anew: '" in stopped
            assert "the disk is full" in stopped
            assert list(NoisyClassifier.load(files / "stopped (unfinished).safetensors").labels)
            assert [each.name for each in states.iterdir()] == ["filler"]

            of_states.empty()
            of_files.fill()
            stopped = Run(server, "lost", cancel_at=10)
            assert f"The classifier so far is lost: '{files}" in stopped.text and "the disk is full" in stopped.text
            assert stopped.text.endswith("Run to go on.")
            assert not list(files.glob("lost*"))
            assert Run(server, "lost").steps[0] > 10

            with pytest.raises(PromptFailed) as refused:
                saved(server)
            assert refused.value.exception_message.startswith(f"Save Noisy Classifier: '{files}")
            assert "the disk is full" in refused.value.exception_message
            assert not list(files.glob("digits*")) and not list(files.glob(".*"))
            of_files.empty()
            saved(server)
            assert list(NoisyClassifier.load(files / "digits.safetensors").labels)
    except NoDisk as error:
        pytest.skip(str(error))
