"""What the registry's archive holds: the project without what .gitignore and .comfyignore leave out."""

from pathlib import Path

from devtools.host import ROOT


def listed(file: str) -> list[str]:
    """The names and patterns in a list of what to ignore."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line.strip("/") for line in lines if line and line[0] != "#"]


LEFT_OUT = {ROOT / name for name in listed(".comfyignore") if "*" not in name}


def left_out(path: Path) -> bool:
    return not LEFT_OUT.isdisjoint([path, *path.parents])


def shipped(pattern: str) -> list[Path]:
    """The files of the archive whose names match."""
    ignored = [".git", *listed(".gitignore")]
    tops = [top for top in ROOT.iterdir() if not any(map(top.match, ignored))]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*"))]
    return sorted(file for file in files if file.match(pattern) and not left_out(file))
