// The drawing of a schedule's curve: the line, a dot for each step, and words. Its colours are the theme's.

import { styled } from "./style.js";
import { translatedText } from "./translated_texts.js";

const SVG = "http://www.w3.org/2000/svg";

const STYLE = `
.guidance-kit-curve {
  box-sizing: border-box; width: 100%; height: 100%; min-height: 170px; padding: 6px 10px; border-radius: 6px;
  display: flex; flex-direction: column; gap: 3px; overflow: hidden; cursor: default; user-select: none;
  background: var(--component-node-widget-background, var(--comfy-input-bg, #222));
  color: var(--input-text, #ddd); font: 11px/1.3 var(--font-inter, Inter, Arial, sans-serif);
}
.guidance-kit-curve .row { display: flex; justify-content: space-between; gap: 8px; color: var(--descrip-text, #999); }
.guidance-kit-curve .row > * { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.guidance-kit-curve .row > :last-child { flex: none; }
.guidance-kit-curve .read { color: var(--input-text, #ddd); font-variant-numeric: tabular-nums; }
.guidance-kit-curve .plot { flex: 1; min-height: 0; display: flex; gap: 6px; padding: 5px 3px 3px 0; }
.guidance-kit-curve .range { display: flex; flex-direction: column; justify-content: space-between; min-width: 14px;
  margin: -6px 0; text-align: right; color: var(--descrip-text, #999); font-variant-numeric: tabular-nums; }
.guidance-kit-curve .area { flex: 1; position: relative; }
.guidance-kit-curve svg { position: absolute; width: 100%; height: 100%; overflow: visible; transition: opacity 0.1s; }
.guidance-kit-curve.refused svg { opacity: 0.25; }
.guidance-kit-curve path { fill: none; vector-effect: non-scaling-stroke; stroke-linecap: round; stroke-linejoin: round; }
.guidance-kit-curve .grid { stroke: var(--descrip-text, #999); stroke-width: 1; opacity: 0.25; }
.guidance-kit-curve .mark { stroke: var(--input-text, #ddd); stroke-width: 1; opacity: 0.6; }
.guidance-kit-curve .curve, .guidance-kit-curve .on { stroke: var(--guidance-kit-curve, #4c96f5); }
.guidance-kit-curve .curve { stroke-width: 2; }
.guidance-kit-curve .on { stroke-width: 6; }
.guidance-kit-curve .off { stroke: var(--descrip-text, #999); stroke-width: 5; }
.guidance-kit-curve .caption { color: var(--input-text, #ddd); }
.guidance-kit-curve.refused .caption { color: var(--error-text, #ff6b6b); }
`;

const short = (value) => String(Number(value.toPrecision(3)));

function child(parent, name, tag = "div") {
  const made = parent instanceof SVGElement ? document.createElementNS(SVG, tag) : document.createElement(tag);
  made.setAttribute("class", name);
  return parent.appendChild(made);
}

export class CurveView {
  constructor() {
    styled("guidance-kit-curve", STYLE);
    this.element = document.createElement("div");
    this.element.className = "guidance-kit-curve";
    const head = child(this.element, "row");
    this.title = child(head, "title", "span");
    this.read = child(head, "read", "span");
    const plot = child(this.element, "plot");
    this.range = child(plot, "range");
    this.svg = child(plot, "area").appendChild(document.createElementNS(SVG, "svg"));
    for (const [name, value] of Object.entries({ viewBox: "0 0 1 1", preserveAspectRatio: "none", role: "img" }))
      this.svg.setAttribute(name, value);
    this.paths = Object.fromEntries(
      ["grid", "mark", "curve", "off", "on"].map((name) => [name, child(this.svg, name, "path")]),
    );
    this.ticks = child(this.element, "row");
    this.caption = child(this.element, "caption");
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
  }

  // drawing: what the server answers.
  show(drawing) {
    const [low, high] = drawing.range;
    const height = (strength) => ((high - strength) / (high - low)).toFixed(5);
    this.drawing = drawing;
    this.element.classList.remove("refused");
    this.title.textContent = translatedText(drawing.title);
    this.caption.textContent = translatedText(drawing.caption);
    this.words(this.range, [high, (low + high) / 2, low].map(short));
    this.words(this.ticks, drawing.ticks.map(([, text]) => translatedText(text)));
    this.svg.setAttribute("aria-label", `${drawing.title}, from ${short(drawing.strengths[0])} to `
      + `${short(drawing.strengths.at(-1))}. ${drawing.caption}.`);
    this.paths.grid.setAttribute("d", "M0 0H1M0 .5H1M0 1H1");
    this.paths.curve.setAttribute("d", drawing.places
      .map((place, i) => `${i ? "L" : "M"}${place} ${height(drawing.strengths[i])}`).join(""));
    const dots = (acting) => drawing.steps
      .map((strength, i) => (drawing.acting[i] === acting ? `M${this.place(i)} ${height(strength)}h0` : "")).join("");
    this.paths.on.setAttribute("d", dots(true));
    this.paths.off.setAttribute("d", dots(false));
    this.leave();
  }

  // The last curve stays, faint, under the sentence that says why there is none.
  refuse(sentence) {
    this.element.classList.add("refused");
    this.caption.textContent = translatedText(sentence);
    this.leave();
  }

  place(step) {
    const { length } = this.drawing.steps;
    return length > 1 ? step / (length - 1) : 0.5;
  }

  point(event) {
    if (!this.drawing || this.element.classList.contains("refused")) return;
    const { left, width } = this.svg.getBoundingClientRect();
    const { steps, strengths } = this.drawing;
    const values = steps.length ? steps : strengths;
    const share = Math.min(Math.max((event.clientX - left) / width, 0), 1);
    const nearest = Math.round(share * (values.length - 1));
    const step = steps.length ? `step ${nearest + 1} of ${steps.length}: ` : "";
    this.read.textContent = translatedText(`${step}strength ${short(values[nearest])}`);
    this.paths.mark.setAttribute("d", `M${steps.length ? this.place(nearest) : nearest / (values.length - 1)} 0V1`);
  }

  leave() {
    this.read.textContent = "";
    this.paths.mark.setAttribute("d", "");
  }

  words(parent, texts) {
    parent.replaceChildren(...texts.map((text) => Object.assign(document.createElement("span"), { textContent: text })));
  }
}
