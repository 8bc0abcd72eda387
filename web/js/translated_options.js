// The tooltips of settings that belong to a choice (CFG Combine's methods, Scale Schedule's shapes) in the user's
// language. ComfyUI's front end translates those of all other widgets itself, from locales/<language>/nodeDefs.json.

import { app } from "../../../scripts/app.js";

let words; // of the pack's nodes in the user's language, asked for once

async function wordsOf(language) {
  if (language === "en") return {}; // the definitions are English
  const all = await (await app.api.fetchApi("/i18n")).json();
  return all[language]?.nodeDefs ?? {};
}

function translate(nodeData, texts) {
  for (const [name, [type, declared]] of Object.values(nodeData.input ?? {}).flatMap(Object.entries)) {
    if (type !== "COMFY_DYNAMICCOMBO_V3") continue;
    for (const { key, inputs } of declared.options) {
      for (const [setting, [, itsOwn]] of Object.values(inputs).flatMap(Object.entries)) {
        const text = texts[`${name}_${setting}`];
        const tooltip = text?.options?.[key] ?? text?.tooltip;
        if (tooltip) itsOwn.tooltip = tooltip;
      }
    }
  }
}

app.registerExtension({
  name: "GuidanceKit.TranslatedOptions",
  async beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("GuidanceKit")) return;
    words ??= wordsOf(app.extensionManager.setting.get("Comfy.Locale")).catch(() => ({})); // English is better than none
    translate(nodeData, (await words)[nodeData.name]?.inputs ?? {});
  },
});
