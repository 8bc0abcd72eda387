// A list without a file in it: nothing chosen, which the node refuses by name, where the front end would write
// "undefined" and send no value at all.

import { app } from "../../../scripts/app.js";

app.registerExtension({
  name: "GuidanceKit.EmptyLists",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("GuidanceKit")) return;
    for (const widget of node.widgets ?? []) {
      if (widget.type === "combo" && widget.value === undefined) widget.value = "";
    }
  },
});
