"""Lists what nodes say and offer that a language does not have: `python -m devtools.untranslated zh`.

It runs the examples of the bundled models and reads what their nodes say; what nodes say elsewhere (refusals, texts of
other models) is not met by it, and stays English where nobody has translated it.
"""

import json
import re
import sys
from collections.abc import Iterator

from devtools.definitions import LISTS_FILES, inputs_of, own_nodes
from devtools.make_locales import LOCALES
from devtools.server import ComfyServer
from devtools.workflow import to_prompt
from devtools.workflows import EXAMPLES, Bundled, place

FOREIGN = ("sampler_name", "scheduler")  # whose choices are ComfyUI's own
WORDS = re.compile(r"[a-z]{3,}")


class Translation:
    """What web/js/translated_texts.js makes of lines; keeps those that a language has no words for."""

    def __init__(self, language: str):
        told = json.loads((LOCALES / language / "main.json").read_text(encoding="utf-8"))["guidanceKit"]
        self.choices: dict[str, str] = told["choices"]
        self.patterns = [(_compiled(english), theirs) for english, theirs in told["texts"].items()]
        self.lacking: set[str] = set()

    def line(self, line: str) -> str:
        """A line, as far as there are words for it."""
        for pattern, translated in self.patterns:
            if found := pattern.fullmatch(line):
                parts, place = [self.line(each) for each in found.groups()], iter(range(len(found.groups())))
                return re.sub(r"\{(\d*)\}", lambda m, p=parts, i=place: p[int(m[1]) if m[1] else next(i)], translated)
        if " " in line and WORDS.search(line):
            self.lacking.add(line)
        return line


def _compiled(english: str) -> re.Pattern:
    return re.compile("(.+?)".join(map(re.escape, english.split("{}"))))


def choices_of(object_info: dict[str, dict]) -> Iterator[str]:
    """Every choice that nodes of the pack offer, but for files and what is ComfyUI's own."""
    for node, info in own_nodes(object_info).items():
        for name, kind, declared, _ in inputs_of(info["input"]):
            if name in LISTS_FILES or f"{node}.{name}" in LISTS_FILES or name in FOREIGN:
                continue
            if kind == "COMFY_DYNAMICCOMBO_V3":
                yield from (option["key"] for option in declared["options"])
            elif kind == "COMBO":
                yield from declared["options"]


def main() -> int:
    """Print choices and lines without a translation; 1 where there are any."""
    translation = Translation(sys.argv[1])
    with ComfyServer() as server:
        info = server.object_info()
        lacking = sorted(set(choices_of(info)) - translation.choices.keys())
        for name, family in EXAMPLES:
            if isinstance(family, Bundled):
                workflow = json.loads(place(name, family).read_text(encoding="utf-8"))
                for texts in server.run(to_prompt(workflow, info)).texts.values():
                    for line in "\n".join(texts).split("\n"):
                        translation.line(line)
    for each in (*lacking, *sorted(translation.lacking)):
        print(each)
    return int(bool(lacking or translation.lacking))


if __name__ == "__main__":
    sys.exit(main())
