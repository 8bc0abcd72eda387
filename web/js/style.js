// Style sheets of the pack, each put into the page once.

export function styled(id, text) {
  if (document.getElementById(id)) return;
  document.head.append(Object.assign(document.createElement("style"), { id, textContent: text }));
}
