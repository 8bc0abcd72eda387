"""A refusal is read where it belongs: the sentence on the node, and in the front end's panel of errors."""

import re
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, expect

from devtools import frontend
from devtools.server import ComfyServer, PromptFailed, PromptRejected

P = frontend.PREFIX
NEVER = {"shape": "interval", "axis": "percent", "axis.start": 0.25, "axis.end": 0.35, "preserve_mean": True}


@dataclass(frozen=True)
class Refusal:
    """How a node is brought to refuse. before: nodes before it, with their widgets; sources: which to connect."""

    sentence: str  # a part of it
    values: dict = field(default_factory=dict)
    before: tuple[tuple[str, dict], ...] = ()
    sources: dict[str, str] = field(default_factory=dict)


ONE_LABEL = ((f"{P}LabelledLatents", {"labels": "cat"}),)
REFUSED = {
    "ScaleSchedule": Refusal("half", {"shape": "keyframes", "shape.points": "half"}),
    "CFGCombine": Refusal(
        "'apg' is already in this model's pipeline", {"method": "apg"}, ((f"{P}CFGCombine", {"method": "apg"}),)
    ),
    "NullConditionEncoder": Refusal("'empty prompt' needs the input clip: connect it", {"kind": "empty prompt"}),
    "LearnNullCondition": Refusal("Learn Null Condition: "),
    "SaveNullCondition": Refusal("Save Null Condition: ", {"name": "../out"}),
    "ClassifierGuidance": Refusal("There is no label 'sevn': did you mean seven?", {"target": "sevn"}),
    "ClassifierGuidanceSampler": Refusal("target is empty: write a label", {"target": ""}),
    "GuidanceSweep": Refusal("Guidance Sweep: ", {"columns.values": "1, two"}),
    "GuidanceReport": Refusal(
        "Guidance Report: CFG Combine: ", {"steps": 2}, ((f"{P}ScaleSchedule", NEVER), (f"{P}CFGCombine", {}))
    ),
    "GuidanceTarget": Refusal("choose it anew", {"classifier": "gone.safetensors"}),
    "HistoryGuidance": Refusal("t_min must be below t_max", {"term": "higs", "term.t_min": 0.9, "term.t_max": 0.5}),
    "ImageReferences": Refusal(
        "use CLIP, SigLIP or DINO", before=(("ProbeVision", {"kind": "naflex"}), ("EmptyImage", {}))
    ),
    "TextReferences": Refusal("text is empty", {"text": ""}, (("ProbeVision", {}), ("ProbeTextTower", {}))),
    "LabelledFolder": Refusal("there is no folder 'nowhere'", {"folder": "nowhere"}),
    "LabelledLatents": Refusal("write one label for each", {"labels": "one, two"}),
    "TrainNoisyClassifier": Refusal("the latents have 4 channels", before=ONE_LABEL),
    "EvaluateNoisyClassifier": Refusal("does not know cat", before=ONE_LABEL),
    "SaveNoisyClassifier": Refusal("Save Noisy Classifier: ", {"name": "../out"}),
    "LoadNoisyClassifier": Refusal("there is no file 'gone.safetensors'", {"file": "gone.safetensors"}),
    "LoadImageClassifier": Refusal("Load Image Classifier: ", {"folder": "pets"}),
    "LoadAestheticHead": Refusal("gone.pth", {"file": "gone.pth"}),
    "ClassCondition": Refusal("There is no label 'cat'", {"label": "cat"}),
    "SelfGuidance": Refusal(
        "connect a model of the same family",
        before=((f"{P}LoadEmojiDemo", {}),),
        sources={"model": f"{P}LoadDigitsDemo", "weak": f"{P}LoadEmojiDemo"},
    ),
    "VaryCondition": Refusal("choose it anew", {"variety": "gone"}),
    "WeakenModel": Refusal("has no block", {"way": "perturbed_attention", "way.blocks": "99"}),
}
TEXT = ".guidance-kit-text"
LOOK = "([x, y]) => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [x, y]; app.canvas.setDirty(true, true); }"
REMOVE = "ids => ids.forEach(id => app.graph.remove(app.graph.getNodeById(id)))"


def refused(page: Page, server: ComfyServer, node: str) -> list[int]:
    """Run a node that must refuse; the ids of what was added for it."""
    asked = REFUSED[node]
    ids = [frontend.add_node(page, each, (1000, 0), values) for each, values in asked.before]
    ids.append(frontend.add_node(page, f"{P}{node}", (200, 100), asked.values, asked.sources))
    if page.evaluate("id => app.graph.getNodeById(id).outputs.length", ids[-1]):
        ids.append(frontend.add_node(page, "PreviewAny", (1400, 0), sources={"source": f"{P}{node}"}))
    with pytest.raises((PromptFailed, PromptRejected)) as caught:
        frontend.press_run(page, server)
    assert asked.sentence in str(caught.value)
    return ids


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


def test_each_node_that_is_given_anything_is_brought_to_refuse(object_info: dict[str, dict]):
    inputs = {each: object_info[each]["input"] for each in frontend.pack_nodes(object_info)}
    given = [each for each, groups in inputs.items() if groups.get("required") or groups.get("optional")]
    assert sorted(given) == sorted(f"{P}{each}" for each in REFUSED)


@pytest.mark.parametrize("renderer", frontend.RENDERERS)
def test_the_sentence_is_on_the_node_and_in_the_panel(renderer: str, pages: dict[str, Page], server: ComfyServer):
    page = pages[renderer]
    frontend.load(page, {"nodes": [], "links": [], "version": 0.4}, "refusals")
    frontend.add_node(page, f"{P}LoadDigitsDemo", (2000, 0))
    frontend.add_node(page, "EmptyLatentImage", (2000, 300), {"width": 128, "height": 128})
    frontend.add_node(page, f"{P}ClassCondition", (2000, 600), {"label": "seven"})
    page.evaluate(LOOK, [100, 100])
    for node in REFUSED:
        ids, sentence = refused(page, server, node), REFUSED[node].sentence
        expect(page.locator(TEXT).filter(has_text=sentence)).to_be_visible()
        open_panel(page, sentence)
        page.evaluate(REMOVE, ids)
