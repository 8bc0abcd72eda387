// Scale Schedule draws its curve on the node while its values change. The server computes it, with the code that runs.

import { CurveView } from "./curve_view.js";
import { curveOf, usesOf, valuesOf } from "./graph_facts.js";

const NODE = "GuidanceKitScaleSchedule";
const ROUTE = "/guidance_kit/schedule";
const HEIGHT = 190; // of the widget, its margin of 10 above and below included
const curves = new Set();
let ticking = false;
let complained = false;

// Said once, and not as an error: the node works without, and shows its picture after a run.
function complain(reason) {
  if (!complained) console.warn(`Guidance Kit: Scale Schedule does not draw its curve before a run (${reason}).`);
  complained = true;
}

class LiveCurve {
  constructor(app, node) {
    this.app = app;
    this.node = node;
    this.view = new CurveView();
    const options = { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT };
    const widget = node.addDOMWidget("curve view", "guidance_kit_curve", this.view.element, options);
    widget.serialize = false; // not in a saved workflow either
    this.pictureShown(false);
    const draw = node.onDrawBackground; // which puts the picture on the node
    node.onDrawBackground = (...given) => (this.drawn ? undefined : draw?.apply(node, given));
    const { canvas } = app; // the curve must not keep the mouse from moving the canvas
    this.view.element.addEventListener("wheel", (event) => {
      if (!globalThis.LiteGraph?.vueNodesMode) canvas?.processMouseWheel?.(event);
    });
    node.setSize([Math.max(node.size[0], 300), Math.max(node.size[1], node.computeSize()[1])]);
  }

  pictureShown(shown) {
    this.drawn = !shown;
    this.node.hideOutputImages = !shown;
  }

  // Once a frame: asks when something has changed, one question at a time, so that the newest is always the last.
  look() {
    const values = valuesOf(this.node);
    const curve = curveOf(this.node);
    const unknown = curve === undefined ? "curve" : Object.keys(values).find((name) => values[name] === undefined);
    const question = JSON.stringify(unknown ?? { inputs: values, curve, ...usesOf(this.node) });
    if (this.waiting || question === this.asked) return;
    this.asked = question;
    if (unknown === undefined) this.ask(question);
    else this.refuse(`${unknown} comes from another node: its curve is shown after a run.`);
  }

  async ask(body) {
    this.waiting = true;
    try {
      const headers = { "Content-Type": "application/json" };
      const response = await this.app.api.fetchApi(ROUTE, { method: "POST", headers, body });
      const answer = await response.json();
      if (answer.error) return this.refuse(answer.error);
      this.view.show(answer);
      this.pictureShown(false);
    } catch (error) {
      complain(error);
      this.refuse("The server does not answer; the curve is shown after a run.");
    } finally {
      this.waiting = false;
    }
  }

  refuse(sentence) {
    this.view.refuse(sentence);
    this.pictureShown(true);
  }
}

function tick() {
  for (const curve of curves) {
    try {
      curve.look();
    } catch (error) {
      complain(error);
      curve.refuse("This front end is not known; the curve is shown after a run.");
      curves.delete(curve);
    }
  }
  ticking = curves.size > 0;
  if (ticking) requestAnimationFrame(tick);
}

// From when its node enters a graph until it leaves it: copies are made by nodes that never enter one.
function watch(curve) {
  curve.asked = undefined; // what the server knows may have changed meanwhile
  curves.add(curve);
  if (!ticking) requestAnimationFrame(tick);
  ticking = true;
}

function drawOn(app, node) {
  if (node.comfyClass !== NODE) return;
  try {
    const curve = new LiveCurve(app, node);
    const { onAdded, onRemoved } = node;
    node.onAdded = (...given) => {
      watch(curve);
      return onAdded?.apply(node, given);
    };
    node.onRemoved = (...given) => {
      curves.delete(curve);
      return onRemoved?.apply(node, given);
    };
  } catch (error) {
    complain(error);
  }
}

// After a run the server knows the noise levels of its model.
function askAgain() {
  for (const curve of curves) curve.asked = undefined;
}

const { app } = await import("../../../scripts/app.js").catch(() => ({}));
if (app?.registerExtension && app.api?.fetchApi) {
  app.registerExtension({ name: "GuidanceKit.ScaleSchedule", nodeCreated: (node) => drawOn(app, node) });
  app.api.addEventListener?.("execution_success", askAgain);
} else complain("this front end takes no extensions");
