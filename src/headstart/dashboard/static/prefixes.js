// What is cached, by engine: its room, and a tree of prefixes that is walked with the arrow keys.

import { byId, fillBar, make, put, reconcile, write } from "./dom.js";
import { bytes, coarse, count, counted } from "./format.js";

const TIERS = { ram: "RAM", disk: "Disk", promised: "Promised" };
const PLACES = { context: "in the context", ram: "in RAM", disk: "on disk" };

const COLUMNS = [
  { name: "prefix", label: "Prefix", cell: nameOf },
  { name: "tokens", label: "Tokens", number: true, cell: ({ prefix }) => count(prefix.stop - prefix.start) },
  { name: "hits", label: "Hits", number: true, cell: ({ prefix }) => count(prefix.hits) },
  { name: "bytes", label: "Size", number: true, cell: ({ prefix }) => bytes(prefix.bytes) },
  { name: "tier", label: "Where", cell: ({ prefix }) => PLACES[prefix.tier] ?? prefix.tier },
  { name: "age", label: "Age", number: true, cell: ({ prefix }) => coarse(prefix.age) },
  { name: "left", label: "Time left", number: true, cell: ({ prefix }) => coarse(prefix.left) },
  { name: "promised", label: "Kept", cell: promiseOf },
];

const closed = new Set();
let current = null;
let shown = [];

/** Show a document's engines. */
export function showEngines(engines) {
  shown = engines;
  byId("engines-empty").hidden = engines.length > 0;
  reconcile(byId("engines"), engines.map((engine, at) => ({ engine, at })), ({ at }) => at, buildEngine, updateEngine);
}

function buildEngine({ at }) {
  const heads = COLUMNS.map((column) =>
    make("th", { role: "columnheader", scope: "col", class: column.number && "number" }, column.label),
  );
  const grid = make(
    "table",
    { role: "treegrid", "aria-labelledby": `engine-${at}` },
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)),
    make("tbody", { role: "rowgroup" }),
  );
  grid.addEventListener("keydown", (event) => walk(event, grid));
  grid.addEventListener("click", (event) => {
    const row = event.target.closest("tbody tr");
    if (!row) return;
    focusRow(row);
    if (row.hasAttribute("aria-expanded")) toggle(row);
  });
  return make(
    "section",
    { class: "card engine", "aria-labelledby": `engine-${at}` },
    make("div", { class: "engine-head" }, make("h3", { id: `engine-${at}` }), make("p", { class: "muted engine-load" })),
    make("ul", { class: "tiers" }),
    make("p", { class: "muted engine-empty" }, "Nothing is cached yet."),
    grid,
  );
}

function updateEngine(section, { engine, at }) {
  write(section.querySelector("h3"), engine.models.join(", "));
  write(section.querySelector(".engine-load"), `${count(engine.running)} running, ${count(engine.waiting)} waiting`);
  reconcile(section.querySelector(".tiers"), Object.entries(engine.tiers), ([name]) => name, buildTier, updateTier);
  const lines = flatten(engine.prefixes, at);
  section.querySelector(".engine-empty").hidden = lines.length > 0;
  section.querySelector("table").hidden = !lines.length;
  const body = section.querySelector("tbody");
  reconcile(body, lines, (line) => line.key, buildRow, updateRow);
  const stop = [...body.children].find((row) => row.dataset.key === current) ?? body.firstElementChild;
  for (const row of body.children) row.tabIndex = row === stop ? 0 : -1;
}

function buildTier() {
  return make("li", {}, make("span"), make("span", { class: "track", "aria-hidden": "true" }, make("span")));
}

function updateTier(item, [name, tier]) {
  const used = tier.budget ? `${bytes(tier.bytes)} of ${bytes(tier.budget)}` : "none";
  write(item.firstElementChild, `${TIERS[name] ?? name}: ${used}`);
  fillBar(item.querySelector(".track > span"), tier.budget && tier.bytes / tier.budget);
}

/** The tree's visible rows from top to bottom. A prefix whose parent is not listed is a root. */
function flatten(prefixes, engine) {
  const names = new Set(prefixes.map((prefix) => prefix.name));
  const children = Map.groupBy(prefixes, (prefix) => (names.has(prefix.parent) ? prefix.parent : null));
  const lines = [];
  const add = (parent, level) => {
    const siblings = children.get(parent) ?? [];
    siblings.forEach((prefix, place) => {
      const key = `${engine} ${prefix.name}`;
      const open = children.has(prefix.name) ? !closed.has(key) : null;
      lines.push({ key, prefix, level, open, place: place + 1, size: siblings.length });
      if (open) add(prefix.name, level + 1);
    });
  };
  add(null, 1);
  return lines;
}

function buildRow() {
  const cells = COLUMNS.map((column, at) =>
    make("td", {
      role: at ? "gridcell" : "rowheader",
      class: column.number && "number",
      "data-label": column.label,
      "data-column": column.name,
    }),
  );
  return make("tr", { role: "row" }, ...cells);
}

function updateRow(row, line) {
  row.setAttribute("aria-level", line.level);
  row.setAttribute("aria-posinset", line.place);
  row.setAttribute("aria-setsize", line.size);
  if (line.open === null) row.removeAttribute("aria-expanded");
  else row.setAttribute("aria-expanded", String(line.open));
  row.style.setProperty("--level", Math.min(line.level, 8) - 1);
  COLUMNS.forEach((column, at) => put(row.children[at], column.cell(line)));
}

function nameOf({ prefix, level }) {
  const range = `tokens ${count(prefix.start)} to ${count(prefix.stop)}`;
  const whose = [prefix.model, prefix.organisation, prefix.key && `prompt_cache_key ${prefix.key.slice(0, 8)}`];
  return make(
    "span",
    { class: "prefix" },
    make("span", { class: "twist", "aria-hidden": "true" }),
    make("span", {}, level === 1 ? whose.filter(Boolean).join(" · ") : range),
    level === 1 ? make("span", { class: "small muted range" }, range) : null,
  );
}

function promiseOf({ prefix }) {
  return make("span", { class: prefix.promised ? "promised" : "muted" }, prefix.promised ? "promised" : "while there is room");
}

/** The arrow keys, as ARIA's practices have them for a treegrid whose rows are focused. */
function walk(event, grid) {
  const row = event.target.closest("tbody tr");
  if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
  const rows = [...grid.tBodies[0].children];
  const at = rows.indexOf(row);
  const level = Number(row.getAttribute("aria-level"));
  const expanded = row.getAttribute("aria-expanded");
  let to = { ArrowDown: rows[at + 1], ArrowUp: rows[at - 1], Home: rows[0], End: rows.at(-1) }[event.key];
  if (event.key === "ArrowRight" && expanded === "true") to = rows[at + 1];
  if (event.key === "ArrowLeft" && expanded !== "true") {
    to = rows.slice(0, at).findLast((above) => Number(above.getAttribute("aria-level")) < level);
  }
  const turns = { ArrowRight: "false", ArrowLeft: "true", Enter: expanded, " ": expanded }[event.key];
  if (!["ArrowDown", "ArrowUp", "Home", "End", "ArrowRight", "ArrowLeft", "Enter", " "].includes(event.key)) return;
  event.preventDefault();
  if (to) focusRow(to);
  else if (expanded !== null && turns === expanded) toggle(row);
}

function focusRow(row) {
  for (const other of row.parentElement.children) other.tabIndex = other === row ? 0 : -1;
  current = row.dataset.key;
  row.focus();
}

function toggle(row) {
  const key = row.dataset.key;
  if (!closed.delete(key)) closed.add(key);
  showEngines(shown);
}
