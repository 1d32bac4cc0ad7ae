// The requests that are being answered.

import { byId, make, rows, table, write } from "./dom.js";
import { count, counted, duration } from "./format.js";

const STATES = { waiting: "waits for its turn", prefilling: "reads its prompt", answering: "answers" };

const COLUMNS = [
  { name: "model", label: "Model", cell: (request) => request.model },
  { name: "state", label: "State", cell: stateOf },
  { name: "elapsed", label: "For", number: true, cell: (request) => duration(request.elapsed) },
  { name: "input", label: "Input tokens", number: true, cell: (request) => count(request.input) },
  { name: "cached", label: "Cached", number: true, cell: (request) => count(request.cached) },
  { name: "output", label: "Output", number: true, cell: (request) => count(request.output) },
  { name: "who", label: "From", cell: (one) => [one.organisation, one.key].filter(Boolean).join(", ") },
  { name: "id", label: "Response", cell: (request) => make("code", {}, request.id ?? "–") },
];

/** Make the table. */
export function buildLive() {
  byId("live-card").append(table("Requests under way", COLUMNS));
}

/** Show a document's requests. */
export function showLive(requests) {
  write(byId("live-words"), requests.length ? `${counted(requests.length, "request")}.` : "No request right now.");
  byId("live-card").hidden = !requests.length;
  rows(byId("live-card").querySelector("tbody"), requests, (request) => request.id ?? "unnamed", COLUMNS);
}

function stateOf(request) {
  return make("span", { class: `state ${request.state in STATES ? request.state : ""}` }, STATES[request.state] ?? request.state);
}
