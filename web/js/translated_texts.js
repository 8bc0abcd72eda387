// What nodes say, and what can be chosen on them, in the user's language: from locales/<language>/main.json, where `{}`
// stands for what differs, and `{1}` for the second of these where a language turns them round.

const { app } = await import("../../../scripts/app.js").catch(() => ({})); // without it all is English

let patterns = [];
let choices = {};

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function compiled([english, translated]) {
  return [new RegExp(`^${english.split("{}").map(escaped).join("(.+?)")}$`), translated];
}

function lineIn(line) {
  for (const [pattern, translated] of patterns) {
    const found = pattern.exec(line)?.slice(1).map(lineIn);
    let place = 0;
    if (found) return translated.replace(/\{(\d*)\}/g, (_, number) => found[number === "" ? place++ : Number(number)]);
  }
  return line;
}

// Line by line; one that nobody has translated stays English.
export function translatedText(text) {
  return patterns.length ? text.split("\n").map(lineIn).join("\n") : text;
}

function label(widget) {
  if (widget.type !== "combo" || widget.options?.getOptionLabel) return;
  widget.options.getOptionLabel = (value) => choices[value] ?? String(value ?? "");
}

const words = (async () => {
  const language = app.extensionManager.setting.get("Comfy.Locale");
  if (language === "en") return;
  const all = await (await app.api.fetchApi("/i18n")).json();
  const own = all[language]?.guidanceKit ?? {};
  patterns = Object.entries(own.texts ?? {}).map(compiled);
  choices = own.choices ?? {};
})().catch(() => {}); // English is better than none

app?.registerExtension?.({
  name: "GuidanceKit.TranslatedTexts",
  async beforeRegisterNodeDef() {
    await words;
  },
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("GuidanceKit") && Object.keys(choices).length) node.widgets?.forEach(label);
  },
});
