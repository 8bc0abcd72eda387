// What the graph tells of a schedule: the values of its node, what it drives, and the run that it will act in.

const RUN = ["steps", "scheduler", "sampler_name", "denoise", "start_at_step", "end_at_step"];
const CARRIERS = ["SCALE_SCHEDULE", "MODEL", "GUIDER"]; // types of the links from a schedule to its sampler
const MUTED = 2;
const BYPASSED = 4;

// The node's values under the names that a prompt gives them; undefined for one that another node computes.
export function valuesOf(node) {
  const named = node.widgets.filter((widget) => widget.options?.serialize !== false && widget.serialize !== false);
  return Object.fromEntries(named.map(({ name }) => [name, valueOf(node, name)]));
}

// What a Curve Editor at the node's curve input holds: null without one, undefined where it cannot be read.
export function curveOf(node) {
  const input = node.inputs?.find(({ name }) => name === "curve");
  if (input?.link == null) return null;
  const editor = sourceOf(node, input);
  return editor?.type === "CurveEditor" ? valueOf(editor, "curve") : undefined;
}

// The first sampler that the schedule reaches, as the server's Asked, and what it drives, as its Use.
export function usesOf(node) {
  const use = {};
  const ways = [];
  follow(node.graph, node.outputs?.[0]?.links, ways);
  for (let i = 0; i < ways.length && i < 1000; i++) {
    const { node: reached, input } = ways[i];
    if (reached.mode === MUTED || (reached.mode === BYPASSED && input.type !== "MODEL")) continue;
    if (input.type === "SCALE_SCHEDULE") note(use, reached, input.name);
    const run = reached.mode === BYPASSED ? undefined : runOf(reached);
    if (run) return { run, use };
    for (const output of reached.outputs ?? [])
      if (CARRIERS.includes(output.type) || output.type === "*") follow(reached.graph, output.links, ways);
  }
  return { use };
}

// Adds the inputs at the ends of the links; a link that leads into a subgraph or out of one goes on there.
function follow(graph, links, ways) {
  for (const id of links ?? []) {
    const link = linkOf(graph, id);
    const node = link && graph.getNodeById(link.target_id);
    if (node?.subgraph) follow(node.subgraph, node.subgraph.inputs[link.target_slot]?.linkIds, ways);
    else if (node && !ways.some((way) => way.node === node && way.slot === link.target_slot))
      ways.push({ node, slot: link.target_slot, input: node.inputs[link.target_slot] });
    else if (link && !node) {
      const host = hostOf(graph);
      if (host) follow(host.graph, host.outputs[link.target_slot]?.links, ways);
    }
  }
}

// The node that stands for a subgraph, the first where there are several; undefined for the whole graph.
function hostOf(graph) {
  const root = graph.rootGraph ?? graph;
  const graphs = graph === root ? [] : [root, ...root.subgraphs.values()];
  return graphs.flatMap((each) => each.nodes).find((node) => node.subgraph === graph);
}

// A node's id as the server has it: with those of the subgraphs that it is in.
function idOf(node) {
  const host = hostOf(node.graph);
  return host ? `${idOf(host)}:${node.id}` : `${node.id}`;
}

// Whether CFG or a classifier is driven; nothing is said where it is both.
function note(use, node, input) {
  const combine = node.type === "GuidanceKitCFGCombine";
  const axis = valueOf(node, input.split(".")[0]); // of Guidance Sweep: the input is columns.schedules.schedule0
  const cfg = combine || input === "cfg_schedule" || axis === "cfg schedule";
  const drives = cfg ? "cfg" : "classifier";
  use.drives = use.drives === undefined || use.drives === drives ? drives : "";
  if (cfg) use.scale = valueOf(node, combine ? "scale" : "cfg");
}

// A sampler's part in the question; undefined for a node that is none, or whose steps cannot be told.
function runOf(node) {
  if (!node.outputs?.some(({ type }) => type === "LATENT")) return undefined;
  const sigmas = node.inputs?.find(({ type, link }) => type === "SIGMAS" && link != null);
  const source = sigmas ? sourceOf(node, sigmas) : node;
  const told = Object.fromEntries(RUN.map((name) => [name, source && valueOf(source, name)]));
  if (typeof told.steps !== "number") return undefined;
  return { ...told, workflow: String((node.graph.rootGraph ?? node.graph).id), node: idOf(node) };
}

// A widget's value, through a link where a node such as a primitive holds it.
function valueOf(node, name) {
  const input = node.inputs?.find((each) => each.name === name && each.link != null);
  if (input) return sourceOf(node, input)?.widgets?.find((widget) => widget.name === "value")?.value;
  return node.widgets?.find((widget) => widget.name === name)?.value;
}

function sourceOf(node, input) {
  const link = linkOf(node.graph, input.link);
  const source = link && node.graph.getNodeById(link.origin_id);
  if (source?.type === "Reroute" && source.inputs?.[0]?.link != null) return sourceOf(source, source.inputs[0]);
  return source;
}

function linkOf(graph, id) {
  return graph.links.get?.(id) ?? graph.links[id];
}
