// Figures by model, organisation and key, in tabs.

import { byId, make, rows, table } from "./dom.js";
import { count, dollars, duration, percent } from "./format.js";

const GROUPS = [
  { name: "models", label: "Models", head: "Model", nameless: "(not said)" },
  { name: "organisations", label: "Organisations", head: "Organisation", nameless: "(none)" },
  { name: "keys", label: "Keys", head: "Key", nameless: "(without a key)" },
];

const columnsOf = (group) => [
  { name: "value", label: group.head, cell: (line) => line.value || group.nameless },
  { name: "requests", label: "Requests", number: true, cell: (line) => count(line.requests) },
  { name: "hit_rate", label: "Hit rate", number: true, cell: (line) => percent(line.hit_rate) },
  { name: "input", label: "Input tokens", number: true, cell: (line) => count(line.input) },
  { name: "cached", label: "Cached", number: true, cell: (line) => count(line.cached) },
  { name: "missed", label: "Missed", number: true, cell: (line) => count(line.missed) },
  { name: "output", label: "Output", number: true, cell: (line) => count(line.output) },
  { name: "cost", label: "Cost", number: true, cell: (line) => dollars(line.cost) },
  { name: "saved", label: "Saved", number: true, cell: (line) => dollars(line.saved) },
  { name: "warm", label: "First token, warm", number: true, cell: (line) => duration(line.ttft.warm.p50) },
  { name: "cold", label: "First token, cold", number: true, cell: (line) => duration(line.ttft.cold.p50) },
];

let chosen = GROUPS[0];
let data = null;

/** Make the tabs. */
export function buildGroups() {
  const tabs = byId("tabs");
  for (const group of GROUPS) {
    const tab = make("button", { type: "button", role: "tab", id: `tab-${group.name}`, "aria-controls": "group-panel" });
    tab.append(group.label);
    tab.addEventListener("click", () => choose(group));
    tabs.append(tab);
  }
  tabs.addEventListener("keydown", (event) => {
    const at = GROUPS.indexOf(chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: GROUPS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(GROUPS.at(to % GROUPS.length));
    byId(`tab-${chosen.name}`).focus();
  });
  choose(chosen);
}

/** Show a document's lines. */
export function showGroups(document) {
  data = document;
  show();
}

function choose(group) {
  chosen = group;
  for (const one of GROUPS) {
    const tab = byId(`tab-${one.name}`);
    tab.setAttribute("aria-selected", String(one === group));
    tab.tabIndex = one === group ? 0 : -1;
  }
  const panel = byId("group-panel");
  panel.setAttribute("aria-labelledby", `tab-${group.name}`);
  panel.replaceChildren(table(`Figures by ${group.head.toLowerCase()}`, columnsOf(group)));
  show();
}

function show() {
  const body = byId("group-panel").querySelector("tbody");
  if (data) rows(body, data[chosen.name], (line) => line.value, columnsOf(chosen));
}
