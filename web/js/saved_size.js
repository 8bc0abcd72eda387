// A node with choices opens as large as it was saved: the front end makes it as small as can be with each choice.

import { app } from "../../../scripts/app.js";
import { after } from "./after.js";

app.registerExtension({
  name: "GuidanceKit.SavedSize",

  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("GuidanceKit")) return;
    after(node, "onConfigure", ({ size }) => {
      if (size) node.setSize([Math.max(size[0], node.size[0]), Math.max(size[1], node.size[1])]);
    });
  },
});
