"""Guidance Sweep in a real browser: its axes change their widgets and sockets, and connected schedules are sent."""

from playwright.sync_api import Page, expect

from devtools import frontend
from devtools.server import ComfyServer

BUILD = """() => {
  app.graph.clear();
  const nodes = {};
  const add = (name, type, x, y) => {
    nodes[name] = LiteGraph.createNode(type);
    nodes[name].pos = [x, y];
    app.graph.add(nodes[name]);
  };
  add("digits", "GuidanceKitLoadDigitsDemo", 0, 0);
  add("null", "GuidanceKitNullConditionEncoder", 300, 200);
  add("latent", "EmptyLatentImage", 300, 450);
  add("first", "GuidanceKitScaleSchedule", 300, 650);
  add("second", "GuidanceKitScaleSchedule", 700, 650);
  add("sweep", "GuidanceKitGuidanceSweep", 750, 0);
  const widget = (name, at) => nodes[at].widgets.find((each) => each.name === name);
  const set = (at, name, value) => { const found = widget(name, at); found.value = value; found.callback?.(value); };
  const slot = (name) => nodes.sweep.inputs.findIndex((each) => each.name === name);
  const connect = (from, output, name) => nodes[from].connect(output, nodes.sweep, slot(name));
  set("null", "kind", "class null label");
  set("latent", "width", 64);
  set("latent", "height", 64);
  nodes.digits.connect(0, nodes.null, nodes.null.inputs.findIndex((each) => each.name === "model"));
  connect("digits", 0, "model");
  connect("digits", 1, "vae");
  connect("digits", 2, "classifier");
  connect("null", 0, "positive");
  connect("null", 0, "negative");
  connect("latent", 0, "latent_image");
  set("sweep", "steps", 2);
  set("sweep", "target", "seven");
  const before = nodes.sweep.widgets.map((each) => each.name);
  set("sweep", "columns", "classifier schedule");
  set("sweep", "rows", "cfg scale");
  set("sweep", "rows.values", "1, 2");
  connect("first", 0, "columns.schedules.schedule0");
  connect("second", 0, "columns.schedules.schedule1");
  return { before, after: nodes.sweep.widgets.map((each) => each.name), sweep: String(nodes.sweep.id) };
}"""

MARKED = """() => Object.fromEntries(
  app.graph.nodes.find(node => node.type === "GuidanceKitGuidanceSweep").widgets
    .filter(widget => ["cfg", "classifier_scale"].includes(widget.name))
    .map(widget => [widget.name, [widget.label, widget.disabled ?? false]]))
"""
CHOOSE = """([axis, value]) => {
  const sweep = app.graph.nodes.find(node => node.type === "GuidanceKitGuidanceSweep");
  const found = sweep.widgets.find(widget => widget.name === axis);
  found.value = value;
  found.callback?.(value);
}
"""


def marked(page: Page, **labels: str) -> None:
    """Of the widgets that an axis may replace, those have these labels and take no value; the others do."""
    wanted = {name: [labels.get(name, name), name in labels] for name in ("cfg", "classifier_scale")}
    assert page.evaluate(MARKED) == wanted
    if page.evaluate("() => LiteGraph.vueNodesMode"):
        for label in labels.values():
            expect(page.get_by_text(label)).to_have_count(1)


def test_axes_mark_the_widgets_that_they_replace(page: Page):
    page.evaluate("() => app.graph.clear()")
    frontend.add_node(page, "GuidanceKitGuidanceSweep", (300, 200))
    marked(page, cfg="columns → cfg")
    page.evaluate(CHOOSE, ["rows", "classifier scale"])
    both = {"cfg": "columns → cfg", "classifier_scale": "rows → classifier_scale"}
    marked(page, **both)
    page.evaluate("workflow => app.loadGraphData(workflow)", page.evaluate("() => app.graph.serialize()"))
    marked(page, **both)
    page.evaluate(CHOOSE, ["columns", "cfg method"])
    page.evaluate(CHOOSE, ["rows", "nothing"])
    marked(page)


def test_a_saved_size_is_kept(page: Page):
    page.evaluate("() => app.graph.clear()")
    node = frontend.add_node(page, "GuidanceKitGuidanceSweep", (300, 200))
    page.evaluate("id => app.graph.getNodeById(id).setSize([450, 1200])", node)
    page.evaluate("workflow => app.loadGraphData(workflow)", page.evaluate("() => app.graph.serialize()"))
    frontend.settle(page)
    assert page.evaluate("() => [...app.graph.nodes[0].size]") == [450, 1200]


def test_axes_bring_their_widgets_and_sockets(page: Page, server: ComfyServer):
    built = page.evaluate(BUILD)
    assert "columns.values" in built["before"]
    assert "rows.values" not in built["before"]
    assert "rows.values" in built["after"]
    assert "columns.values" not in built["after"]
    workflow = page.evaluate("() => app.graph.serialize()")
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)  # as saved and opened again
    inputs = page.evaluate("async () => (await app.graphToPrompt()).output")[built["sweep"]]["inputs"]
    assert inputs["columns"] == "classifier schedule"
    assert inputs["rows.values"] == "1, 2"
    assert all(len(inputs[f"columns.schedules.schedule{i}"]) == 2 for i in (0, 1))
    assert len(frontend.press_run(page, server)[built["sweep"]]["images"]) == 1
