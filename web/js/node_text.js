// The text of a run on a node, in both renderers: its lines as they are written, never as markup. What follows an empty
// line is folded. The first line is the headline; a refusal is red.

import { app } from "../../../scripts/app.js";
import { styled } from "./style.js";
import { translatedText } from "./translated_texts.js";

const NAME = "guidance kit text"; // of the widget
const MARGIN = 10; // pixels around it on the classic canvas
const MOST = 220; // pixels; what is longer is scrolled

const STYLE = `
.guidance-kit-text {
  box-sizing: border-box; width: 100%; max-height: ${MOST}px; flex: none !important; padding: 4px 8px; overflow-y: auto;
  border-radius: 6px; background: var(--component-node-widget-background, var(--comfy-input-bg, #222));
  color: var(--descrip-text, #999); font: 12px/1.35 var(--font-inter, Inter, Arial, sans-serif);
  white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; cursor: text;
}
.guidance-kit-text:empty { display: none; }
.guidance-kit-text > div:first-child { color: var(--input-text, #ddd); }
.guidance-kit-text.refused, .guidance-kit-text.refused > div:first-child { color: var(--error-text, #ff6b6b); }
.guidance-kit-text summary { cursor: pointer; }
`;

const shown = new WeakMap(); // node: NodeText

class NodeText {
  constructor(node) {
    styled("guidance-kit-text", STYLE);
    this.node = node;
    this.said = "";
    this.element = document.createElement("div");
    this.element.className = "guidance-kit-text";
    const height = () => this.height();
    const options = { serialize: false, margin: MARGIN, getMinHeight: height, getMaxHeight: height, getValue: () => "" };
    this.widget = node.addDOMWidget(NAME, "guidance_kit_text", this.element, options);
    this.widget.serialize = false; // not in a saved workflow either
    const size = this.widget.computeLayoutSize; // with it Nodes 2.0 gives the text room that a picture below needs
    const get = () => (globalThis.LiteGraph?.vueNodesMode ? undefined : size);
    Object.defineProperty(this.widget, "computeLayoutSize", { configurable: true, get });
    this.element.addEventListener("toggle", () => this.fit(), true); // of the folded part, which does not bubble
    this.element.addEventListener("wheel", (event) => {
      const scrolls = this.element.scrollHeight > this.element.clientHeight;
      if (!scrolls && !globalThis.LiteGraph?.vueNodesMode) app.canvas?.processMouseWheel?.(event);
    });
  }

  show(text, refused) {
    if (text === this.said && refused === this.refused) return;
    [this.said, this.refused] = [text, refused];
    const [lines, ...folded] = translatedText(text).split("\n\n");
    const rows = text ? lines.split("\n").map((line) => made("div", line)) : [];
    if (folded.length) {
      const open = this.element.querySelector("details")?.open ?? false;
      const details = Object.assign(document.createElement("details"), { open });
      details.append(made("summary", "…"), made("div", folded.join("\n\n")));
      rows.push(details);
    }
    this.element.classList.toggle("refused", refused);
    this.element.replaceChildren(...rows);
    this.fit();
  }

  // Of the widget on the classic canvas: Nodes 2.0 lays the element out by itself.
  height() {
    if (!this.said) return 0;
    const width = this.node.size[0] - 2 * MARGIN;
    const open = this.element.querySelector("details")?.open;
    const key = `${width} ${open} ${this.said}`;
    if (this.measured !== key) {
      const copy = this.element.cloneNode(true);
      copy.style.cssText = `position: fixed; visibility: hidden; height: auto; width: ${width}px`;
      document.body.append(copy);
      [this.measured, this.tall] = [key, copy.offsetHeight + 2 * MARGIN];
      copy.remove();
    }
    return this.tall;
  }

  // The node grows for what it has to say, and shrinks again where nobody has changed its size meanwhile.
  fit() {
    const { node } = this;
    if (!globalThis.LiteGraph?.vueNodesMode) {
      const grown = node.size[1] === this.grown;
      const least = node.computeSize()[1];
      const wanted = grown ? Math.max(this.before, least) : Math.max(node.size[1], least);
      if (!grown) this.before = node.size[1];
      if (wanted !== node.size[1]) node.setSize([node.size[0], wanted]);
      this.grown = node.size[1];
    }
    node.setDirtyCanvas?.(true, true);
  }
}

// An empty text takes the one before away.
export function showText(node, text, refused = false) {
  if (!text && !shown.has(node)) return;
  if (!shown.has(node)) shown.set(node, new NodeText(node));
  shown.get(node).show(text, refused);
}

export function isRefused(node) {
  return shown.get(node)?.refused ?? false;
}

function made(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}

// A picture below the text hangs out of a node of the classic canvas that has no room for both.
function makeRoom(node) {
  const count = node.widgets?.length;
  if (count === node.guidanceKitWidgets) return;
  node.guidanceKitWidgets = count;
  const needed = node.computeSize()[1];
  if (node.size[1] < needed) node.setSize([node.size[0], needed]);
  app.canvas.setDirty(true, true);
}

app.registerExtension({
  name: "GuidanceKit.NodeText",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("GuidanceKit")) return;
    const onDrawBackground = nodeType.prototype.onDrawBackground; // of the classic canvas alone
    nodeType.prototype.onDrawBackground = function () {
      onDrawBackground?.apply(this, arguments);
      makeRoom(this);
    };
  },
});
