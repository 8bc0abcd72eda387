"""A refusal is read where it belongs: the sentence on the node, and in the front end's panel of errors."""

import re

import pytest
from playwright.sync_api import Page, expect

from devtools import frontend
from devtools.server import ComfyServer, PromptFailed, PromptRejected

P = frontend.PREFIX
NEVER = {"shape": "interval", "axis": "percent", "axis.start": 0.25, "axis.end": 0.35, "preserve_mean": True}

# node: nodes before it with their widgets, its own widgets, a part of its sentence
REFUSED: dict[str, tuple[list[tuple[str, dict]], dict, str]] = {
    "ScaleSchedule": ([], {"shape": "keyframes", "shape.points": "half"}, "half"),
    "CFGCombine": ([("CFGCombine", {"method": "apg"})], {"method": "apg"}, "'apg' is already in this model's pipeline"),
    "NullConditionEncoder": ([], {"kind": "empty prompt"}, "'empty prompt' needs the input clip: connect it"),
    "ClassifierGuidance": ([], {"target": "sevn"}, "There is no label 'sevn': did you mean seven?"),
    "ClassifierGuidanceSampler": ([], {"target": ""}, "target is empty: write a label"),
    "GuidanceSweep": ([], {"columns.values": "1, two"}, "Guidance Sweep: "),
    "GuidanceReport": ([("ScaleSchedule", NEVER), ("CFGCombine", {})], {"steps": 2}, "Guidance Report: CFG Combine: "),
    "GuidanceTarget": ([], {"classifier": "gone.safetensors"}, "choose it anew"),
    "LabelledFolder": ([], {"folder": "nowhere"}, "there is no folder 'nowhere'"),
    "LabelledLatents": ([], {"labels": "one, two"}, "write one label for each"),
    "TrainNoisyClassifier": (
        [("LabelledLatents", {"labels": "cat"})],
        {},
        "the latents have 4 channels",
    ),
    "EvaluateNoisyClassifier": ([("LabelledLatents", {"labels": "cat"})], {}, "does not know cat"),
    "SaveNoisyClassifier": ([], {"name": "../out"}, "Save Noisy Classifier: "),
    "LoadNoisyClassifier": ([], {"file": "gone.safetensors"}, "there is no file 'gone.safetensors'"),
    "LoadImageClassifier": ([], {"folder": "pets"}, "Load Image Classifier: "),
    "LoadAestheticHead": ([], {"file": "gone.pth"}, "gone.pth"),
    "ClassCondition": ([], {"label": "cat"}, "There is no label 'cat'"),
}
TEXT = ".guidance-kit-text"
LOOK = "([x, y]) => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [x, y]; app.canvas.setDirty(true, true); }"
REMOVE = "ids => ids.forEach(id => app.graph.remove(app.graph.getNodeById(id)))"


def refused(page: Page, server: ComfyServer, node: str) -> tuple[list[int], str]:
    """Run a node that must refuse; the ids of what was added for it, and its sentence."""
    before, values, sentence = REFUSED[node]
    ids = [frontend.add_node(page, f"{P}{each}", (1000, 0), itself) for each, itself in before]
    ids.append(frontend.add_node(page, f"{P}{node}", (200, 100), values))
    if page.evaluate("id => app.graph.getNodeById(id).outputs.length", ids[-1]):
        ids.append(frontend.add_node(page, "PreviewAny", (1400, 0), sources={"source": f"{P}{node}"}))
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        frontend.press_run(page, server)
    assert sentence in str(caught.value)
    return ids, sentence


def open_panel(page: Page, sentence: str) -> None:
    """Show the sentence in the panel of errors; that of an input is behind a button of its own."""
    overlay = page.get_by_test_id("error-overlay-see-errors")
    information = page.get_by_role("button", name=re.compile("^Info for"))

    def unfold(timeout: int) -> None:
        for button in (overlay, information):
            if button.first.is_visible():
                button.first.click(timeout=timeout)

    overlay.or_(information).or_(page.get_by_test_id("runtime-error-panel")).first.wait_for()
    frontend.again(unfold, lambda timeout: page.get_by_text(sentence).nth(1).wait_for(timeout=timeout))


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_the_sentence_is_on_the_node_and_in_the_panel(renderer: str, pages: dict[str, Page], server: ComfyServer):
    page = pages[renderer]
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "refusals")
    frontend.add_node(page, f"{P}LoadDigitsDemo", (2000, 0))
    frontend.add_node(page, "EmptyLatentImage", (2000, 300), {"width": 128, "height": 128})
    frontend.add_node(page, f"{P}ClassCondition", (2000, 600), {"label": "seven"})
    page.evaluate(LOOK, [100, 100])
    for node in REFUSED:
        ids, sentence = refused(page, server, node)
        expect(page.locator(TEXT).filter(has_text=sentence)).to_be_visible()
        open_panel(page, sentence)
        page.evaluate(REMOVE, ids)
