// Draws the report's charts from the document that candlewick/reports/charts.py writes. No library, no network.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const utc = (ms, options) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options }).format(ms);
  const formats = {
    moment: { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
    hour: { hour: "2-digit", minute: "2-digit" }, day: { day: "numeric", month: "short" },
    month: { month: "short" }, year: { year: "numeric" },
  };
  const number = (value, decimals) => value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace("-", "−");
  const stepDecimals = (step) => { let places = 0; while (places < 10 && Math.abs(step * 10 ** places - Math.round(step * 10 ** places)) > 1e-6) places++; return places; };
  const percent = (share, sign) => (sign && share > 0 ? "+" : "") + number(share * 100, 2) + "%";
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  // ---------------------------------------------------------------- the document, unfolded

  const unfoldTimes = ({ first, step, jumps }, count) => {
    const times = new Float64Array(count), jump = new Map(jumps);
    for (let i = 0, at = first; i < count; i++) times[i] = at = i === 0 ? first : at + (jump.get(i) ?? step);
    return times;
  };
  const unfoldBars = (symbol) => {
    const b = symbol.bars, count = b.close.length, unit = 10 ** symbol.decimals;
    const bars = { times: unfoldTimes(b.time, count), step: b.time.step, o: [], h: [], l: [], c: [] };
    for (let i = 0, before = 0; i < count; i++) {
      const open = before + b.open[i], close = before + b.close[i];
      bars.o.push(open / unit); bars.c.push(close / unit);
      bars.h.push((Math.max(open, close) + b.up[i]) / unit); bars.l.push((Math.min(open, close) - b.down[i]) / unit);
      before = close;
    }
    return bars;
  };
  const unfoldEquity = (e) => {
    let sum = 0;
    const values = e.value.map((difference) => (sum += difference) / 10 ** e.decimals);
    return { times: unfoldTimes(e.time, values.length), step: e.time.step, values, drawdowns: e.drawdown.map((d) => d / data.drawdownScale) };
  };
  // First row whose time is at or after `time`.
  const rowAt = (times, time) => {
    let low = 0, high = times.length;
    while (low < high) { const middle = (low + high) >> 1; if (times[middle] < time) low = middle + 1; else high = middle; }
    return low;
  };

  // ---------------------------------------------------------------- axes

  const niceStep = (span, count) => {
    const raw = span / Math.max(1, count), power = 10 ** Math.floor(Math.log10(raw));
    return power * ([1, 2, 2.5, 5, 10].find((m) => m * power >= raw) ?? 10);
  };
  const HOUR = 3600e3, DAY = 24 * HOUR;
  const timeTicks = (from, to, room) => {
    const ticks = [], raw = (to - from) / Math.max(1, room);
    const step = [HOUR / 60, HOUR / 12, HOUR / 4, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 4 * DAY, 7 * DAY, 14 * DAY].find((s) => s >= raw);
    if (step) {
      for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push([at, utc(at, at % DAY ? formats.hour : formats.day)]);
      return ticks;
    }
    const months = [1, 2, 3, 6, 12, 24, 60].find((m) => m * 30 * DAY >= raw) ?? 120, start = new Date(from);
    for (let month = start.getUTCFullYear() * 12; ; month += months) {
      const at = Date.UTC(Math.floor(month / 12), month % 12, 1);
      if (at > to) return ticks;
      if (at >= from) ticks.push([at, utc(at, month % 12 ? formats.month : formats.year)]);
    }
  };

  // ---------------------------------------------------------------- a canvas with a time axis that moves and zooms

  class Panel {
    constructor(id, readoutId, paint, describe, widest) {
      this.canvas = document.getElementById(id); this.readout = document.getElementById(readoutId);
      this.paint = paint; this.describe = describe; this.widest = widest; this.hover = null; this.pointers = new Map(); this.queued = false;
      this.full = [0, 1]; this.view = [0, 1]; this.shortest = 1;
      this.listen();
      new ResizeObserver(() => this.redraw()).observe(this.canvas);
    }
    setSpan(from, to, shortest) { this.full = [from, to]; this.shortest = shortest; this.show(from, to); }
    show(from, to) {
      const width = Math.min(this.full[1] - this.full[0], Math.max(to - from, this.shortest));
      const start = Math.min(Math.max((from + to - width) / 2, this.full[0]), this.full[1] - width);
      this.view = [start, start + width]; this.redraw();
    }
    zoom(factor, at) {
      const [from, to] = this.view, centre = at ?? (from + to) / 2;
      this.show(centre - (centre - from) * factor, centre + (to - centre) * factor);
    }
    pan(ms) { const [from, to] = this.view; const shift = Math.min(Math.max(ms, this.full[0] - from), this.full[1] - to); this.show(from + shift, to + shift); }
    get plotWidth() { return Math.max(10, this.width - this.axis); }
    x(time) { return ((time - this.view[0]) / (this.view[1] - this.view[0])) * this.plotWidth; }
    timeAt(x) { return this.view[0] + (x / this.plotWidth) * (this.view[1] - this.view[0]); }
    redraw() { if (!this.queued) { this.queued = true; requestAnimationFrame(() => { this.queued = false; this.draw(); }); } }
    draw() {
      const box = this.canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
      if (!box.width) return;
      this.width = box.width; this.height = box.height;
      this.canvas.width = Math.round(box.width * scale); this.canvas.height = Math.round(box.height * scale);
      const g = this.g = this.canvas.getContext("2d");
      g.setTransform(scale, 0, 0, scale, 0, 0);
      g.font = `${box.width < 500 ? 10.5 : 11.5}px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif`; g.textBaseline = "middle";
      this.axis = Math.ceil(Math.max(g.measureText("−99.99%").width, g.measureText(this.widest()).width)) + 14;
      this.canvas.dataset.drawn = this.paint(this);
      this.readout.innerHTML = this.describe(this);
    }
    verticals(bottom) {
      const g = this.g;
      for (const [at, label] of timeTicks(this.view[0], this.view[1], this.plotWidth / 78)) {
        const x = Math.round(this.x(at)) + 0.5;
        if (x < 0 || x > this.plotWidth) continue;
        g.strokeStyle = colour("faint"); g.lineWidth = 1; g.beginPath(); g.moveTo(x, 0); g.lineTo(x, bottom); g.stroke();
        const half = g.measureText(label).width / 2;
        g.fillStyle = colour("soft"); g.textAlign = "center"; g.fillText(label, Math.max(half, Math.min(x, this.plotWidth - half)), bottom + 13);
      }
    }
    horizontals(low, high, y, text, count) {
      const g = this.g, step = niceStep(high - low, count);
      for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
        const at = Math.round(y(value)) + 0.5;
        g.strokeStyle = colour("faint"); g.lineWidth = 1; g.beginPath(); g.moveTo(0, at); g.lineTo(this.plotWidth, at); g.stroke();
        g.fillStyle = colour("soft"); g.textAlign = "left"; g.fillText(text(value, step), this.plotWidth + 8, at);
      }
    }
    tag(y, text, name) {
      const g = this.g; g.fillStyle = colour(name); g.fillRect(this.plotWidth + 2, y - 9, this.axis - 2, 18);
      g.fillStyle = colour("card"); g.textAlign = "left"; g.fillText(text, this.plotWidth + 8, y);
    }
    crosshair(bottom) {
      if (this.hover === null) return;
      const g = this.g, x = Math.round(this.x(this.hover)) + 0.5;
      g.strokeStyle = colour("soft"); g.setLineDash([2, 3]); g.beginPath(); g.moveTo(x, 0); g.lineTo(x, bottom); g.stroke(); g.setLineDash([]);
    }
    listen() {
      const c = this.canvas, place = (event) => event.clientX - c.getBoundingClientRect().left;
      c.addEventListener("pointerdown", (event) => { this.pointers.set(event.pointerId, place(event)); c.setPointerCapture(event.pointerId); });
      c.addEventListener("pointermove", (event) => {
        const x = place(event), before = this.pointers.get(event.pointerId), msPerPixel = (this.view[1] - this.view[0]) / this.plotWidth;
        if (before !== undefined && this.pointers.size === 1) this.pan((before - x) * msPerPixel);
        if (before !== undefined && this.pointers.size === 2) {
          const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
          if (Math.abs(x - other) > 8) this.zoom(Math.abs(before - other) / Math.abs(x - other), this.timeAt((x + other) / 2));
        }
        if (before !== undefined) this.pointers.set(event.pointerId, x);
        this.hover = x <= this.plotWidth ? this.timeAt(x) : null; this.redraw();
      });
      for (const name of ["pointerup", "pointercancel"]) c.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
      c.addEventListener("pointerleave", () => { this.hover = null; this.redraw(); });
      c.addEventListener("dblclick", () => this.show(...this.full));
      c.addEventListener("wheel", (event) => {
        if (event.ctrlKey || event.metaKey) { event.preventDefault(); this.zoom(Math.exp(event.deltaY * 0.004), this.timeAt(place(event))); }
        else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) { event.preventDefault(); this.pan((event.deltaX * (this.view[1] - this.view[0])) / this.plotWidth); }
      }, { passive: false });
      c.addEventListener("keydown", (event) => {
        const tenth = (this.view[1] - this.view[0]) / 10;
        const act = { ArrowLeft: () => this.pan(-tenth), ArrowRight: () => this.pan(tenth), "+": () => this.zoom(0.7), "-": () => this.zoom(1 / 0.7), 0: () => this.show(...this.full) }[event.key];
        if (act) { event.preventDefault(); act(); }
      });
    }
  }

  // ---------------------------------------------------------------- equity and drawdown

  const equity = unfoldEquity(data.equity), initial = Number(data.equity.initial);
  const path = (g, points) => { g.beginPath(); points.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y))); };
  const paintEquity = (p) => {
    const g = p.g, { times, values, drawdowns } = equity, bottom = p.height - 24, split = Math.round(bottom * 0.68), top = 8;
    const from = Math.max(0, rowAt(times, p.view[0]) - 1), to = Math.min(times.length, rowAt(times, p.view[1]) + 1);
    if (from >= to) return 0;
    const seen = values.slice(from, to), low = Math.min(...seen), high = Math.max(...seen), margin = (high - low || high * 0.01 || 1) * 0.08;
    const y = (value) => top + ((high + margin - value) / (high - low + 2 * margin)) * (split - top - 10);
    const deepest = Math.max(0.005, ...drawdowns.slice(from, to)) * 1.1, under = (share) => split + (share / deepest) * (bottom - split);
    p.verticals(bottom);
    p.horizontals(low - margin, high + margin, y, (v, step) => number(v, stepDecimals(step)), 4);
    g.save(); g.beginPath(); g.rect(0, 0, p.plotWidth, bottom); g.clip();
    const points = seen.map((value, i) => [p.x(times[from + i]), y(value)]), last = points[points.length - 1][0];
    path(g, [[points[0][0], split - 10], ...points, [last, split - 10]]); g.fillStyle = colour("area"); g.fill();
    path(g, points); g.strokeStyle = colour("accent"); g.lineWidth = 1.6; g.lineJoin = "round"; g.stroke();
    g.setLineDash([4, 4]); g.lineWidth = 1; g.strokeStyle = colour("soft"); path(g, [[0, y(initial)], [p.plotWidth, y(initial)]]); g.stroke(); g.setLineDash([]);
    const falls = points.map(([x], i) => [x, under(drawdowns[from + i])]);
    path(g, [[falls[0][0], split], ...falls, [last, split]]); g.fillStyle = colour("under"); g.fill();
    path(g, falls); g.strokeStyle = colour("loss"); g.stroke(); g.restore();
    g.strokeStyle = colour("line"); path(g, [[0, split + 0.5], [p.plotWidth, split + 0.5]]); g.stroke();
    g.fillStyle = colour("soft"); g.textAlign = "left"; g.fillText("0%", p.plotWidth + 8, split + 1); g.fillText("−" + percent(deepest / 1.1), p.plotWidth + 8, under(deepest / 1.1));
    p.crosshair(bottom);
    return to - from;
  };
  const nearest = (times, time) => { const row = rowAt(times, time); return row > 0 && (row >= times.length || time - times[row - 1] < times[row] - time) ? row - 1 : Math.min(row, times.length - 1); };
  const describeEquity = (p) => {
    if (!equity.values.length) return "No bar was processed yet.";
    const row = p.hover === null ? equity.values.length - 1 : nearest(equity.times, p.hover), value = equity.values[row];
    return `<span><b>${utc(equity.times[row], formats.moment)} UTC</b></span> <span>equity <b>${number(value, data.equity.decimals)}</b> ${escaped(data.quote)}</span>` +
      ` <span>return <b>${percent(value / initial - 1, true)}</b></span> <span>drawdown <b>${percent(equity.drawdowns[row])}</b></span>`;
  };

  // ---------------------------------------------------------------- candles and deals

  let chosen = null;
  const unfolded = new Map();
  const barsOf = (index) => { if (!unfolded.has(index)) unfolded.set(index, unfoldBars(data.symbols[index])); return unfolded.get(index); };
  const paintCandles = (p) => {
    const g = p.g, symbol = data.symbols[chosen], bars = barsOf(chosen), bottom = p.height - 24;
    const from = Math.max(0, rowAt(bars.times, p.view[0] - bars.step)), to = rowAt(bars.times, p.view[1]);
    let low = Infinity, high = -Infinity;
    for (let i = from; i < to; i++) { low = Math.min(low, bars.l[i]); high = Math.max(high, bars.h[i]); }
    if (from >= to) return 0;
    const margin = (high - low || high * 0.01) * 0.08; low -= margin; high += margin;
    const y = (price) => 6 + ((high - price) / (high - low)) * (bottom - 6), width = (bars.step / (p.view[1] - p.view[0])) * p.plotWidth;
    p.verticals(bottom); p.horizontals(low, high, y, (v, step) => number(v, Math.min(symbol.decimals, stepDecimals(step))), bottom / 52);
    g.save(); g.beginPath(); g.rect(0, 0, p.plotWidth, bottom); g.clip();
    paintLevels(p, symbol, y);
    const body = Math.max(1, Math.floor(width * 0.68));
    for (const [up, name] of [[true, "up"], [false, "down"]]) {
      g.fillStyle = colour(name);
      for (let i = from; i < to; i++) {
        if (bars.c[i] >= bars.o[i] !== up) continue;
        const centre = p.x(bars.times[i] + bars.step / 2), edge = Math.round(centre - body / 2), above = y(Math.max(bars.o[i], bars.c[i]));
        g.fillRect(Math.round(centre - 0.5), y(bars.h[i]), 1, Math.max(1, y(bars.l[i]) - y(bars.h[i])));
        if (body > 1) g.fillRect(edge, above, body, Math.max(1, y(Math.min(bars.o[i], bars.c[i])) - above));
      }
    }
    for (const [time, price, leg] of symbol.fills) if (time >= p.view[0] - bars.step && time <= p.view[1]) marker(g, leg, p.x(time + barLength(symbol, bars) / 2), y(Number(price)), width);
    g.restore(); p.crosshair(bottom);
    const lastClose = bars.c[to - 1]; p.tag(y(lastClose), number(lastClose, symbol.decimals), "ink");
    return to - from;
  };
  const barLength = (symbol, bars) => bars.step / symbol.merged;
  const paintLevels = (p, symbol, y) => {
    const g = p.g;
    for (const [opened, price, closed] of symbol.trades) { line(p, opened, closed, y(Number(price)), "entry", []); }
    for (const [leg, price, since, until] of symbol.levels) {
      const stop = leg === "stop", at = y(Number(price)), left = Math.max(0, p.x(since)), right = Math.min(p.plotWidth, p.x(until));
      line(p, since, until, at, stop ? "stop" : "target", stop ? [5, 3] : [1.5, 2.5]);
      const label = leg.replace("_", " ");
      if (right - left > g.measureText(label).width + 14) { g.fillStyle = colour(stop ? "stop" : "target"); g.textAlign = "right"; g.fillText(label, right - 4, at + (stop ? 8 : -8)); }
    }
  };
  const line = (p, since, until, y, name, dash) => {
    const g = p.g, left = p.x(since), right = Math.max(p.x(until), left + 3);
    if (right < 0 || left > p.plotWidth) return;
    g.strokeStyle = colour(name); g.lineWidth = 1.25; g.setLineDash(dash); g.beginPath(); g.moveTo(Math.max(left, -5), Math.round(y) + 0.5); g.lineTo(Math.min(right, p.plotWidth + 5), Math.round(y) + 0.5); g.stroke(); g.setLineDash([]);
  };
  // Shapes differ, not only colours: entry a triangle up, stop a cross, target a diamond, any other exit a triangle down.
  const marker = (g, leg, x, y, width) => {
    const r = width < 4 ? 4.5 : 6;
    g.beginPath();
    if (leg === "entry") { g.moveTo(x, y); g.lineTo(x + r, y + 1.7 * r); g.lineTo(x - r, y + 1.7 * r); }
    else if (leg.startsWith("target")) { g.moveTo(x, y - r); g.lineTo(x + r, y); g.lineTo(x, y + r); g.lineTo(x - r, y); }
    else if (leg === "stop") { const s = r * 0.75; g.moveTo(x - s, y - s); g.lineTo(x + s, y + s); g.moveTo(x + s, y - s); g.lineTo(x - s, y + s); }
    else { g.moveTo(x, y); g.lineTo(x + r, y - 1.7 * r); g.lineTo(x - r, y - 1.7 * r); }
    const name = leg === "entry" ? "entry" : leg.startsWith("target") ? "target" : "stop";
    g.lineJoin = g.lineCap = "round"; g.strokeStyle = colour("card");
    if (leg === "stop") { g.lineWidth = 6; g.stroke(); g.lineWidth = 2.6; g.strokeStyle = colour(name); g.stroke(); }
    else { g.closePath(); g.lineWidth = 3; g.stroke(); g.fillStyle = colour(name); g.fill(); }
    g.lineCap = "butt";
  };
  const describeCandles = (p) => {
    const symbol = data.symbols[chosen], bars = barsOf(chosen);
    if (!bars.c.length) return "No candles of this symbol yet.";
    const row = p.hover === null ? Math.max(0, rowAt(bars.times, p.view[1]) - 1) : Math.max(0, rowAt(bars.times, p.hover + 1) - 1);
    const [o, h, l, c] = ["o", "h", "l", "c"].map((key) => number(bars[key][row], symbol.decimals)), end = bars.times[row] + bars.step;
    const deals = symbol.fills.filter(([time]) => time >= bars.times[row] && time < end);
    return `<span><b>${utc(bars.times[row], formats.moment)} UTC</b></span> <span>O <b>${o}</b></span> <span>H <b>${h}</b></span> <span>L <b>${l}</b></span> <span>C <b>${c}</b></span>` +
      deals.slice(0, 4).map(([, , , text]) => `<span class="deal">${escaped(text)}</span>`).join("");
  };

  const widestPrice = () => number(Math.max(...barsOf(chosen).h.slice(-500), 1), data.symbols[chosen].decimals);

  const equityPanel = new Panel("equity-chart", "equity-readout", paintEquity, describeEquity, () => number(initial, 0));
  if (equity.values.length) equityPanel.setSpan(equity.times[0] - equity.step, equity.times[equity.times.length - 1] + equity.step * 2, equity.step * 10);
  const candlePanel = data.symbols.length ? new Panel("candle-chart", "candle-readout", paintCandles, describeCandles, widestPrice) : null;
  const picker = document.getElementById("symbol-picker"), ranges = document.getElementById("range-picker");
  const lastBars = (count) => candlePanel.show(candlePanel.full[1] - count * barsOf(chosen).step, candlePanel.full[1]);
  const choose = (index) => {
    chosen = index;
    const bars = barsOf(index), count = bars.times.length, symbol = data.symbols[index];
    candlePanel.setSpan(count ? bars.times[0] - bars.step : 0, count ? bars.times[count - 1] + bars.step * 3 : 1, bars.step * 15);
    lastBars(Math.min(count + 4, Math.max(60, Math.round((candlePanel.canvas.getBoundingClientRect().width || 1100) / 6))));
    document.getElementById("merged-note").textContent = symbol.merged > 1 ? `To keep this file small, each bar drawn is ${symbol.merged} bars of ${data.timeframe}.` : "";
    for (const button of picker.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.value) === index));
    if (picker.querySelector("select")) picker.querySelector("select").value = String(index);
  };
  if (candlePanel) {
    picker.addEventListener("click", (event) => { if (event.target.closest("button")) choose(Number(event.target.closest("button").value)); });
    picker.addEventListener("change", (event) => choose(Number(event.target.value)));
    ranges.addEventListener("click", (event) => {
      const action = event.target.closest("button")?.value;
      if (action === "in") candlePanel.zoom(0.6); else if (action === "out") candlePanel.zoom(1 / 0.6);
      else if (action === "all") candlePanel.show(...candlePanel.full);
      else if (action) candlePanel.show(candlePanel.full[1] - Number(action) * DAY, candlePanel.full[1]);
    });
    document.addEventListener("click", (event) => {
      const jump = event.target.closest("button.jump");
      if (!jump) return;
      choose(Number(jump.dataset.symbol));
      const from = Number(jump.dataset.from), to = Number(jump.dataset.to), around = Math.max((to - from) * 0.6, 25 * barsOf(chosen).step);
      candlePanel.show(from - around, to + around);
      document.getElementById("candles").scrollIntoView({ behavior: "smooth", block: "start" });
    });
    choose(Math.max(0, data.symbols.findIndex((symbol) => symbol.fills.length)));
  }
  const redrawAll = () => { equityPanel.draw(); if (candlePanel) candlePanel.draw(); };
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  window.addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redrawAll(); });
  window.addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redrawAll(); });
})();
