// The figures at a glance, and what is read out when they change.

import { byId, fillBar, write } from "./dom.js";
import { count, counted, dollars, duration, NONE, percent, sooner } from "./format.js";
import { causeName } from "./misses.js";

const QUIET = 60_000;
let announced = { at: -Infinity, text: "", range: null };

/** Show a document's totals. `range` is its length in words. */
export function showHeadline(data, range) {
  const totals = data.totals;
  byId("headline").removeAttribute("aria-busy");
  write(byId("hit-rate"), percent(totals.hit_rate));
  fillBar(byId("hit-rate-bar"), totals.hit_rate);
  write(byId("hit-rate-tokens"), `${count(totals.cached)} of ${count(totals.input)} tokens`);
  showSaved(totals, data.models);
  showFirstToken(totals.ttft);
  write(byId("requests"), count(totals.requests));
  write(byId("requests-warm"), `${count(totals.warm)} read from the cache`);
  write(byId("requests-failed"), totals.failed ? `${count(totals.failed)} failed, were cancelled or refused` : "");
  showTopCause(data.causes);
  document.title = `${percent(totals.hit_rate)} hit rate · Headstart`;
  announce(data, range);
}

function showSaved(totals, models) {
  write(byId("saved"), dollars(totals.saved));
  byId("saved").classList.toggle("loss", Number(totals.saved) < 0);
  const unpriced = totals.requests - totals.priced;
  if (totals.saved === null) {
    write(byId("saved-words"), "No request has a known price.");
    write(byId("unpriced"), "A model's price can be set in the configuration.");
    return;
  }
  const words = byId("saved-words");
  const [worst] = models.filter((model) => Number(model.saved) < 0).sort((one, other) => one.saved - other.saved);
  const loser = worst ? `; ${worst.value} lost ${dollars(String(-worst.saved))} by writes that nobody has read` : "";
  write(words, `cost ${dollars(totals.cost)} instead of ${dollars(totals.uncached_cost)}${loser}`);
  write(byId("unpriced"), unpriced ? `without ${counted(unpriced, "request that has", "requests that have")} no known price` : "");
}

function showFirstToken({ warm, cold }) {
  const longest = Math.max(warm.p50 ?? 0, cold.p50 ?? 0);
  for (const [name, latency] of Object.entries({ warm, cold })) {
    write(byId(`ttft-${name}`), duration(latency.p50));
    fillBar(byId(`ttft-${name}-bar`), longest && latency.p50 / longest);
  }
  const both = warm.p50 !== null && cold.p50 !== null && warm.p50 > 0;
  const lacking = warm.p50 === null ? "no warm request yet" : "no cold request";
  write(byId("sooner"), both ? sooner(warm.p50, cold.p50) : lacking);
}

function showTopCause(causes) {
  const top = causes[0];
  write(byId("top-cause"), top ? causeName(top.cause) : "Nothing was missed.");
  write(byId("top-cause-numbers"), top ? `${counted(top.requests, "request")}, ${counted(top.missed, "token")}` : "");
  write(byId("top-remedy"), top?.remedy ?? "");
  byId("top-link").hidden = !top;
}

/** Tell screen readers: at first and for another range at once, later only what changed, once a minute at most. */
function announce(data, range) {
  const { totals, causes } = data;
  const rate = totals.hit_rate === null ? NONE : `${Math.round(100 * totals.hit_rate)}%`;
  const cause = causes.length ? ` Most was missed because: ${causeName(causes[0].cause)}.` : "";
  const text = `In the ${range}: hit rate ${rate}, saved ${dollars(totals.saved)}.${cause}`;
  const now = Date.now();
  if (range === announced.range && (text === announced.text || now - announced.at < QUIET)) return;
  announced = { at: now, text, range };
  write(byId("announcement"), text);
}
