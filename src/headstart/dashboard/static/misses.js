// Why requests missed: causes by rank, what to do about each, and the latest examples.

import { byId, fillBar, make, reconcile, rows, table, write } from "./dom.js";
import { count, counted, moment } from "./format.js";

const NAMES = {
  below_minimum: "The prompt is too short to cache",
  first_request: "The prompt was new",
  not_cacheable: "The model's state can't be cached",
  not_written: "An earlier request ended before it was saved",
  prefix_changed: "The beginning of the prompt changed",
  expired: "The cached prefix had expired",
  evicted: "The cached prefix had to make room",
  refused: "There was no room to promise it",
  different_key: "It was cached under another prompt_cache_key",
  boundary_not_marked: "No breakpoint was marked there",
};

/** A cause in plain words. */
export const causeName = (cause) => NAMES[cause] ?? cause;

const EXAMPLES = [
  { name: "time", label: "Time", cell: (one) => timeOf(one.time) },
  { name: "model", label: "Model", cell: (one) => one.model },
  { name: "place", label: "Where it differs", cell: placeOf },
  { name: "missed", label: "Tokens missed", number: true, cell: (one) => `${count(one.missed)} of ${count(one.input)}` },
  { name: "who", label: "From", cell: (one) => [one.organisation, one.key].filter(Boolean).join(", ") },
  { name: "id", label: "Response", cell: (one) => make("code", {}, one.id) },
];

/** Show a document's causes, the worst first. The first is open until the reader says otherwise. */
export function showMisses(causes) {
  const missed = causes.reduce((sum, cause) => sum + cause.missed, 0);
  const most = Math.max(...causes.map((cause) => cause.missed));
  const words = `${count(missed)} more ${missed === 1 ? "token" : "tokens"} could have been read from the cache. The worst cause comes first.`;
  write(byId("misses-words"), causes.length ? words : "Every request read all that could be read.");
  reconcile(byId("causes"), causes, (cause) => cause.cause, buildCause, (item, cause) => updateCause(item, cause, most));
  const first = byId("causes").querySelector("details");
  if (first && !byId("causes").dataset.touched) first.open = true;
}

function buildCause(cause) {
  const examples = table(`Latest examples: ${causeName(cause.cause)}`, EXAMPLES);
  const summary = make(
    "summary",
    {},
    make("span", { class: "cause" }, causeName(cause.cause), " ", make("code", { class: "muted" }, cause.cause)),
    make("span", { class: "cause-numbers", "data-column": "numbers" }),
    make("span", { class: "track miss", "aria-hidden": "true" }, make("span")),
  );
  summary.addEventListener("click", () => {
    byId("causes").dataset.touched = "yes";
  });
  const remedy = make("p", { class: "remedy" }, make("span", { class: "label" }, "What to do"), make("span"));
  const body = make("div", { class: "cause-body" }, remedy, make("p", { class: "label" }, "Latest examples"), examples);
  return make("li", { class: "card" }, make("details", {}, summary, body));
}

function updateCause(item, cause, most) {
  const numbers = `${counted(cause.requests, "request")}, ${counted(cause.missed, "token")} missed`;
  write(item.querySelector(".cause-numbers"), numbers);
  fillBar(item.querySelector(".track > span"), most && cause.missed / most);
  write(item.querySelector(".remedy > :last-child"), cause.remedy ?? "");
  item.querySelector(".remedy").hidden = !cause.remedy;
  item.querySelector(".cause-body > .label").hidden = !cause.examples.length;
  const examples = item.querySelector("table");
  examples.hidden = !cause.examples.length;
  rows(examples.tBodies[0], cause.examples, (one) => one.id || one.time, EXAMPLES);
}

function timeOf(seconds) {
  return make("time", { datetime: new Date(seconds * 1000).toISOString() }, moment(seconds));
}

function placeOf(example) {
  const place = make("span");
  if (example.kind) place.append(example.kind.replaceAll("_", " "));
  if (example.path) place.append(...(example.kind ? [" in "] : []), make("code", {}, example.path));
  if (!place.hasChildNodes()) place.append("–");
  return place;
}
