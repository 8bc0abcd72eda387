// What a run says on nodes. The server keeps each node's last text, so that it is there again after a change of tabs, a
// reload, and a run in which nothing had to be computed anew.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { nodeAt, root } from "./node_at.js";
import { isRefused, showText } from "./node_text.js";

const EVENT = "guidance_kit.text";
const ROUTE = "/guidance_kit/texts";
let first = true; // the graph that the page begins with was there before it was loaded again

function* allNodes(graph = root()) {
  for (const node of graph.nodes) {
    yield node;
    if (node.subgraph) yield* allNodes(node.subgraph);
  }
}

function show(path, text, refused) {
  const node = nodeAt(path);
  if (node) showText(node, text, refused);
}

function clearRefusals() {
  for (const node of allNodes()) if (isRefused(node)) showText(node, "");
}

// What validate_inputs says: ComfyUI writes the name of the input before the sentence, and the same for each input.
function showRejections(found) {
  for (const [path, { class_type: type, errors }] of Object.entries(found ?? {})) {
    const own = errors.find((error) => type.startsWith("GuidanceKit") && error.type === "custom_validation_failed");
    if (own) show(path, own.details.slice(own.details.indexOf(" - ") + 3), true);
  }
}

async function askAgain() {
  const id = String(root().id);
  const response = await api.fetchApi(ROUTE, { method: "POST", body: id });
  if (!response.ok || String(root().id) !== id) return;
  for (const [path, { text, refused }] of Object.entries(await response.json())) show(path, text, refused);
}

// A workflow that is opened anew has not run yet, whatever a copy of it has said.
function isOpen(id) {
  return app.extensionManager?.workflow?.openWorkflows?.some((each) => each.activeState?.id === id) ?? true;
}

api.addEventListener(EVENT, ({ detail: { workflow, node, text, refused } }) => {
  if (workflow === String(root().id)) show(node, text, refused);
});
api.addEventListener("execution_start", clearRefusals);
for (const end of ["execution_success", "execution_error", "execution_interrupted"]) {
  api.addEventListener(end, () => askAgain().catch(() => {})); // what was not computed anew has not spoken
}

const queuePrompt = api.queuePrompt;
api.queuePrompt = async function (...given) {
  clearRefusals();
  try {
    const answer = await queuePrompt.apply(this, given);
    showRejections(answer?.node_errors);
    return answer;
  } catch (error) {
    showRejections(error?.response?.node_errors);
    throw error;
  }
};

app.registerExtension({
  name: "GuidanceKit.RunTexts",

  afterConfigureGraph() {
    if (first || isOpen(root().id)) askAgain().catch(() => {}); // without the texts the workflow is whole
    first = false;
  },
});
