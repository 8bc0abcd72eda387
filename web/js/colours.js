// A colour of its own for each of the pack's types, for sockets and links, in both renderers. A palette may have others.

import { app } from "../../../scripts/app.js";
import { styled } from "./style.js";

const COLOURS = {
  SCALE_SCHEDULE: "#26c6a6",
  NOISY_CLASSIFIER: "#c6e048",
  CLEAN_CLASSIFIER: "#d4a76a",
  LABELLED_LATENTS: "#c158dc",
};

// Palettes write an empty colour for the types that they do not know.
function colour(table, type) {
  let chosen = table[type];
  Object.defineProperty(table, type, {
    configurable: true,
    enumerable: true,
    get: () => chosen || COLOURS[type],
    set: (other) => (chosen = other),
  });
}

app.registerExtension({
  name: "GuidanceKit.Colours",

  setup() {
    const { canvas } = app;
    for (const table of [canvas.default_connection_color_byType, canvas.constructor.link_type_colors])
      if (table) for (const type of Object.keys(COLOURS)) colour(table, type);
    const variables = Object.entries(COLOURS).map(([type, value]) => `--color-datatype-${type}: ${value};`);
    styled("guidance-kit-colours", `:root { ${variables.join(" ")} }`);
    canvas.setDirty(true, true);
  },
});
