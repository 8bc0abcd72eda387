// Guidance Sweep marks the widgets whose place its axes take: their labels name the axis, and they take no values.

import { app } from "../../../scripts/app.js";
import { after } from "./after.js";

const NODE = "GuidanceKitGuidanceSweep";
const AXES = ["columns", "rows"];
const OVERRIDDEN = { "cfg scale": "cfg", "classifier scale": "classifier_scale" }; // what an axis goes through: a widget

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);

function mark(node) {
  for (const [swept, name] of Object.entries(OVERRIDDEN)) {
    const widget = widgetOf(node, name);
    if (!widget) continue;
    const axis = AXES.find((each) => widgetOf(node, each)?.value === swept);
    const marked = widget.guidanceKitLabel !== undefined; // its label without a mark
    if (axis && !marked) widget.guidanceKitLabel = widget.label ?? "";
    if (axis) widget.label = `${widgetOf(node, axis).label || axis} → ${widget.guidanceKitLabel || name}`;
    else if (marked) {
      widget.label = widget.guidanceKitLabel || undefined;
      delete widget.guidanceKitLabel;
    }
    if (axis || marked) widget.disabled = axis !== undefined;
  }
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "GuidanceKit.SweepOverrides",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const look = () => mark(node);
    for (const axis of AXES) {
      const widget = widgetOf(node, axis);
      if (widget) after(widget, "callback", look);
    }
    after(node, "onConfigure", look);
    after(node, "onAdded", look);
  },
});
