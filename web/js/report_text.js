// Guidance Report's text on its node: unlike progress text it belongs to the node's output, so it is there again when
// ComfyUI keeps the node's result from an earlier run.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

app.registerExtension({
  name: "GuidanceKit.ReportText",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== "GuidanceKitGuidanceReport") return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (output?.text) api.dispatchCustomEvent("progress_text", { nodeId: String(this.id), text: output.text.join("\n") });
    };
  },
});
