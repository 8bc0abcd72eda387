"""The server stays awake and bounded: whatever text, picture or file it is given, it goes on answering."""

import json
import os
import shutil
import socket
import struct
import sys
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from graph import Graph, classifier_guidance, folder, fresh, read
from PIL import Image

from devtools.host import ROOT
from devtools.server import ComfyServer, PromptFailed, PromptRejected
from devtools.small_disk import NoDisk, small_disk
from guidance_core.classifier.latent_encoder import LatentEncoder
from guidance_core.classifier.noisy import NoisyClassifier
from guidance_core.data.image_file import MAX_PIXELS
from guidance_core.files import read_header, write_tensors
from guidance_core.terms.target_text import MAX_LETTERS

PROBE = Path(__file__).parent / "probe"
DEMO = ROOT / "guidance_core" / "demo"
PATIENCE = 1.0  # seconds; what froze it did so for twenty
TRIES = 5  # of which one has to do: a busy machine makes any server wait now and then, what freezes it always does


def said(result, node):
    return "\n".join(result.texts.get(node.node, []))


class Watch:
    """Asks for the queue again and again while something runs, and keeps how long the slowest answer took."""

    def __init__(self, server):
        self.server, self.slowest, self.answers, self.over = server, 0.0, 0, threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def _ask(self):
        while not self.answers or not self.over.wait(0.05):
            began = time.monotonic()
            with urllib.request.urlopen(f"{self.server.url}/queue", timeout=60) as answer:
                json.load(answer)
            self.slowest, self.answers = max(self.slowest, time.monotonic() - began), self.answers + 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def stays_awake(server, run):
    """Whether the server answers within PATIENCE while `run` runs."""
    for _ in range(TRIES):
        with Watch(server) as watch:
            run()
        if watch.slowest < PATIENCE:
            return True
    return False


@pytest.fixture
def place(server):
    """A new folder in the input folder, and its name."""
    name = f"bounds {fresh()}"
    (server.base / "input" / name).mkdir(parents=True)
    return server.base / "input" / name


def run_folder(server, place, label="mine", **size):
    """(what a Labelled Folder said, the latents that came of it)."""
    g = Graph()
    digits = g.GuidanceKitLoadDigitsDemo()
    node = folder(g, digits, place.name, label, **size)
    seen = g.ProbeRead(latent=g.ProbeExamples(examples=node), nonce=fresh())
    result = server.run(g.prompt)
    return said(result, node), read(result, seen).latent


@pytest.mark.parametrize("text", ["," * MAX_LETTERS, "seven | " * 4095 + "seven", '"' * MAX_LETTERS])
def test_the_server_answers_while_the_longest_target_is_read(server, text):
    def run():
        g = Graph()
        digits = g.GuidanceKitLoadDigitsDemo()
        steered = classifier_guidance(g, digits, digits.slot(2), text, 1 + fresh() % 50)  # anew at each try
        g.PreviewAny(source=steered)
        try:
            server.run(g.prompt)
        except PromptFailed as refused:
            assert refused.exception_message.startswith("Classifier Guidance: ")
            assert len(refused.exception_message) < 500

    assert stays_awake(server, run)


def test_the_server_answers_while_the_largest_picture_is_read(server, place):
    side = int(MAX_PIXELS**0.5)
    Image.new("RGB", (side, side), "red").save(place / "large.png", compress_level=1)
    Image.new("RGB", (side + 1, side)).save(place / "larger.png", compress_level=1)
    found = []

    def run():  # anew at each try
        shutil.rmtree(server.base / "user" / "guidance_kit" / "latents", ignore_errors=True)
        (place / "large.png").touch()
        found.append(run_folder(server, place))

    assert stays_awake(server, run)
    text, latents = found[-1]
    assert text.startswith("1 mine\nSkipped 1:\nlarger.png: cannot be read as a picture (it has 8193 by 8192 pixels")
    assert len(latents) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such files")
@pytest.mark.parametrize("label", ["mine", ""])
def test_what_must_not_be_opened_is_named_and_left_out(server, place, label, tmp_path):
    """A pipe, a link out of the folder, a name that is not UTF-8, PostScript; with and without a label alike."""
    inner = place if label else place / "mine"
    inner.mkdir(exist_ok=True)
    for i in range(2):
        Image.new("RGB", (16, 16), (90 * i, 10, 90)).save(inner / f"{i}.png")
    if not label:
        (place / "other").mkdir()
        Image.new("RGB", (16, 16), "white").save(place / "other" / "a.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "secret.png")
    os.mkfifo(inner / "pipe.png")
    (inner / "link.png").symlink_to(tmp_path / "secret.png")
    (inner / "post.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    (inner / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no picture")
    text, latents = run_folder(server, place, label)
    assert len(latents) == (2 if label else 3)
    assert "Skipped 4:" in text and str(server.base) not in text
    for line in ("pipe.png: is no plain file", "link.png: is a link to a file outside of the folder"):
        assert line in text
    assert "post.png: cannot be read as a picture (it is not PNG" in text
    assert "caf\\udce9.png: cannot be read as a picture" in text


def test_a_full_disk_while_a_folder_is_encoded(tmp_path):
    """The latents are those of a run that could keep them, and the node says that they are not kept."""
    cache = tmp_path / "base" / "user" / "guidance_kit" / "latents"
    try:
        with small_disk(cache, 2**20) as disk, ComfyServer(tmp_path / "base", packs=[PROBE]) as server:
            place = server.base / "input" / "mine"
            place.mkdir(parents=True, exist_ok=True)
            for i in range(3):
                Image.new("RGB", (16, 16), (80 * i, 10, 90)).save(place / f"{i}.png")
            disk.fill()
            text, without = run_folder(server, place)
            assert "3 mine\nLatents are encoded without being kept." in text and "the disk is full" in text
            disk.empty()
            (place / "0.png").touch()
            text, kept = run_folder(server, place)
            assert text == "3 mine" and np.array_equal(without, kept)
            assert len(list(cache.rglob("*.safetensors"))) == 3
    except NoDisk as error:
        pytest.skip(str(error))


def fabricated(server, name, labels, **changes):
    """A file that says it is a classifier with these labels."""
    digits = DEMO / "classifier.safetensors"
    metadata = read_header(digits, "noisy classifier", None).metadata
    parameters = json.loads(metadata["parameters"]) | {"classes": len(labels)}
    metadata |= {"labels": json.dumps(labels), "parameters": json.dumps(parameters)} | changes
    write_tensors(server.base / "models" / "noisy_classifiers" / name, {"w": torch.zeros(1)}, metadata)


def saved(server, name, replace=False):
    g = Graph()
    node = g.GuidanceKitSaveNoisyClassifier(
        classifier=g.GuidanceKitLoadDigitsDemo().slot(2), name=name, replace=replace, licence=str(fresh()), author=""
    )
    return said(server.run(g.prompt), node)


def test_files_that_cannot_be_loaded_fill_no_menu(server):
    labels = [f"{i:05d}" + "x" * 195 for i in range(9000)]
    for i in range(20):
        fabricated(server, f"fabricated {i}.safetensors", labels)
    saved(server, "good one", replace=True)
    try:
        menu = json.dumps(server.object_info()["GuidanceKitGuidanceTarget"])
        assert "good one.safetensors" in menu and "fabricated" not in menu
        assert len(menu) < 2**17
    finally:
        for i in range(20):
            (server.base / "models" / "noisy_classifiers" / f"fabricated {i}.safetensors").unlink()


def test_menus_hold_about_a_million_letters(server):
    """Of files that can be loaded, each with as many labels as it may have."""
    labels = [f"{i:05d}" + "x" * 195 for i in range(4000)]
    parameters = {"channels": 1, "classes": len(labels), "width": 8, "multipliers": [1], "depth": 1, "embedding": 8}
    root = server.base / "models" / "noisy_classifiers"
    made = NoisyClassifier(LatentEncoder(**parameters), labels, parameters=parameters)
    made.save(root / "many 0.safetensors")
    for i in range(1, 30):
        shutil.copy(root / "many 0.safetensors", root / f"many {i}.safetensors")
    try:
        menu = json.dumps(server.object_info()["GuidanceKitGuidanceTarget"])
        assert "many 0.safetensors" in menu and labels[0] in menu and labels[-1] not in menu
        assert len(menu) < 2**21
    finally:
        for i in range(30):
            (root / f"many {i}.safetensors").unlink()


def test_a_question_that_comes_in_chunks_is_refused_before_it_is_read(server):
    """Its length is said by nobody; the server answers while it is still coming."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(
            b"POST /guidance_kit/schedule HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" % address.netloc.encode()
        )
        for _ in range(3):
            connection.sendall(b"%x\r\n" % 2**15 + b" " * 2**15 + b"\r\n")
        answer = connection.recv(2**16).decode()
    assert answer.startswith("HTTP/1.1 400") and "65536 bytes at most" in answer


@pytest.mark.parametrize("name", ["हिन्दी", "ภาษาไทย ที่นี่", "cafe\u0301", "日本語" * 20])
def test_names_of_every_script_are_saved_and_loaded(server, name):
    assert f"Saved as {name}.safetensors" in saved(server, name, replace=True)
    g = Graph()
    loaded = g.GuidanceKitLoadNoisyClassifier(file=f"{name}.safetensors")
    g.PreviewAny(source=loaded)
    assert "10 labels" in said(server.run(g.prompt), loaded)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nul", "'nul' is the name of a device on Windows"),
        ("a./b", "on Windows no name ends with a dot"),
        ("日" * 90, "it is too long"),
        ("a/" * 3000 + "b", "it has 3000 folders, and 16 are the most"),
        ("taken", "'taken' is the name of a folder in models/noisy_classifiers: choose another"),
        ("file/inner", "a file lies where its folder should be"),
    ],
)
def test_names_that_are_refused(server, name, sentence):
    root = server.base / "models" / "noisy_classifiers"
    (root / "taken.safetensors").mkdir(parents=True, exist_ok=True)
    (root / "file").touch()
    with pytest.raises((PromptFailed, PromptRejected)) as refused:
        saved(server, name)
    told = refused.value
    text = told.exception_message if isinstance(told, PromptFailed) else str(told)
    assert "Save Noisy Classifier: " in text and sentence in text and len(text) < 700


def test_a_number_that_somebody_else_has_taken_is_not_used(server):
    name, root = f"numbered {fresh()}", server.base / "models" / "noisy_classifiers"
    assert f"Saved as {name}.safetensors" in saved(server, name)
    (root / f"{name} 2.safetensors").touch()  # taken by a process that is about to write it
    assert f"Saved as {name} 3.safetensors" in saved(server, name)
    assert (root / f"{name} 2.safetensors").stat().st_size == 0
    assert struct.unpack("<Q", (root / f"{name} 3.safetensors").read_bytes()[:8])[0] > 100
