"""What users read inside ComfyUI agrees with the nodes: help pages, translations, words to search by."""

import ast
import functools
import json
import re

import pytest

from devtools.definitions import LISTS_FILES, inputs_of, own_nodes
from devtools.host import ROOT
from devtools.make_locales import LOCALES, english, leaves, written
from devtools.untranslated import Translation, choices_of

HELP = ROOT / "web" / "docs"
PAGES = sorted([*HELP.glob("*.md"), *HELP.glob("*/*.md")])
LANGUAGES = sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir() and folder.name != "en")
HEADINGS = {"en": ("Inputs", "Outputs", "When something is wrong"), "zh": ("输入", "输出", "遇到问题时")}
SAYS_NOTHING = re.compile(r"[\W\d_]*")  # a text without a letter needs no translation


@pytest.fixture(scope="module")
def nodes(server) -> dict[str, dict]:
    """The pack's nodes as the front end is told of them."""
    return own_nodes(server.object_info())


def node_and_language(page) -> tuple[str, str]:
    """<node>.md is English, <node>/<language>.md a translation: where the front end looks for help."""
    return (page.stem, "en") if page.parent == HELP else (page.parent.name, page.stem)


PER_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: "-".join(node_and_language(page)))


def section(page, which: int) -> str:
    """The part of a help page under one of its headings."""
    heading = HEADINGS[node_and_language(page)[1]][which]
    found = re.search(rf"(?ms)^## {heading}\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"))
    assert found, f"{page.name} has no section '{heading}'"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a part of a page, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for i, row in enumerate(cells) if not row[0].startswith("---") and not _is_head(cells, i)]


def _is_head(cells: list[list[str]], i: int) -> bool:
    return i + 1 < len(cells) and cells[i + 1][0].startswith("---")


def code(text: str) -> set[str]:
    """What is written as code."""
    return set(re.findall(r"`([^`]+)`", text))


def names_of(node: str, info: dict) -> tuple[set[str], dict[str, set[str]], set[str]]:
    """(a node's own inputs, the inputs of each option of its choices, inputs of choices that list files)."""
    own, options, of_files = set(), {}, set()
    for name, kind, declared, _ in inputs_of(info["input"]):
        own.add(name)
        if kind != "COMFY_DYNAMICCOMBO_V3":
            continue
        for option in declared["options"]:
            inner = {each for each, *_ in inputs_of(option["inputs"])}
            if f"{node}.{name}" in LISTS_FILES:
                of_files |= inner
            else:
                options[option["key"]] = inner
    return own, options, of_files


def test_every_node_has_a_page_and_every_page_a_node(nodes):
    assert {page.stem for page in HELP.glob("*.md")} == set(nodes)
    assert {page.parent.name for page in HELP.glob("*/*.md")} <= set(nodes)


@PER_PAGE
def test_pages_name_every_input_and_output_and_no_other(page, nodes):
    node, _ = node_and_language(page)
    own, options, of_files = names_of(node, nodes[node])
    nested = set().union(of_files, *options.values())
    inputs = section(page, 0)
    firsts = {name for row in rows(inputs) for name in code(row[0])}
    assert own | options.keys() <= firsts, "inputs and options that the page does not tell of"
    assert firsts <= own | options.keys() | nested, "the page tells of inputs that the node does not have"
    assert nested <= code(inputs), "settings of options that the page does not tell of"
    for first, *rest in rows(inputs):
        for option in code(first) & options.keys() - own:
            assert code(" ".join(rest)) <= options[option] | own, f"settings that '{option}' does not have"
    outputs = {name for row in rows(section(page, 1)) for name in code(row[0])}
    assert outputs == set(nodes[node]["output_name"])


@PER_PAGE
def test_pages_show_their_node(page):
    node, _ = node_and_language(page)
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert pictures == [f"images/{node}.png"]
    assert (HELP / pictures[0]).read_bytes().startswith(b"\x89PNG")


@functools.cache
def spoken() -> list[str]:
    """The texts in the pack's source, with … for what is filled in."""
    found = []
    for file in [*(ROOT / "nodes").rglob("*.py"), *(ROOT / "guidance_core").rglob("*.py")]:
        for part in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(part, ast.JoinedStr):
                found.append("".join(each.value if isinstance(each, ast.Constant) else "…" for each in part.values))
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
    return found


def quoted(page) -> list[str]:
    """The messages that a page explains: “in quotes”, with … for what differs or is left out."""
    found = [text for row in rows(section(page, 2)) for text in re.findall("“([^”]+)”", row[0])]
    return [text for text in found if re.search("[a-z]{3}", text)]  # nodes have their names in such quotes in Chinese


@PER_PAGE
def test_pages_explain_messages_that_exist(page):
    texts = spoken()
    for message in quoted(page):
        pattern = re.compile(".*".join(re.escape(part.strip(" ")) for part in message.split("…")), re.DOTALL)
        assert any(pattern.search(text) for text in texts), f"nothing in the pack says: {message}"


@PER_PAGE
def test_pages_of_a_node_have_its_name_and_tell_the_same(page):
    node, language = node_and_language(page)
    title = page.read_text(encoding="utf-8").splitlines()[0]
    assert title == f"# {written(language)[node]['display_name']}"
    english_page = HELP / f"{node}.md"
    assert sorted(quoted(page)) == sorted(quoted(english_page)), "other messages than in English"
    for which in range(3):
        assert len(rows(section(page, which))) == len(rows(section(english_page, which))), (
            "other tables than in English"
        )


def test_english_is_that_of_the_nodes(server):
    assert written("en") == english(server.object_info()), "run python -m devtools.make_locales"


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_whole_and_say_something(language):
    source, translation = dict(leaves(written("en"))), dict(leaves(written(language)))
    assert translation.keys() == source.keys()
    for path, text in translation.items():
        assert text.strip(), path
        if path[-1] != "name" and not SAYS_NOTHING.fullmatch(source[path]):
            assert text != source[path], f"{path} is not translated"
            assert text.count("\n") == source[path].count("\n"), f"{path} has other lines"


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_texts_that_the_front_end_compiles_hold_no_syntax_of_its_messages(language):
    """Names and descriptions are compiled: | is a plural, {}, @ and $ stand for something. Tooltips are not."""
    for path, text in leaves(written(language)):
        if path[-1] in ("name", "display_name", "description"):
            assert not re.search(r"[{}@|$]", text), (path, text)


def test_locales_hold_only_what_comfyui_reads():
    files = {str(file.relative_to(LOCALES)) for file in LOCALES.rglob("*") if file.is_file()}
    nodes = {f"{language}/nodeDefs.json" for language in ["en", *LANGUAGES]}
    assert files == nodes | {f"{language}/main.json" for language in LANGUAGES}  # run texts and choices, translated
    for file in files:
        text = (LOCALES / file).read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"


FOUND = {  # what users type, and a node that they must find
    "cfg": ["CFGCombine", "ScaleSchedule", "GuidanceReport", "NullConditionEncoder"],
    "guidance": ["CFGCombine", "ClassifierGuidance", "ClassifierGuidanceSampler", "GuidanceTarget", "GuidanceReport"],
    "classifier": ["ClassifierGuidance", "TrainNoisyClassifier", "LoadNoisyClassifier", "EvaluateNoisyClassifier"],
    "negative": ["CFGCombine", "NullConditionEncoder", "GuidanceTarget", "ClassifierGuidance"],
    "schedule": ["ScaleSchedule", "CFGCombine"],
    "interval": ["ScaleSchedule", "CFGCombine"],
    "curve": ["ScaleSchedule"],
    "uncond": ["NullConditionEncoder", "CFGCombine", "LearnNullCondition", "SaveNullCondition"],
    "rescale": ["CFGCombine"],
    "perp-neg": ["CFGCombine"],
    "apg": ["CFGCombine"],
    "sampler": ["ClassifierGuidanceSampler"],
    "label": ["LabelledFolder", "LabelledLatents", "GuidanceTarget", "ClassCondition"],
    "labeled": ["LabelledFolder", "LabelledLatents"],
    "dataset": ["LabelledFolder", "LabelledLatents"],
    "training": ["TrainNoisyClassifier", "LabelledFolder"],
    "save": ["SaveNoisyClassifier"],
    "load": ["LoadNoisyClassifier", "LoadImageClassifier", "LoadDigitsDemo"],
    "nsfw": ["LoadImageClassifier"],
    "emoji": ["LoadEmojiDemo"],
    "reference": ["ImageReferences", "TextReferences"],
    "clip guidance": ["TextReferences"],
    "aesthetic": ["LoadAestheticHead"],
    "demo": ["LoadDigitsDemo", "LoadEmojiDemo"],
    "grid": ["GuidanceSweep"],
    "compare": ["GuidanceSweep"],
    "accuracy": ["EvaluateNoisyClassifier"],
    "class": ["ClassCondition"],
    "pag": ["SelfGuidance", "WeakenModel"],
    "cfg 1": ["SelfGuidance"],
    "history": ["HistoryGuidance"],
    "variety": ["VaryCondition"],
}


@pytest.mark.parametrize("word", FOUND)
def test_nodes_are_found_by_common_words(word, nodes):
    for name in FOUND[word]:
        info = nodes[f"GuidanceKit{name}"]
        texts = [info["display_name"], *info["search_aliases"]]
        assert any(word in text.lower() for text in texts), f"'{word}' does not find {info['display_name']}"


def test_every_node_is_searched_for(nodes):
    assert {f"GuidanceKit{name}" for names in FOUND.values() for name in names} == set(nodes)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_choice_is_translated(server, language):
    assert set(choices_of(server.object_info())) - Translation(language).choices.keys() == set()


def test_texts_are_translated_part_by_part_and_the_others_kept():
    chinese = Translation("zh")
    assert chinese.line("Self-guidance: scale 2, constant; 25 of 25 steps.") == "自引导：强度 2，恒定；25 / 25 步。"
    assert chinese.line("Condition annealing (CADS): varied the prompt tokens at 20 of 25 calls.") == (
        "条件退火 (CADS)：在 20 / 25 次调用中改变了提示词标记。"
    )
    assert chinese.line("Words of nobody's") == "Words of nobody's"
    assert chinese.lacking == {"Words of nobody's"}
