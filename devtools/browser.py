"""Finds a Chromium on this machine, or gets one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    "%ProgramFiles%/Google/Chrome/Application/chrome.exe",
    "%ProgramFiles(x86)%/Google/Chrome/Application/chrome.exe",
    "%LocalAppData%/Google/Chrome/Application/chrome.exe",
    "%ProgramFiles(x86)%/Microsoft/Edge/Application/msedge.exe",
)

# Drawn in software, alone on the machine, and silent towards the network.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def executable(playwright: Playwright) -> Path:
    """The path of a Chromium, Chrome or Edge; installs Chromium where there is none."""
    found = _installed() or _downloaded(playwright)
    if found is None:
        _install()
        found = _installed() or _downloaded(playwright)
    if found is None:
        raise SystemExit("No Chromium, Chrome or Edge was found, and none could be installed; install one of them.")
    return found


def _installed() -> Path | None:
    for name in NAMES:
        if path := shutil.which(name):
            return Path(path)
    places = (Path(os.path.expandvars(place)) for place in ELSEWHERE)
    return next((place for place in places if place.is_file()), None)


def _downloaded(playwright: Playwright) -> Path | None:
    path = Path(playwright.chromium.executable_path)
    return path if path.is_file() else None


def _install() -> None:
    """Install Chromium from Debian's own packages where that is allowed, else let Playwright download one."""
    print("Installing Chromium (once).", flush=True)
    if sys.platform == "linux" and os.geteuid() == 0 and Path("/etc/debian_version").is_file():
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=quiet, stdout=subprocess.DEVNULL)
        packages = ["chromium", "fonts-dejavu-core"]
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        if subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL).returncode == 0:
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"])


if __name__ == "__main__":
    with sync_playwright() as playwright:
        print(f"Browser: {executable(playwright)}")
