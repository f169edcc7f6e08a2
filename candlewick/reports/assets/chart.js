// A chart over time that the reader moves: what is drawn comes from the page's data, everything drawn is plotly's.
"use strict";
const DAY = 24 * 3600e3, dark = window.matchMedia("(prefers-color-scheme: dark)");
// Plotly gives times back as UTC text without a zone.
const millis = (at) => (typeof at === "number" ? at : Date.parse(at.length > 10 ? at.replace(" ", "T") + "Z" : at));
// Per y axis, the range that shows all that its fitted traces have between two times.
const fitted = (traces, from, to) => {
  const ends = {};
  for (const trace of traces.filter(({ meta }) => meta === "fit")) {
    const lows = trace.low ?? trace.y, highs = trace.high ?? trace.y, own = (ends[(trace.yaxis ?? "y").replace("y", "yaxis")] ??= [Infinity, -Infinity]);
    trace.x.forEach((at, row) => { if (at >= from && at <= to && lows[row] !== null) { own[0] = Math.min(own[0], lows[row]); own[1] = Math.max(own[1], highs[row]); } });
  }
  const margin = ([low, high]) => (high - low || Math.abs(high) * 0.01 || 0.01) * 0.08;
  const known = Object.entries(ends).filter(([, [low, high]]) => low <= high);
  return Object.fromEntries(known.map(([axis, own]) => [axis, [own[0] - margin(own), own[1] + margin(own)]]));
};

class Chart {
  constructor(id, template, config) {
    this.node = document.getElementById(id); this.template = template; this.config = config;
    this.node.addEventListener("keydown", (event) => this.press(event));
    // The wheel scrolls the page; with Ctrl it zooms.
    this.node.addEventListener("wheel", (event) => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); }, { capture: true });
  }
  // Replaces what is drawn. `layout` shows everything; `from` and `to` are the times to begin with, `step` is a bar's length.
  draw(traces, layout, step, from, to) {
    const isNew = this.node.layout === undefined;
    this.traces = traces; this.shortest = 15 * step; [this.first, this.last] = layout.xaxis.range;
    // A finger scrolls the page; plotly would keep every touch for itself.
    const dragmode = window.matchMedia("(pointer: coarse)").matches ? false : "pan", seen = { ...layout, dragmode, template: this.template(dark.matches) };
    for (const [axis, range] of Object.entries(this.ranges(from, to))) seen[axis] = { ...layout[axis], range };
    Plotly.react(this.node, traces, seen, this.config);
    if (!isNew) return;
    this.node.on("plotly_relayout", (change) => { if ("xaxis.range[0]" in change) this.show(...this.range); else if ("xaxis.range" in change) this.moved(); });
    this.node.on("plotly_doubleclick", () => this.show(this.first, this.last));
  }
  // For a chart that draws more the closer the reader looks.
  moved() {}
  get range() { return this.node.layout.xaxis.range.map(millis); }
  // The nearest part of the time axis that is not too short and not beyond the data, with the y ranges that fit it.
  ranges(from, to) {
    const width = Math.min(this.last - this.first, Math.max(to - from, this.shortest));
    const start = Math.min(Math.max((from + to - width) / 2, this.first), this.last - width);
    return { xaxis: [start, start + width], ...fitted(this.traces, start, start + width) };
  }
  show(from, to) { Plotly.relayout(this.node, Object.fromEntries(Object.entries(this.ranges(from, to)).map(([axis, range]) => [axis + ".range", range]))); }
  zoom(factor) { const [from, to] = this.range, middle = (from + to) / 2, half = ((to - from) / 2) * factor; this.show(middle - half, middle + half); }
  move(share) { const [from, to] = this.range, by = (to - from) * share; this.show(from + by, to + by); }
  act(name) {
    const known = {
      all: () => this.show(this.first, this.last), in: () => this.zoom(0.6), out: () => this.zoom(1 / 0.6),
      earlier: () => this.move(-0.4), later: () => this.move(0.4),
    };
    if (known[name]) known[name](); else this.show(this.last - Number(name) * DAY, this.last);
  }
  press(event) {
    const name = { ArrowLeft: "earlier", ArrowRight: "later", "+": "in", "-": "out", 0: "all" }[event.key];
    if (name) { event.preventDefault(); this.act(name); }
  }
  // A printed page is light and as wide as A4 within its margins.
  paint(isPrinted) { Plotly.relayout(this.node, { template: this.template(dark.matches && !isPrinted), width: isPrinted ? 670 : null, autosize: !isPrinted }); }
}
