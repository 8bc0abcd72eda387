// What a run says on a node is shown whole: Nodes 2.0 would join its lines, the classic canvas would cut all but two of
// them off, and would let the picture below hang out of a node that has no room for it.

import { app } from "../../../scripts/app.js";

const TEXT = "$$node-text-preview";
const LINE = 16; // pixels
const AROUND = 26; // pixels above and below the text
const MOST = 12; // lines; further ones are scrolled to
const LETTER = 6.2; // pixels, on average

function height(node, text) {
  const letters = Math.max(20, (node.size[0] - 50) / LETTER);
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / letters)), 0);
  return AROUND + LINE * Math.min(lines, MOST);
}

function makeRoom(node) {
  const text = node.widgets?.find((widget) => widget.name === TEXT);
  const now = `${node.widgets?.length} ${text?.value}`;
  if (now === node.guidanceKitShown) return;
  node.guidanceKitShown = now;
  if (text) text.options.getMinHeight = () => height(node, String(text.value ?? ""));
  const needed = node.computeSize()[1];
  if (node.size[1] < needed) node.setSize([node.size[0], needed]);
  app.canvas.setDirty(true, true);
}

app.registerExtension({
  name: "GuidanceKit.NodeText",

  init() {
    const style = document.createElement("style");
    style.textContent = `[aria-label="${TEXT}"] p { white-space: pre-line; }`;
    document.head.append(style);
  },

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("GuidanceKit")) return;
    const onDrawBackground = nodeType.prototype.onDrawBackground; // of the classic canvas alone
    nodeType.prototype.onDrawBackground = function () {
      onDrawBackground?.apply(this, arguments);
      makeRoom(this);
    };
  },
});
