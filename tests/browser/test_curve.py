"""Scale Schedule draws its curve on the node while its widgets change, before anything runs."""

import itertools
import json
import re
import sys

import pytest
from playwright.sync_api import Page

import guidance_core as gc
from devtools import frontend
from devtools.host import ROOT
from devtools.server import ComfyServer
from devtools.workflows import DIGITS, place
from guidance_core.run import percent_of_training
from guidance_core.shapes import Keyframes, Power

SCREENSHOTS = ROOT / "output" / "browser"
STEPS = 12
TRAINING = gc.sigmas_from_betas(gc.betas("scaled_linear"))
SIGMAS = gc.karras(float(TRAINING[0]), float(TRAINING[-1]), STEPS)
RUN = gc.Run(sigmas=tuple(SIGMAS.tolist()), percent=percent_of_training(TRAINING))

# A schedule that leads through CFG Combine to a KSampler; `set` writes a widget as a user's hand does.
GRAPH = """
(steps) => {
  app.graph.clear();
  window.make = (type, x) => {
    const node = LiteGraph.createNode(type);
    node.pos = [x, 60];
    app.graph.add(node);
    return node;
  };
  window.set = (node, name, value) => {
    const widget = node.widgets.find((each) => each.name === name);
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
  };
  window.schedule = make("GuidanceKitScaleSchedule", 60);
  window.combine = make("GuidanceKitCFGCombine", 420);
  window.sampler = make("KSampler", 760);
  schedule.connect(0, combine, combine.findInputSlot("schedule"));
  combine.connect(0, sampler, 0);
  set(sampler, "steps", steps);
  set(sampler, "scheduler", "karras");
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [60, 60];
  app.canvas.setDirty(true, true);
}
"""
CURVE = ".guidance-kit-curve"
SEEDS = itertools.count(1000)  # a new one for each run, or its latent would be taken from the one before


def build(page: Page) -> None:
    page.evaluate(GRAPH, STEPS)
    page.wait_for_selector(f"{CURVE} .curve[d]", state="attached")


def change(page: Page, node: str = "schedule", **values: object) -> None:
    """Write widgets, `shape__low` for shape.low."""
    for name, value in values.items():
        page.evaluate(f"([name, value]) => set({node}, name, value)", [name.replace("__", "."), value])


def caption(page: Page) -> str:
    return page.text_content(f"{CURVE} .caption")


def awaited(page: Page, pattern: str) -> str:
    """The caption as soon as it matches."""
    page.wait_for_function(
        "([at, pattern]) => new RegExp(pattern).test(document.querySelector(at)?.textContent ?? '')",
        arg=[f"{CURVE} .caption", pattern],
    )
    return caption(page)


def titled(page: Page, title: str) -> None:
    """Wait until the curve has this title."""
    page.wait_for_function(
        "([at, title]) => document.querySelector(at)?.textContent === title", arg=[f"{CURVE} .title", title]
    )


def drawn(page: Page, path: str) -> list[tuple[float, float]]:
    """The points of a path, as place in the run and strength."""
    d = page.get_attribute(f"{CURVE} .{path}", "d")
    top, _, bottom = (float(text) for text in page.locator(f"{CURVE} .range span").all_text_contents())
    points = [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.e-]+) ([\d.e-]+)", d)]
    return [(x, top - y * (top - bottom)) for x, y in points]


def dots(page: Page) -> list[float]:
    """The strengths of the steps, in order."""
    return [strength for _, strength in sorted(drawn(page, "on") + drawn(page, "off"))]


SCHEDULES = {
    "cosine": ({"shape": "cosine", "shape__low": 0.2}, gc.ScaleSchedule("cosine", 0.0, 1.0, low=0.2)),
    "power": (
        {"shape": "power", "shape__exponent": 3.0, "axis": "percent", "axis__start": 0.2, "axis__end": 0.9},
        gc.ScaleSchedule(Power(3.0), 0.2, 0.9, axis="percent"),
    ),
    "interval": (
        {"shape": "interval", "axis": "sigma", "axis__start": 6.1, "axis__end": 0.31},
        gc.ScaleSchedule("interval", 6.1, 0.31, axis="sigma"),
    ),
    "keyframes": (
        {"shape": "keyframes", "shape__points": "0: 0, 0.3: 2, 1: 0.5", "axis": "log_snr", "reverse": True},
        gc.ScaleSchedule(Keyframes("0: 0, 0.3: 2, 1: 0.5"), axis="log_snr", reverse=True),
    ),
}


def test_what_is_drawn_is_the_schedule(page: Page):
    """After each change of widgets: other pixels, the schedule's own points, and a dot for each step."""
    build(page)
    pictures = [page.locator(CURVE).screenshot()]
    for values, schedule in SCHEDULES.values():
        before = page.get_attribute(f"{CURVE} .curve", "d")
        change(page, **values)
        page.wait_for_function(
            "([at, title]) => document.querySelector(at).textContent === title",
            arg=[f"{CURVE} .title", f"strength: {values['shape']}"],
        )
        expected = [schedule.over(RUN)(level) for level in RUN.levels]
        page.wait_for_function(  # the last of several changes has arrived
            "([at, wanted]) => document.querySelector(at).textContent === wanted",
            arg=[f"{CURVE} .caption", told(schedule, expected)],
        )
        frontend.eventually(page, lambda wanted=expected: shows(page, wanted))
        assert page.get_attribute(f"{CURVE} .curve", "d") != before
        pictures.append(page.locator(CURVE).screenshot())
    assert all(a != b for a, b in itertools.combinations(pictures, 2))


def shows(page: Page, strengths: list[float]) -> None:
    """The dots, and the curve where it passes them, have these strengths."""
    assert dots(page) == pytest.approx(strengths, abs=0.01)
    curve = drawn(page, "curve")
    pieces = (len(curve) - 1) // (STEPS - 1)
    assert [strength for _, strength in curve[::pieces]] == pytest.approx(strengths, abs=0.01)


def told(schedule: gc.ScaleSchedule, strengths: list[float]) -> str:
    off = sum(abs(strength) < 1e-6 for strength in strengths)
    counts = ", ".join(f"{n} {word}" for n, word in ((STEPS - off, "guided"), (off, "single-pass")) if n)
    note = "" if schedule.axis == "step" else ", on Stable Diffusion's noise levels"
    return f"{STEPS} steps: {counts}{note}"


def test_an_impossible_window_is_told_on_the_node(page: Page):
    """In a sentence, over the last curve; the next possible window draws again. No console error: see `page`."""
    build(page)
    change(page, axis__start=0.8, axis__end=0.3)
    assert awaited(page, "start must come").startswith("start must come before end: step rises over a run")
    assert "refused" in page.get_attribute(CURVE, "class") and drawn(page, "curve")
    page.screenshot(path=shot(page, "refused"))
    change(page, axis__end=0.9)
    awaited(page, "12 steps")
    assert "refused" not in page.get_attribute(CURVE, "class")


def test_dots_follow_the_sampler(page: Page):
    """One for each step of the sampler that the schedule leads to; none without one; through a custom sampler too."""
    build(page)
    change(page, shape="cosine")
    awaited(page, "^12 steps: 11 guided, 1 single-pass$")
    change(page, "sampler", steps=7)
    awaited(page, "^7 steps: 6 guided, 1 single-pass$")
    assert len(dots(page)) == 7
    page.evaluate("() => sampler.disconnectInput(0)")
    awaited(page, "^no sampler connected yet$")
    assert dots(page) == []
    page.evaluate("""() => {
      const guider = make("CFGGuider", 760);
      const custom = make("SamplerCustomAdvanced", 1000);
      const sigmas = make("BasicScheduler", 760);
      const reroute = make("Reroute", 700);
      combine.connect(0, reroute, 0);
      reroute.connect(0, guider, guider.findInputSlot("model"));
      guider.connect(0, custom, custom.findInputSlot("guider"));
      sigmas.connect(0, custom, custom.findInputSlot("sigmas"));
      set(sigmas, "steps", 9);
    }""")
    awaited(page, "^9 steps: 8 guided, 1 single-pass$")
    page.evaluate("""() => {
      const steps = make("PrimitiveInt", 500);
      const sigmas = app.graph.nodes.find((node) => node.type === "BasicScheduler");
      steps.connect(0, sigmas, sigmas.findInputSlot("steps"));
      set(steps, "value", 15);
    }""")
    awaited(page, "^15 steps: 14 guided, 1 single-pass$")


def test_subgraphs_are_seen_through(page: Page):
    """From a schedule to a sampler inside of another subgraph, and out of the schedule's own."""
    build(page)
    change(page, shape="cosine")
    page.evaluate("() => { app.graph.convertToSubgraph(new Set([sampler])); }")
    page.evaluate("""() => {
      const inner = app.graph.nodes.find((node) => node.subgraph);
      set(inner.subgraph.nodes.find((node) => node.type === "KSampler"), "steps", 8);
    }""")
    awaited(page, "^8 steps: 7 guided, 1 single-pass$")
    page.evaluate("() => { app.graph.convertToSubgraph(new Set([schedule, combine])); }")
    page.evaluate("""() => {
      const holds = (type) => (node) => node.subgraph?.nodes.some((inner) => inner.type === type);
      const { subgraph } = app.graph.nodes.find(holds("GuidanceKitScaleSchedule"));
      window.schedule = subgraph.nodes.find((node) => node.type === "GuidanceKitScaleSchedule");
      set(app.graph.nodes.find(holds("KSampler")).subgraph.nodes.find((node) => node.type === "KSampler"), "steps", 11);
      app.canvas.setGraph(subgraph);
    }""")
    awaited(page, "^11 steps: 10 guided, 1 single-pass$")


def test_a_sweep_is_asked_what_its_axis_drives(page: Page):
    """The same socket leads to CFG or to the classifier, as the axis says."""
    build(page)
    change(page, shape="cosine")
    page.evaluate("""() => {
      window.sweep = make("GuidanceKitGuidanceSweep", 760);
      set(sweep, "steps", 9);
    }""")
    for side, kind, words in (
        ("columns", "classifier", "8 steered, 1 not steered"),
        ("rows", "cfg", "8 guided, 1 single-pass"),
    ):
        page.evaluate(
            """([side, kind]) => {
              set(sweep, side, kind);
              schedule.disconnectOutput(0);
              schedule.connect(0, sweep, sweep.findInputSlot(`${side}.schedules.schedule0`));
            }""",
            [side, f"{kind} schedule"],
        )
        awaited(page, f"^9 steps: {words}$")


def test_each_step_is_told_under_the_pointer(page: Page):
    build(page)
    change(page, shape="linear", shape__high=1.1)
    awaited(page, "^12 steps: 11 guided")

    def told_at_seven():  # the node may still grow, and each answer of the server takes the words away
        box = page.locator(f"{CURVE} svg").bounding_box()
        for share in (6.0, 6.1):
            page.mouse.move(box["x"] + box["width"] * share / 11, box["y"] + box["height"] / 2)
        assert page.text_content(f"{CURVE} .read") == "step 7 of 12: strength 0.6"

    frontend.eventually(page, told_at_seven)
    page.screenshot(path=shot(page, "hover"))


def test_a_connected_curve_is_drawn(page: Page):
    """A Curve Editor's, as it stands in its widget; any other node's is left to the picture after a run."""
    build(page)
    page.evaluate("""() => {
      window.editor = make("CurveEditor", 60);
      editor.pos = [60, 620];
      editor.connect(0, schedule, schedule.findInputSlot("curve"));
    }""")
    page.wait_for_function(
        "at => document.querySelector(at).textContent === 'strength: drawn curve'", arg=f"{CURVE} .title"
    )
    change(page, "editor", curve={"points": [[0, 1], [0.5, 0.2], [1, 1]], "interpolation": "linear"})
    page.wait_for_function(
        "at => /1 0\\.0*$/.test(document.querySelector(at).getAttribute('d'))", arg=f"{CURVE} .curve"
    )
    frontend.eventually(page, lambda: shows(page, [1 - 1.6 * min(i / 11, 1 - i / 11) for i in range(STEPS)]))
    page.evaluate("""() => {
      const other = make("CurveEditor", -300);
      other.connect(0, editor, editor.findInputSlot("curve"));
    }""")
    awaited(page, "^curve comes from another node")


def values_of(page: Page) -> dict:
    return page.evaluate(
        "() => Object.fromEntries(app.graph.serialize().nodes.map((node) => [node.type, node.widgets_values]))"
    )


def test_saved_workflows_keep_their_values(page: Page):
    """Saved, loaded and saved again; a workflow saved before there was a curve on the node; undone changes."""
    build(page)
    change(page, shape="power", shape__exponent=2.5, axis="percent", axis__end=0.75, preserve_mean=True)
    saved = values_of(page)
    assert saved["GuidanceKitScaleSchedule"] == ["power", 2.5, 0, 1, "percent", 0, 0.75, False, True]
    workflow = page.evaluate("() => JSON.parse(JSON.stringify(app.graph.serialize()))")
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    awaited(page, "12 steps")
    assert values_of(page) == saved
    prompt = page.evaluate("async () => (await app.graphToPrompt()).output")
    [inputs] = [node["inputs"] for node in prompt.values() if node["class_type"] == "GuidanceKitScaleSchedule"]
    assert sorted(inputs) == sorted(
        ["shape", "shape.exponent", "shape.low", "shape.high", "axis", "axis.start", "axis.end"]
        + ["reverse", "preserve_mean"]
    )
    old = json.loads(place("cfg_in_an_interval", DIGITS).read_text(encoding="utf-8"))
    page.evaluate("workflow => app.loadGraphData(workflow)", old)
    awaited(page, "^25 steps: .*noise levels")
    before = next(node["widgets_values"] for node in old["nodes"] if node["type"] == "GuidanceKitScaleSchedule")
    assert values_of(page)["GuidanceKitScaleSchedule"] == before
    assert page.text_content(f"{CURVE} .title") == "strength: interval"


# Counts the frames that Scale Schedule's script asks for, and tells how many they are while five pass.
COUNT_FRAMES = """() => {
  const known = window.requestAnimationFrame;
  window.frames_asked = 0;
  window.requestAnimationFrame = (callback) => {
    if (new Error().stack.includes("scale_schedule.js")) frames_asked++;
    return known.call(window, callback);
  };
}"""
ASKED_IN_FIVE = """() => new Promise((done) => {
  const before = frames_asked;
  let left = 5;
  const frame = () => (--left ? requestAnimationFrame(frame) : done(frames_asked - before));
  requestAnimationFrame(frame);
})"""


def test_only_nodes_in_a_graph_are_looked_at(page: Page):
    """A copy makes nodes that enter none; what is deleted rests, and draws again once it is back."""
    build(page)
    page.evaluate(COUNT_FRAMES)
    assert page.evaluate(ASKED_IN_FIVE) > 0
    page.evaluate("() => { app.graph.remove(schedule); app.graph.add(schedule); }")
    change(page, shape="linear")
    titled(page, "strength: linear")
    page.locator("#graph-canvas").focus()
    for key in ("Control+a", "Control+c", "Delete"):
        page.keyboard.press(key)
    page.wait_for_function("() => app.graph.nodes.length === 0")
    assert page.evaluate(ASKED_IN_FIVE) == 0
    page.keyboard.press("Control+z")
    titled(page, "strength: linear")
    page.evaluate("() => { window.schedule = app.graph.nodes.find((n) => n.type === 'GuidanceKitScaleSchedule'); }")
    change(page, shape="cosine")
    titled(page, "strength: cosine")
    page.evaluate("() => app.graph.clear()")
    assert page.evaluate(ASKED_IN_FIVE) == 0


# The edges of the node on the page, and the lower edge of its last widget above the curve.
PLACE = """() => {
  const node = app.graph.nodes.find((each) => each.type === "GuidanceKitScaleSchedule");
  const { scale, offset } = app.canvas.ds;
  const canvas = app.canvas.canvas.getBoundingClientRect();
  const last = node.widgets.filter((widget) => widget.type !== "guidance_kit_curve").at(-1);
  const x = (place) => canvas.left + (node.pos[0] + offset[0] + place) * scale;
  const y = (place) => canvas.top + (node.pos[1] + offset[1] + place) * scale;
  const edges = { left: x(0), right: x(node.size[0]), bottom: y(node.size[1]), below: y(last.y + 20) };
  return { ...edges, scale, vue: LiteGraph.vueNodesMode };
}"""
INSIDE = """at => {
  const { bottom } = document.querySelector(at).getBoundingClientRect();
  return [...document.querySelectorAll(`${at} *`)].every((each) => each.getBoundingClientRect().bottom <= bottom + 4);
}"""


def lies_on_its_node(page: Page) -> None:
    box, node = page.locator(CURVE).bounding_box(), page.evaluate(PLACE)
    assert box["height"] >= 165 * node["scale"]
    assert node["left"] <= box["x"] and box["x"] + box["width"] <= node["right"] + 1
    assert box["y"] + box["height"] <= node["bottom"] + 1
    if not node["vue"]:  # there the page lays the widgets out
        assert box["y"] >= node["below"]
    assert page.evaluate(INSIDE, CURVE)


def test_the_curve_lies_on_its_node(page: Page):
    """Below the other widgets and inside of the node, for every shape; a node saved too small grows."""
    build(page)
    page.evaluate(
        "() => { const saved = app.graph.serialize(); const at = saved.nodes.find((n) => n.type.endsWith('Schedule'));"
        " at.size = [220, 90]; return app.loadGraphData(saved); }"
    )
    awaited(page, "12 steps")
    for shape in ("keyframes", "constant", "power"):
        page.evaluate(
            "shape => set(app.graph.nodes.find((n) => n.type.endsWith('ScaleSchedule')), 'shape', shape)", shape
        )
        page.wait_for_function(
            "([at, title]) => document.querySelector(at).textContent === title",
            arg=[f"{CURVE} .title", f"strength: {shape}"],
        )
        page.wait_for_timeout(500)
        frontend.eventually(page, lambda: lies_on_its_node(page))
    page.screenshot(path=shot(page, "grown"))


def test_without_a_front_end_that_it_knows_the_node_works(page: Page):
    """It says so in a warning, once, and stays as it was."""
    warnings = []
    page.on("console", lambda said: warnings.append(said.text) if said.type == "warning" else None)
    values = page.evaluate("""() => {
      const known = LiteGraph.LGraphNode.prototype.addDOMWidget;
      delete LiteGraph.LGraphNode.prototype.addDOMWidget;
      app.graph.clear();
      for (const x of [60, 460]) {
        const node = LiteGraph.createNode("GuidanceKitScaleSchedule");
        node.pos = [x, 60];
        app.graph.add(node);
      }
      LiteGraph.LGraphNode.prototype.addDOMWidget = known;
      const [node] = app.graph.nodes;
      node.widgets.find((widget) => widget.name === "shape").value = "power";
      return node.serialize().widgets_values;
    }""")
    page.wait_for_timeout(500)
    assert values[0] == "power" and len(values) == 9
    assert page.locator(CURVE).count() == 0
    assert len([text for text in warnings if "does not draw its curve before a run" in text]) == 1


# Counts the questions; each answer takes a fifth of a second longer.
SLOW_SERVER = """() => {
  window.asked = [];
  let under = 0;
  window.most = 0;
  const known = app.api.fetchApi;
  app.api.fetchApi = async function (route, options) {
    if (!route.endsWith("/schedule")) return known.call(this, route, options);
    asked.push(JSON.parse(options.body).inputs);
    most = Math.max(most, ++under);
    await new Promise((done) => setTimeout(done, 200));
    return known.call(this, route, options).finally(() => under--);
  };
}"""
# A change with every frame, and how long they took: [frames a second, milliseconds of the longest, seconds in all].
DRAG = """changes => new Promise((done) => {
  const began = performance.now();
  let frames = 0, longest = 0, last = began;
  const frame = (now) => {
    longest = Math.max(longest, now - last);
    last = now;
    set(schedule, "shape.high", 1 + ++frames / changes);
    const seconds = (now - began) / 1000;
    if (frames < changes) requestAnimationFrame(frame);
    else done([frames / seconds, longest, seconds]);
  };
  requestAnimationFrame(frame);
})"""


def test_a_drag_of_200_changes_asks_seldom(page: Page):
    """One question at a time, the newest last, and none while nothing changes."""
    build(page)
    change(page, shape="linear")
    awaited(page, "11 guided, 1 single-pass")
    page.evaluate(SLOW_SERVER)
    rate, longest, seconds = page.evaluate(DRAG, 200)
    page.wait_for_function("at => document.querySelector(at).textContent.startsWith('2')", arg=f"{CURVE} .range")
    page.wait_for_timeout(500)
    asked, most = page.evaluate("() => [asked, most]")
    assert most == 1 and 2 <= len(asked) <= seconds / 0.2 + 2
    assert asked[-1]["shape.high"] == 2
    told = f"{rate:.0f} frames a second under a drag, the longest {longest:.0f} ms; {len(asked)} questions"
    sys.stdout.write(f"\n{told}\n")  # depends on the machine


def test_the_picture_after_a_run_gives_way_to_the_curve(page: Page, server: ComfyServer):
    """The node shows one curve, on the noise levels of the run that was."""
    workflow = json.loads(place("cfg_in_an_interval", DIGITS).read_text(encoding="utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "KSampler":
            node["widgets_values"][0] = next(SEEDS)
        elif node["type"] == "EmptyLatentImage":
            node["widgets_values"][2] = 1  # picture: the least work
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    awaited(page, "^25 steps: 13 guided, 12 single-pass, on Stable Diffusion")
    frontend.press_run(page, server)
    awaited(page, "^25 steps: 9 guided, 16 single-pass$")
    page.wait_for_timeout(500)  # in which the picture could come
    node = "app.graph.nodes.find((each) => each.type === 'GuidanceKitScaleSchedule')"

    def only_the_curve():
        assert "preview" not in page.evaluate(f"() => {node}.widgets.map((widget) => widget.name).join()")
        assert page.locator(f'[data-node-id="{page.evaluate(f"() => {node}.id")}"] img').count() == 0

    frontend.eventually(page, only_the_curve)
    page.screenshot(path=shot(page, "after-a-run"))


def shot(page: Page, name: str) -> str:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    kind = "nodes2" if page.evaluate("() => LiteGraph.vueNodesMode") else "canvas"
    return str(SCREENSHOTS / f"curve-{name}-{kind}.png")
