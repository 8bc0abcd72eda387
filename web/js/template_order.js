// The pack's templates in the order of their names, the first one first: ComfyUI lists files as the disk has them.

import { app } from "../../../scripts/app.js";

const PACK = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-3)); // its folder: .../PACK/js/this file

app.registerExtension({
  name: "GuidanceKit.TemplateOrder",
  init() {
    const { api } = app;
    if (typeof api.getWorkflowTemplates !== "function") return; // a front end that asks otherwise keeps its own order
    const listed = api.getWorkflowTemplates;
    api.getWorkflowTemplates = async function () {
      const templates = await listed.call(this);
      if (Array.isArray(templates?.[PACK])) templates[PACK].sort();
      return templates;
    };
  },
});
