// The course of the figures over time, drawn by uPlot. Beside each chart stand its summary and a table of its figures.

import { byId, make, rows, table, write } from "./dom.js";
import { clock, count, day, dollars, duration, NONE, percent, stretch } from "./format.js";

const HEIGHT = 190;
const CROWDED = 40;
const axisSeconds = (seconds) => (seconds < 1 ? `${+(seconds * 1000).toPrecision(2)} ms` : `${+seconds.toPrecision(2)} s`);

const CHARTS = [
  {
    name: "hit-rate",
    title: "Hit rate",
    series: [{ label: "Hit rate", colour: "--accent", fill: "--accent-wash", value: (line) => line.hit_rate, words: percent }],
    axis: (share) => `${Math.round(100 * share)}%`,
    scale: { range: [0, 1] },
    summary: summarizeHitRate,
    columns: [
      { name: "hit_rate", label: "Hit rate", number: true, cell: (line) => percent(line.hit_rate) },
      { name: "cached", label: "Cached", number: true, cell: (line) => count(line.cached) },
      { name: "input", label: "Input tokens", number: true, cell: (line) => count(line.input) },
    ],
  },
  {
    name: "saved",
    title: "Money saved",
    series: [
      { label: "Saved", colour: "--accent", fill: "--accent", bars: true, value: (line) => line.saved, words: dollars },
    ],
    axis: dollars,
    scale: { range: (_, low, high) => around(low, high) },
    summary: summarizeSaved,
    columns: [
      { name: "saved", label: "Saved", number: true, cell: (line) => dollars(line.saved) },
      { name: "cost", label: "Cost", number: true, cell: (line) => dollars(line.cost) },
      { name: "uncached_cost", label: "Without cache", number: true, cell: (line) => dollars(line.uncached_cost) },
    ],
  },
  {
    name: "ttft",
    title: "Time to the first token",
    series: [
      { label: "warm", colour: "--accent", value: (line) => line.ttft.warm.p50, words: duration },
      { label: "cold", colour: "--cold", dash: [5, 4], value: (line) => line.ttft.cold.p50, words: duration },
    ],
    axis: axisSeconds,
    scale: { distr: 3, range: (_, low, high) => decades(low, high) },
    summary: summarizeFirstToken,
    columns: [
      { name: "warm", label: "Warm, median", number: true, cell: (line) => duration(line.ttft.warm.p50) },
      { name: "cold", label: "Cold, median", number: true, cell: (line) => duration(line.ttft.cold.p50) },
    ],
  },
];

let charts = [];
let palette = {};

/** Make the charts, empty. */
export function buildCharts() {
  readPalette();
  charts = CHARTS.map((spec) => new Chart(spec, byId("charts")));
}

/** Show a document's course. */
export function showCourse(data) {
  for (const chart of charts) chart.show(data);
}

/** Draw in the colours of the theme that is now on. */
export function repaint() {
  readPalette();
  for (const chart of charts) chart.repaint();
}

/** Canvases need colours as they are computed; an element that wears each tells. */
function readPalette() {
  const probe = make("span", { hidden: true });
  document.body.append(probe);
  for (const name of ["--accent", "--accent-wash", "--cold", "--muted", "--grid"]) {
    probe.style.color = `var(${name})`;
    palette[name] = getComputedStyle(probe).color;
  }
  probe.remove();
}

class Chart {
  #spec;
  #plot = null;
  #stage;
  #summary;
  #details;
  #columns;
  #figures;
  #tip;
  #lines = [];
  #data = null;

  constructor(spec, parent) {
    this.#spec = spec;
    const id = `chart-${spec.name}`;
    this.#summary = make("p", { class: "small muted", id: `${id}-summary` });
    this.#stage = make("div", { class: "stage", role: "img", "aria-labelledby": `${id}-title ${id}-summary` });
    this.#tip = make("div", { class: "tip", "aria-hidden": "true", hidden: true });
    const time = { name: "time", label: "Time", cell: (line) => stretch(line.start, this.#data.grain) };
    this.#columns = [time, ...spec.columns];
    this.#figures = table(`${spec.title} over time`, this.#columns);
    const named = { class: "figures", tabindex: "0", role: "region", "aria-label": `Figures: ${spec.title}` };
    const scroll = make("div", named, this.#figures);
    this.#details = make("details", { id: `${id}-figures` }, make("summary", {}, "Figures"), scroll);
    this.#details.addEventListener("toggle", () => this.#showFigures());
    const title = make("h3", { id: `${id}-title` }, spec.title);
    const head = make("div", { class: "chart-head" }, title, spec.series.length > 1 ? legend(spec.series) : null);
    parent.append(make("figure", { class: "card chart", id }, head, this.#summary, this.#stage, this.#details));
    new ResizeObserver(() => this.#resize()).observe(this.#stage);
  }

  show(data) {
    this.#data = data;
    write(this.#summary, this.#spec.summary(data));
    this.#showFigures();
    this.#lines = withGaps(data.course, data.grain);
    const times = this.#lines.map((line) => line.start + data.grain / 2);
    const values = this.#spec.series.map((series) => this.#lines.map((line) => numberOf(line, series)));
    if (this.#plot) this.#plot.setData([times, ...values]);
    else this.#draw([times, ...values]);
  }

  repaint() {
    this.#plot?.redraw(false, true);
  }

  /** The table is long: it is filled where it is seen. */
  #showFigures() {
    if (!this.#details.open || !this.#data) return;
    rows(this.#figures.tBodies[0], this.#data.course, (line) => line.start, this.#columns);
  }

  #resize() {
    if (this.#plot && this.#stage.clientWidth) this.#plot.setSize({ width: this.#stage.clientWidth, height: HEIGHT });
  }

  #draw(values) {
    const axis = { stroke: () => palette["--muted"], font: "12px system-ui, sans-serif", ticks: { show: false } };
    const decadesOnly = (_, splits) => splits.map((value) => (isDecade(value) ? value : null));
    const filter = this.#spec.scale.distr === 3 ? { filter: decadesOnly } : {};
    const grid = { stroke: () => palette["--grid"], width: 1, ...filter };
    const options = {
      width: this.#stage.clientWidth || 320,
      height: HEIGHT,
      padding: [10, 12, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "headstart" }, drag: { x: false, y: false }, y: false },
      scales: { x: { range: () => [this.#data.since, this.#end()] }, y: this.#spec.scale },
      axes: [
        { ...axis, grid: { show: false }, space: 60, size: 30, values: (_, splits, __, ___, step) => splits.map(step < 86400 ? clock : day) },
        {
          ...axis,
          grid,
          size: (_, labels) => 16 + 7 * Math.max(4, ...(labels ?? []).map((label) => label?.length ?? 0)),
          values: (_, splits) => splits.map((value) => (value === null ? null : this.#spec.axis(value))),
          ...filter,
        },
      ],
      series: [{}, ...this.#spec.series.map(styleOf)],
      hooks: { setCursor: [(plot) => this.#point(plot)] },
    };
    this.#plot = new uPlot(options, values, this.#stage);
    this.#plot.over.append(this.#tip);
  }

  #end() {
    return Math.max(this.#data.now, (this.#data.course.at(-1)?.start ?? 0) + this.#data.grain);
  }

  /** Say what stands under the pointer. */
  #point(plot) {
    const line = this.#lines[plot.cursor.idx];
    this.#tip.hidden = !line || line.gap || plot.cursor.left < 0;
    if (this.#tip.hidden) return;
    const values = this.#spec.series.map((series) => make("div", {}, `${series.label}: ${series.words(series.value(line))}`));
    this.#tip.replaceChildren(make("div", {}, stretch(line.start, this.#data.grain)), ...values);
    const x = plot.valToPos(plot.data[0][plot.cursor.idx], "x");
    this.#tip.classList.toggle("left", x > plot.over.clientWidth / 2);
    this.#tip.style.left = `${x}px`;
  }
}

function styleOf(series) {
  const style = {
    stroke: () => palette[series.colour],
    width: 2,
    dash: series.dash,
    points: {
      size: 6,
      fill: () => palette[series.colour],
      show: (plot, _, from, to) => to - from <= CROWDED,
      filter: (plot, at, shown) => (shown ? null : lonely(plot.data[at])),
    },
  };
  if (series.fill) style.fill = () => palette[series.fill];
  if (series.bars) Object.assign(style, { paths: uPlot.paths.bars({ size: [0.7, 28], radius: 0.15 }), width: 0, points: { show: false } });
  return style;
}

function legend(series) {
  const item = (one) => make("li", {}, make("span", { class: `swatch ${one.label}` }), one.label);
  return make("ul", { class: "legend", "aria-hidden": "true" }, ...series.map(item));
}

function numberOf(line, series) {
  const value = line.gap ? null : series.value(line);
  return value === null ? null : Number(value);
}

/**
 * Where nobody asked, there is a gap: a line must not be drawn across it. One stands in front as well, since a bar is as
 * wide as two neighbours are apart.
 */
function withGaps(course, grain) {
  return course.flatMap((line, at) => {
    const follows = at > 0 && line.start - course[at - 1].start < 1.5 * grain;
    return follows ? [line] : [{ gap: true, start: line.start - grain }, line];
  });
}

/** Indices of values without neighbours, which no line shows. */
function lonely(values) {
  const none = (value) => value === null || value === undefined;
  return values.map((_, at) => at).filter((at) => !none(values[at]) && none(values[at - 1]) && none(values[at + 1]));
}

const isDecade = (value) => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-9;

function decades(low, high) {
  if (!low || !high) return [0.01, 10];
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  return [10 ** from, 10 ** Math.max(to, from + 1)];
}

function around(low, high) {
  if (low === null || high === null || (low === 0 && high === 0)) return [0, 1];
  return [Math.min(0, 1.1 * low), Math.max(0, 1.1 * high)];
}

function summarizeHitRate({ course, totals }) {
  const rates = course.map((line) => line.hit_rate).filter((rate) => rate !== null);
  if (!rates.length) return "No input tokens in this time.";
  const between = `between ${percent(Math.min(...rates))} and ${percent(Math.max(...rates))}`;
  return `${percent(totals.hit_rate)} in all${rates.length > 1 ? `, ${between}` : ""}.`;
}

function summarizeSaved({ course, totals, grain }) {
  const known = course.filter((line) => line.saved !== null);
  if (!known.length) return "Unknown: no model here has a price.";
  const best = known.reduce((most, line) => (Number(line.saved) > Number(most.saved) ? line : most));
  const most = `, most at ${stretch(best.start, grain)}: ${dollars(best.saved)}`;
  return `${dollars(totals.saved)} in all${known.length > 1 ? most : ""}.`;
}

function summarizeFirstToken({ totals }) {
  const { warm, cold } = totals.ttft;
  const part = (name, latency) => `${name} ${duration(latency.p50)}, 95% within ${duration(latency.p95)}`;
  const parts = [warm.requests ? part("Warm", warm) : "Warm –", cold.requests ? part("cold", cold) : `cold ${NONE}`];
  return `${parts.join("; ")}. Log scale.`;
}
