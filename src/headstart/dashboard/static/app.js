// The dashboard: what is fetched when, and which state the page is in.

import { buildCharts, repaint, showCourse } from "./charts.js";
import { byId, write } from "./dom.js";
import { Feed, session } from "./feed.js";
import { clockSecond, counted } from "./format.js";
import { buildGroups, showGroups } from "./groups.js";
import { showHeadline } from "./headline.js";
import { buildLive, showLive } from "./live.js";
import { showMisses } from "./misses.js";
import { showEngines } from "./prefixes.js";

const RANGES = { "1h": "last hour", "6h": "last 6 hours", "24h": "last 24 hours", "7d": "last 7 days", "30d": "last 30 days" };
const DEFAULT_RANGE = "24h";
const FIGURES_EVERY = 10_000;
const LIVE_EVERY = 2_000;

const failures = { figures: null, live: null };
let range = rangeOfAddress();
let shownAt = null;

const figures = new Feed(FIGURES_EVERY, () => at(`../data?range=${range}`), showFigures, (error) => failed("figures", error));
const live = new Feed(LIVE_EVERY, () => at("../live"), showNow, (error) => failed("live", error));

/** An address beside this file's folder, wherever a proxy may have put the server. */
function at(path) {
  return new URL(path, import.meta.url);
}

function rangeOfAddress() {
  const asked = new URLSearchParams(location.search).get("range");
  return Object.hasOwn(RANGES, asked) ? asked : DEFAULT_RANGE;
}

function refresh() {
  figures.refresh();
  live.refresh();
}

function showFigures(data) {
  came("figures");
  shownAt = data.now;
  const none = data.totals.requests === 0;
  byId("empty").hidden = !none || isOff(data.ledger);
  for (const section of document.querySelectorAll("[data-figures]")) section.hidden = none;
  showHowTo();
  showLedger(data.ledger);
  write(byId("updated"), `Figures of ${clockSecond(data.now)}, your time.`);
  if (none) {
    document.title = "Headstart";
    return;
  }
  showHeadline(data, RANGES[range]);
  showCourse(data);
  showMisses(data.causes);
  showGroups(data);
}

function showHowTo() {
  const key = session.key ? "YOUR_KEY" : "none";
  write(byId("empty-range"), `None came in the ${RANGES[range]}.`);
  write(byId("empty-environment"), `export OPENAI_BASE_URL=${at("../../v1")} OPENAI_API_KEY=${key}`);
}

function showNow(data) {
  came("live");
  showEngines(data.engines);
  showLive(data.requests);
}

/** Whether no usage is kept at all, by the server's configuration. */
function isOff(ledger) {
  return ledger.message !== null && !ledger.failing;
}

function showLedger(ledger) {
  const words = isOff(ledger) ? [ledger.message] : [];
  if (ledger.failing) words.push(`New requests can't be recorded now: ${ledger.message ?? "the usage database fails"}.`);
  if (ledger.failing && ledger.waiting) words.push(`${counted(ledger.waiting, "request waits", "requests wait")} to be counted.`);
  if (ledger.lost) words.push(`${counted(ledger.lost, "request")} could not be kept and will be missing here.`);
  byId("ledger").hidden = !words.length;
  write(byId("ledger"), words.join(" ").replaceAll("..", "."));
}

function came(feed) {
  const wasLocked = document.body.dataset.state === "locked";
  failures[feed] = null;
  if (wasLocked) unlock();
  showTrouble();
}

function failed(feed, failure) {
  if (failure.locked) {
    lock(failure);
    return;
  }
  failures[feed] = failure;
  showTrouble();
}

function showTrouble() {
  const failure = failures.figures ?? failures.live;
  byId("unreachable").hidden = !failure;
  byId("board").classList.toggle("stale", Boolean(failure));
  if (!failure) return;
  const what = failure.status === null ? "The server can't be reached." : `The server answered ${failure.status}: ${failure.message}`;
  const which = shownAt === null ? "" : ` These are the figures of ${clockSecond(shownAt)}.`;
  write(byId("unreachable-text"), `${what}${which} Trying again every few seconds.`);
}

/** A key is wanted: ask for one; what stood here is another reader's. */
function lock(failure) {
  figures.stop();
  live.stop();
  const rejected = session.key !== null;
  session.key = null;
  document.body.dataset.state = "locked";
  document.title = "Sign in · Headstart";
  byId("login").hidden = false;
  byId("board").hidden = true;
  byId("unreachable").hidden = true;
  byId("ledger").hidden = true;
  byId("sign-out").hidden = true;
  write(byId("login-error"), rejected ? `That key doesn't open this page. ${failure.message}` : "");
  byId("admin-key").setAttribute("aria-invalid", String(rejected));
  byId("admin-key").focus();
}

function unlock() {
  delete document.body.dataset.state;
  byId("login").hidden = true;
  byId("board").hidden = false;
  byId("admin-key").value = "";
  byId("main").focus({ preventScroll: true });
  showSignOut();
}

function showSignOut() {
  byId("sign-out").hidden = session.key === null;
}

function signIn(event) {
  event.preventDefault();
  const key = byId("admin-key").value.trim();
  if (/^[\x21-\x7e]+$/.test(key)) {
    session.key = key;
    refresh();
  } else {
    write(byId("login-error"), "That is no key: a key has letters, digits, - and _ only.");
    byId("admin-key").setAttribute("aria-invalid", "true");
  }
}

function chooseRange(event) {
  range = event.target.value;
  const address = new URL(location);
  address.searchParams.set("range", range);
  history.replaceState(null, "", address);
  figures.refresh();
}

function isDark() {
  return (document.documentElement.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";
}

function showTheme() {
  write(byId("theme"), isDark() ? "Light theme" : "Dark theme");
  repaint();
}

function turnTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("headstart-theme", theme);
  } catch {
    // It lasts until the page is left, where storage is forbidden.
  }
  showTheme();
}

const systemDark = matchMedia("(prefers-color-scheme: dark)");
systemDark.addEventListener("change", showTheme);
byId("theme").addEventListener("click", turnTheme);
byId("ranges").addEventListener("change", chooseRange);
byId("ranges").elements.range.value = range;
byId("retry").addEventListener("click", refresh);
byId("login-form").addEventListener("submit", signIn);
byId("sign-out").addEventListener("click", () => {
  session.key = null;
  location.reload();
});
buildCharts();
buildGroups();
buildLive();
showTheme();
showSignOut();
refresh();
