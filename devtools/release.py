"""Checks a release and tells the registry where its pictures are: `python -m devtools.release --repository OWNER/NAME`.

Run by the publish workflow on a fresh checkout. The repository's address is not in pyproject.toml, so that a fork's
release points at the fork.
"""

import argparse
import re
import subprocess
import sys

from devtools.host import ROOT

VERSION = re.compile(r'^version = "(.+)"$', re.MULTILINE)
SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
REPOSITORY = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+")
PICTURES = {"Icon": "docs/images/icon.png", "Banner": "docs/images/banner.png"}


def faults(pyproject: str, changelog: str, tag: str | None = None) -> list[str]:
    """What stands in the way of a release, in sentences."""
    version = VERSION.findall(pyproject)
    if len(version) != 1 or not SEMANTIC.fullmatch(version[0]):
        return ["pyproject.toml needs one version of the form 1.2.3."]
    found = []
    heading = re.search(rf"^## {re.escape(version[0])} \((.+)\)$", changelog, re.MULTILINE)
    if heading is None:
        found.append(f"CHANGELOG.md has no heading '## {version[0]} (date)'.")
    elif not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[1]):
        found.append(f"CHANGELOG.md calls {version[0]} '{heading[1]}'; write the day of the release as 2030-01-31.")
    if tag is not None and tag != f"v{version[0]}":
        found.append(f"The tag is {tag}, but pyproject.toml says {version[0]}; tag the release v{version[0]}.")
    return found


def with_addresses(pyproject: str, repository: str, tag: str) -> str:
    """pyproject.toml with the repository's address and those of the icon and the banner at that tag."""
    page, raw = f"https://github.com/{repository}", f"https://raw.githubusercontent.com/{repository}/{tag}"
    urls = f'[project.urls]\nRepository = "{page}"\nDocumentation = "{page}#readme"\n"Bug Tracker" = "{page}/issues"\n'
    pictures = "".join(f'{name} = "{raw}/{path}"\n' for name, path in PICTURES.items())
    before, heading, after = pyproject.partition("[tool.comfy]\n")
    return f"{before}{urls}\n{heading}{pictures}{after}"


def main() -> int:
    """Refuse what is no release, then write the addresses into pyproject.toml."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repository", required=True, help="owner/name")
    parser.add_argument("--tag", help="the tag that is released (default: that of the commit)")
    asked = parser.parse_args()
    if not REPOSITORY.fullmatch(asked.repository):
        sys.exit(f"--repository must be owner/name, got '{asked.repository}'.")
    described = ["git", "describe", "--exact-match", "--tags"]
    tag = asked.tag or subprocess.run(described, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    path = ROOT / "pyproject.toml"
    pyproject = path.read_text(encoding="utf-8")
    if found := faults(pyproject, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), tag):
        sys.exit("\n".join(found))
    path.write_text(with_addresses(pyproject, asked.repository, tag), encoding="utf-8")
    print(f"{tag} of {asked.repository} is ready for the registry.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
