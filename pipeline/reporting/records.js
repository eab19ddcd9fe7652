"use strict";
// Search, filter and read the records of a run. Their texts only ever become text nodes.

const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const STEP = 20;
const NAMES = { history: "Earlier turns", instruction: "Instruction", input: "Input", output: "Response" };

function element(tag, className, children) {
  const made = document.createElement(tag);
  made.className = className;
  for (const child of children) made.append(child);
  return made;
}

// What is not seen stands in a box with its name, as in the rest of the page.
function visible(text) {
  const pieces = [];
  let done = 0;
  for (const found of text.matchAll(UNSEEN)) {
    const box = element("bdi", "unseen", [found[0] === "\0" ? "\u2400" : found[0]]);
    box.title = "U+" + found[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
    pieces.push(text.slice(done, found.index), box);
    done = found.index + 1;
  }
  return [...pieces, text.slice(done)];
}

function side(title, version) {
  const parts = [element("h4", "", [title])];
  for (const [name, label] of Object.entries(NAMES)) {
    if (!version[name]) continue;
    const text = element("div", "text", visible(version[name]));
    text.dir = "auto";
    parts.push(element("h5", "", [label]), text);
  }
  return element("div", "side", parts);
}

function story(root, record) {
  const scores = ["ifd", "rifd"].map(name => record[name]?.toFixed(3) ?? "unknown");
  const command = `${root.dataset.explain} '${record.id.replaceAll("'", "'\\''")}'`;
  const about = [`final IFD ${scores[0]}, r-IFD ${scores[1]}`, ...(record.reason ? ["; ", ...visible(record.reason)] : [])];
  const sides = [side("Original", record.before ?? {})];
  if (record.after) sides.push(side("Final", record.after));
  return [
    element("p", "id", about),
    element("p", "id", [element("code", "copy", visible(command))]),
    element("div", "pair", sides),
  ];
}

function entry(root, labels, record) {
  const selected = record.filter_rule === "kept", kind = labels.candidate.has(record.candidate);
  const badge = element("span", "badge", [labels[selected ? "candidate" : "filter_rule"].get(selected ? record.candidate : record.filter_rule) ?? "?"]);
  badge.style.setProperty("--tile", `var(--${selected && kind ? record.candidate : "dropped"})`);
  const first = (record.before?.instruction ?? "").slice(0, 120);
  const made = element("details", "example", [element("summary", "", [
    badge, element("code", "", visible(record.id)), element("bdi", "rules", visible(first)),
  ])]);
  made.addEventListener("toggle", () => made.append(...story(root, record)), { once: true });
  return made;
}

function browse(root, lines) {
  const records = lines.split("\n").filter(Boolean).map(line => JSON.parse(line));
  const [search, output, list, more] = ["[role=search]", "output", ".found", "button"].map(name => root.querySelector(name));
  const query = search.querySelector("input"), rules = [...search.querySelectorAll("select")];
  const labels = Object.fromEntries(rules.map(rule => [rule.name, new Map([...rule.options].map(o => [o.value, o.text]))]));
  let matches = [], shown = 0;
  const show = () => {
    for (const record of matches.slice(shown, shown + STEP)) list.append(entry(root, labels, record));
    shown = Math.min(shown + STEP, matches.length);
    more.hidden = shown === matches.length;
  };
  const find = () => {
    const wanted = query.value.toLowerCase();
    const has = record => [record.id, ...Object.values(record.before ?? {}), ...Object.values(record.after ?? {})]
      .some(text => text.toLowerCase().includes(wanted));
    matches = records.filter(record => rules.every(rule => !rule.value || record[rule.name] === rule.value) && has(record));
    output.textContent = `${matches.length.toLocaleString("en")} of ${records.length.toLocaleString("en")} records`;
    list.replaceChildren();
    shown = 0;
    show();
  };
  let timer;
  query.oninput = () => { clearTimeout(timer); timer = setTimeout(find, 200); };
  for (const rule of rules) rule.onchange = find;
  more.onclick = show;
  search.hidden = false;
  find();
}

for (const root of document.querySelectorAll(".records")) {
  const embedded = root.querySelector("script");
  if (embedded) browse(root, embedded.textContent);
  const picker = root.querySelector("input[type=file]");
  if (!picker) continue;
  picker.closest("p").hidden = false;
  picker.onchange = async () => {
    try {
      browse(root, await picker.files[0].text());
    } catch (error) {
      root.querySelector("output").textContent = `This file cannot be read as records: ${error.message}`;
    }
  };
}
