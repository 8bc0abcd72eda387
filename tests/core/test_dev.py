"""dev.py, before it has made anything: what it can do, and where the served pack's examples are."""

import re
import subprocess
import sys

import pytest

import dev
from dev import COMMANDS
from devtools import newest_frontend
from devtools.demo import SHORT, note_of, passes_in
from devtools.demo_page import Shown, write_page
from devtools.host import PACK_NAME, ROOT
from devtools.serve import EXAMPLES
from devtools.workflows import EXAMPLES as GRAPHS


def test_alone_it_lists_its_commands():
    done = subprocess.run([sys.executable, "dev.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert all(f"  {name:6} {does}\n" in done.stdout for name, does in COMMANDS.items())


def test_readme_and_serve_say_where_the_templates_are():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for words in ("*Templates*", "EXTENSIONS", f"**{PACK_NAME}**"):
        assert words in readme and words.strip("*") in EXAMPLES


def test_the_demo_runs_a_few_examples_that_are_there():
    assert set(SHORT) <= {name for name, _ in GRAPHS} and any(name.startswith("emoji") for name in SHORT)


def test_the_demo_writes_what_it_ran_on_a_page(tmp_path):
    (tmp_path / "a b.png").touch()
    note = note_of(
        {"nodes": [{"type": "MarkdownNote", "widgets_values": ["## A < b\n\nRow **1**.\n\n**Change first:** x"]}]}
    )
    write_page(tmp_path / "index.html", [Shown("A < b", note, "a  b", "a b.png")])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<h2>A &lt; b</h2><p>Row <b>1</b>.</p><pre>a  b</pre><img" in page and "Change first" not in page
    assert 'src="a%20b.png"' in page


def test_another_front_end_is_served_where_one_is_named(monkeypatch):
    monkeypatch.delenv(newest_frontend.FOLDER, raising=False)
    assert newest_frontend.options() == []
    monkeypatch.setenv(newest_frontend.FOLDER, "/somewhere/static")
    assert newest_frontend.options() == ["--front-end-root", "/somewhere/static"]


def test_the_development_pins_are_locked_by_hash(monkeypatch, tmp_path):
    """Each pin but torch's stands in the lock with its hashes, and dev.py installs the lock first, checking them."""
    pins = re.findall(r"(?m)^([\w-]+)==([\w.]+)", dev.REQUIREMENTS[1].read_text(encoding="utf-8"))
    locked = re.findall(r"(?m)^([\w.-]+)==([\w.]+)[^\n]*\\\n +--hash=sha256:[0-9a-f]{64}", dev.LOCK.read_text("utf-8"))
    assert len(pins) > 15 and set(pins) - set(locked) == {("torch", "2.13.0")}
    assert len(locked) == len(re.findall(r"(?m)^[\w-]", dev.LOCK.read_text("utf-8")))

    commands = []
    monkeypatch.setattr(dev, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(dev, "VENV", tmp_path / "venv")
    monkeypatch.setattr(dev.venv, "create", lambda *_, **__: None)
    monkeypatch.setattr(dev, "run", lambda *command: commands.append(command) or 0)
    dev.install()
    locks, rest = commands
    assert locks[-4:] == ("--no-deps", "--require-hashes", "-r", dev.LOCK) and dev.REQUIREMENTS[1] in rest
    assert dev.STAMP.is_file()


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        (
            "CFG: scale 6; 12 of 50 passes.\nCFG: scale 4, the sampler's 1 is not used; 34 of 50 passes, 32 % saved.",
            "34 of 50",
        ),
        ("CFG: scale 6; 50 of 50 passes.", "50 of 50"),
        ("Target's probability at the end: 77.6 % (25 gradients).", ""),
    ],
)
def test_the_demo_reads_what_a_node_said_of_its_passes(said, passes):
    assert passes_in(said) == passes
