"""dev.py, before it has made anything: what it can do, and where the served pack's examples are."""

import subprocess
import sys

from dev import COMMANDS
from devtools import newest_frontend
from devtools.host import PACK_NAME, ROOT
from devtools.serve import EXAMPLES


def test_alone_it_lists_its_commands():
    done = subprocess.run([sys.executable, "dev.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert all(f"  {name:6} {does}\n" in done.stdout for name, does in COMMANDS.items())


def test_readme_and_serve_say_where_the_templates_are():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for words in ("*Templates*", "EXTENSIONS", f"**{PACK_NAME}**"):
        assert words in readme and words.strip("*") in EXAMPLES


def test_another_front_end_is_served_where_one_is_named(monkeypatch):
    monkeypatch.delenv(newest_frontend.FOLDER, raising=False)
    assert newest_frontend.options() == []
    monkeypatch.setenv(newest_frontend.FOLDER, "/somewhere/static")
    assert newest_frontend.options() == ["--front-end-root", "/somewhere/static"]
