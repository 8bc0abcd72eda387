"""Writes locales/en/nodeDefs.json from the node definitions: `python -m devtools.make_locales`.

English is written once, in the nodes. The other languages are translations of this file, key by key; the command tells
what they lack, what they have too much, and what was translated from words that have changed since.
"""

import json
import sys
from collections.abc import Iterator

from devtools.definitions import inputs_of, own_nodes
from devtools.host import ROOT
from devtools.make_definitions import write_json
from devtools.server import ComfyServer

LOCALES = ROOT / "locales"


def english(object_info: dict[str, dict]) -> dict[str, dict]:
    """The words of the pack's nodes, by the keys under which ComfyUI's front end looks for translations.

    An input of a choice (`method.eta`) has the key `method_eta` under every option; where its tooltips differ between
    options, they are listed by option, for web/translated_options.js.
    """
    return {node: _words(info) for node, info in sorted(own_nodes(object_info).items())}


def _words(info: dict) -> dict:
    inputs = {}
    for name, kind, declared, _ in inputs_of(info["input"]):
        inputs[name] = _named(declared.get("display_name") or name, declared.get("tooltip"))
        if declared.get("control_after_generate"):
            inputs["control_after_generate"] = {"name": "control after generate"}
        if kind == "COMFY_DYNAMICCOMBO_V3":
            inputs |= _nested(name, declared["options"])
    outputs = {
        str(place): _named(name, tooltip)
        for place, (name, kind, tooltip) in enumerate(
            zip(info["output_name"], info["output"], info["output_tooltips"], strict=True)
        )
        if name != kind or tooltip  # the front end has words of its own for types
    }
    words = {"display_name": info["display_name"], "description": info["description"], "inputs": inputs}
    return words | ({"outputs": outputs} if outputs else {})


def _named(name: str, tooltip: str | None) -> dict:
    return {"name": name} | ({"tooltip": tooltip} if tooltip else {})


def _nested(parent: str, options: list[dict]) -> dict[str, dict]:
    tooltips: dict[str, dict[str, str | None]] = {}
    for option in options:
        for name, _, declared, _ in inputs_of(option["inputs"]):
            tooltips.setdefault(name, {})[option["key"]] = declared.get("tooltip")
    return {
        f"{parent}_{name}": _named(name, next(iter(by_option.values())))
        if len(set(by_option.values())) == 1
        else {"name": name, "options": {option: tooltip for option, tooltip in by_option.items() if tooltip}}
        for name, by_option in tooltips.items()
    }


def written(language: str) -> dict:
    """A language's file."""
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def leaves(words: dict | str, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, text) of every text in a language's file."""
    if isinstance(words, str):
        yield path, words
    else:
        for key, value in words.items():
            yield from leaves(value, (*path, key))


def main() -> int:
    """Rewrite English, and tell what the translations have to follow."""
    with ComfyServer() as server:
        words = english(server.object_info())
    file = LOCALES / "en" / "nodeDefs.json"
    before = dict(leaves(written("en"))) if file.is_file() else {}
    now = dict(leaves(words))
    write_json(file, words)
    print(f"Wrote {len(now)} texts of {len(words)} nodes.")
    for folder in sorted(each for each in LOCALES.iterdir() if each.is_dir() and each.name != "en"):
        theirs = dict(leaves(written(folder.name)))
        for path in now.keys() - theirs.keys():
            print(f"{folder.name} lacks {'.'.join(path)}: {now[path]}")
        for path in theirs.keys() - now.keys():
            print(f"{folder.name} has {'.'.join(path)}, which is gone")
        for path in now.keys() & before.keys() & theirs.keys():
            if now[path] != before[path]:
                print(f"{folder.name} was translated from other words: {'.'.join(path)}: {now[path]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
