// A picture of a run in progress goes when the node has one of its own: Nodes 2.0 would keep both, one above the other.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { nodeAt } from "./node_at.js";

// The front end's own store of what nodes show. It is not part of what packs are promised: without it both stay.
function shownOutputs() {
  return app.extensionManager?._p?._s?.get("nodeOutput");
}

api.addEventListener("executed", ({ detail }) => {
  const path = detail.display_node || detail.node;
  const ours = nodeAt(path)?.comfyClass?.startsWith("GuidanceKit");
  if (ours && detail.output?.images?.length) shownOutputs()?.revokePreviewsByExecutionId?.(path);
});
