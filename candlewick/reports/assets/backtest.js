// Draws the backtesting reports: a run's equity, candles and trades. The figures come from candlewick/reports/run_figures.py.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const byId = (id) => document.getElementById(id);
  const clean = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const number = (value, least, most = least) => value.toLocaleString("en-US", { minimumFractionDigits: least, maximumFractionDigits: most }).replace("-", "−");
  const signed = (value, decimals) => (value > 0 ? "+" : "") + number(value, decimals);
  const time = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
  const template = (isDark) => data.templates[isDark ? "dark" : "light"];
  // Puts a scheme's colours in for their names, which only stand under keys that end in "color".
  const tinted = (value, colours, key = "") => {
    if (Array.isArray(value)) return key && value.length < 5000 ? value.map((part) => tinted(part, colours, key)) : value;
    if (value !== null && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, tinted(part, colours, name)]));
    return typeof value === "string" && value[0] === "@" && key.endsWith("color") ? colours[value.slice(1)] : value;
  };
  const inScheme = (value, isPrinted) => tinted({ value }, data.colours[dark.matches && !isPrinted ? "dark" : "light"]).value;

  // A chart over time whose colours follow the scheme.
  class RunChart extends Chart {
    constructor(id) { super(id, template, data.config); this.isPrinted = false; }
    draw(traces, layout, step, from, to) {
      this.raw = [traces, layout, step];
      super.draw(inScheme(traces, this.isPrinted), inScheme(layout, this.isPrinted), step, from, to);
    }
    paint(isPrinted) {
      const range = this.range;
      this.isPrinted = isPrinted;
      if (this.raw) this.draw(...this.raw, ...range);
      super.paint(isPrinted);
    }
  }
  // A chart that stands still: bars, points, a heat map.
  class StillChart {
    constructor(node, figure) { this.node = node; this.figure = figure; this.paint(false); }
    paint(isPrinted) {
      const layout = { ...inScheme(this.figure.layout, isPrinted), template: template(dark.matches && !isPrinted), ...(isPrinted ? { width: 670, autosize: false } : {}) };
      Plotly.react(this.node, inScheme(this.figure.data, isPrinted), layout, { ...data.config, scrollZoom: false });
    }
  }
  const charts = [];

  if (byId("equity-chart")) {
    const equity = new RunChart("equity-chart");
    equity.draw(data.equity.data, data.equity.layout, data.equity.step, ...data.equity.layout.xaxis.range);
    charts.push(equity);
  }

  // ------------------------------------------------------------------------------------------ charts that stand still
  // A figure may have several versions; each select of its bar names one part of the key of the version that is shown.
  for (const [id, { versions, figures }] of Object.entries(data.still ?? {})) {
    const selects = [...document.querySelectorAll(`select[data-chart="${id}"]`)];
    const chosen = () => figures[versions ? versions[selects.map(({ value }) => value).join("|")] : 0];
    const chart = new StillChart(byId(id), chosen());
    charts.push(chart);
    for (const select of selects) select.addEventListener("change", () => { chart.figure = chosen(); chart.paint(false); });
  }

  // ------------------------------------------------------------------------------------------ candles and trades
  const trades = data.trades, count = trades ? trades.row.length : 0, MOST_DRAWN = 300;
  const say = (row, key) => trades.texts[trades[key][row]];
  const symbolOf = (row) => data.symbols[trades.symbol[row]].symbol;
  const decimalsOf = (row) => data.symbols[trades.symbol[row]].decimals;
  const price = (row, key) => (trades[key][row] === null ? "—" : number(trades[key][row], decimalsOf(row), Math.max(8, decimalsOf(row))));
  const wrapped = (text) => clean(text.replace(/(.{30,46}) /g, "$1\n")).replace(/\n/g, "<br>");
  const entryText = (row) => `<b>${trades.side[row] ? "short" : "long"} entry</b> ${time(trades.opened_at[row])}: ${number(trades.quantity[row], 0, 8)} at ${price(row, "entry_price")}<br>${wrapped(say(row, "entry_reason"))}`;
  const exitText = (row) => `<b>exit, ${signed(trades.pnl[row], data.money)}</b> ${time(trades.closed_at[row])}: at ${price(row, "exit_price")}<br>${wrapped(say(row, "exit_reason"))}`;
  const KINDS = [
    ["entry, long", "@accent", "triangle-up", 12], ["entry, short", "@accent", "triangle-down", 12],
    ["exit with gain", "@gain", "diamond", 10], ["exit without", "@loss", "x", 9],
  ];

  class CandleChart extends RunChart {
    // The trades between two times; where there are too many to tell apart, those with the largest results.
    rows(from, to) {
      const found = [];
      for (let row = 0; row < count; row += 1) {
        if (trades.symbol[row] !== this.symbol || trades.opened_at[row] * 1000 > to || (trades.closed_at[row] ?? Infinity) * 1000 < from) continue;
        found.push(row);
      }
      this.inRange = found.length;
      if (found.length <= MOST_DRAWN) return found;
      return found.sort((a, b) => Math.abs(trades.pnl[b] ?? 0) - Math.abs(trades.pnl[a] ?? 0)).slice(0, MOST_DRAWN);
    }
    deals(from, to) {
      const lines = [0, 1].map(() => ({ x: [], y: [] })), points = KINDS.map(() => ({ x: [], y: [], text: [] }));
      const put = (kind, at, y, text) => { points[kind].x.push(at * 1000); points[kind].y.push(y); points[kind].text.push(text); };
      const rows = this.rows(from, to);
      for (const row of rows) {
        put(trades.side[row], trades.opened_at[row], trades.entry_price[row], entryText(row));
        if (trades.closed_at[row] === null || trades.exit_price[row] === null) continue;
        const lost = trades.pnl[row] > 0 ? 0 : 1;
        put(2 + lost, trades.closed_at[row], trades.exit_price[row], exitText(row));
        lines[lost].x.push(trades.opened_at[row] * 1000, trades.closed_at[row] * 1000, null);
        lines[lost].y.push(trades.entry_price[row], trades.exit_price[row], null);
      }
      const shown = rows.length < this.inRange ? `${number(rows.length, 0)} of the ${number(this.inRange, 0)} trades in view are drawn, those with the largest results; zoom in for the others. ` : "";
      byId("candle-note").textContent = this.note + shown;
      return [...lines, ...points];
    }
    static template() {
      const line = { type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false };
      return [
        ...["@gain", "@loss"].map((color) => ({ ...line, line: { color, width: 1.3, dash: "dot" } })),
        ...KINDS.map(([name, color, symbol, size]) => ({
          type: "scatter", mode: "markers", name, cliponaxis: false, hovertemplate: "%{text}<extra></extra>",
          marker: { symbol, size, color, line: { color: "@card", width: 1.2 } },
        })),
      ];
    }
    moved() {
      const deals = this.deals(...this.range), places = deals.map((_, place) => place + 1);
      deals.forEach((own, place) => Object.assign(this.raw[0][place + 1], own));
      Plotly.restyle(this.node, { x: deals.map(({ x }) => x), y: deals.map(({ y }) => y), text: deals.map(({ text }) => text ?? "") }, places);
    }
    // The candles of a symbol, or of a window of it, with the trades between `from` and `to`.
    choose(symbol, windowRow, from, to) {
      const own = data.symbols[symbol], part = own.windows.find(({ row }) => row === windowRow) ?? own.chart;
      this.symbol = symbol;
      if (!part) { this.note = "There are no candles of this symbol. "; return; }
      const { start, step } = part, x = part.x.map((place) => start + place * step), decimals = own.decimals;
      const shown = ["open", "high", "low", "close"].map((name) => `${name[0].toUpperCase()} <b>%{${name}:,.${decimals}f}</b>`).join("  ");
      const bars = {
        type: "candlestick", name: "candles", showlegend: false, meta: "fit", x, open: part.open, high: part.high, low: part.low, close: part.close,
        hovertemplate: `${shown}<extra></extra>`, increasing: { fillcolor: "@up", line: { color: "@up", width: 1 } }, decreasing: { fillcolor: "@down", line: { color: "@down", width: 1 } },
      };
      this.note = part.text === data.timeframe ? `Every candle is one of the run's ${data.timeframe} candles. ` : `Each candle drawn is ${part.text} of the run's ${data.timeframe} candles. `;
      const ends = [x[0] - step, x[x.length - 1] + 2 * step], { layout } = data.candles;
      const seen = [Math.max(ends[0], from ?? ends[0]), Math.min(ends[1], to ?? ends[1])], width = Math.max(...part.high).toLocaleString("en-US", { minimumFractionDigits: decimals }).length;
      const traces = [bars, ...CandleChart.template()];
      this.deals(...seen).forEach((deal, place) => Object.assign(traces[place + 1], deal));
      this.draw(traces, {
        ...layout, boxgap: 0.3, margin: { ...layout.margin, r: Math.round(7.2 * Math.max(6, width) + 14) },
        xaxis: { ...layout.xaxis, range: ends }, yaxis: { ...layout.yaxis, tickformat: `,.${decimals}~f` },
      }, step, ...seen);
    }
  }

  let show = () => {};
  if (byId("candle-chart")) {
    const candles = new CandleChart("candle-chart"), picker = byId("symbol-picker"), windows = byId("window-picker");
    charts.push(candles);
    const place = new Map(Array.from({ length: count }, (_, row) => [trades.row[row], row]));
    const known = data.symbols.flatMap((own, symbol) => own.windows.map(({ row }) => ({ symbol, row, pnl: trades.pnl[place.get(row)] ?? 0 }))).sort((a, b) => Math.sign(b.pnl) - Math.sign(a.pnl) || Math.abs(b.pnl) - Math.abs(a.pnl));
    windows.append(new Option("Whole span", ""));
    for (const { row, symbol, pnl } of known) windows.append(new Option(`${signed(pnl, data.money)}: ${data.symbols[symbol].symbol}, ${time(trades.opened_at[place.get(row)])}`, `${symbol} ${row}`));
    const choose = (symbol, windowRow, from, to) => {
      for (const button of picker.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.value) === symbol));
      if (picker.querySelector("select")) picker.querySelector("select").value = String(symbol);
      windows.value = windowRow === undefined ? "" : `${symbol} ${windowRow}`;
      candles.choose(symbol, windowRow, from, to);
    };
    // A trade in its own window where it has one, else in the chart of the whole span, near enough to be seen.
    show = (row) => {
      const symbol = trades.symbol[row], own = data.symbols[symbol];
      if (!own.chart) return;
      const has = own.windows.some((part) => part.row === trades.row[row]), from = trades.opened_at[row] * 1000;
      const to = trades.closed_at[row] === null ? own.chart.start + own.chart.x[own.chart.x.length - 1] * own.chart.step : trades.closed_at[row] * 1000;
      const around = Math.max((to - from) * 0.6, 30 * own.chart.step);
      if (has) choose(symbol, trades.row[row]); else choose(symbol, undefined, from - around, to + around);
      byId("candles").scrollIntoView({ behavior: "smooth", block: "start" });
    };
    picker.addEventListener("click", (event) => { if (event.target.closest("button")) choose(Number(event.target.closest("button").value)); });
    picker.addEventListener("change", (event) => choose(Number(event.target.value)));
    windows.addEventListener("change", () => { if (windows.value) choose(...windows.value.split(" ").map(Number)); else choose(candles.symbol); });
    byId("range-picker").addEventListener("click", (event) => { if (event.target.closest("button")) candles.act(event.target.closest("button").value); });
    const first = data.symbols.findIndex(({ chart }, symbol) => chart && trades.symbol.includes(symbol));
    choose(first >= 0 ? first : data.symbols.findIndex(({ chart }) => chart));
  }

  // ------------------------------------------------------------------------------------------ the list of trades
  const list = byId("trades");
  if (list && count) {
    const PAGE = 50, tools = byId("trade-tools"), pager = byId("trade-pager"), heads = [...list.querySelectorAll("button.sort")];
    let order = Array.from({ length: count }, (_, row) => row), page = 0, sorted = null, falling = true;
    const VALUES = {
      symbol: symbolOf, legs: (row) => say(row, "legs"), held: (row) => (trades.closed_at[row] === null ? null : trades.closed_at[row] - trades.opened_at[row]),
      costs: (row) => trades.fees[row] - (trades.funding[row] ?? 0),
    };
    const value = (row) => (VALUES[sorted] ? VALUES[sorted](row) : trades[sorted][row]);
    // Undefined figures stand last either way.
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * (falling ? -1 : 1);
    };
    const span = (seconds) => {
      const minutes = Math.floor(seconds / 60), parts = [[Math.floor(minutes / 1440), "d"], [Math.floor(minutes / 60) % 24, "h"], [minutes % 60, "m"]];
      return parts.filter(([amount]) => amount).slice(0, 2).map(([amount, unit]) => number(amount, 0) + unit).join(" ") || "0m";
    };
    const toneOf = (amount) => (amount > 0 ? "gain" : amount < 0 ? "loss" : "");
    const make = (tag, className, text) => Object.assign(document.createElement(tag), { className, textContent: text });
    const cells = (row) => {
      const pnl = trades.pnl[row], share = trades.return_share[row], isOpen = trades.closed_at[row] === null, funding = trades.funding[row];
      return [
        ["t", trades.side[row] ? "short" : "long"], ["t", time(trades.opened_at[row])], ["t", isOpen ? "open" : time(trades.closed_at[row])],
        ["n", isOpen ? "—" : span(trades.closed_at[row] - trades.opened_at[row])], ["n", number(trades.quantity[row], 0, 8)],
        ["n", price(row, "entry_price")], ["n", price(row, "exit_price")],
        ["n costs", number(trades.fees[row], data.money) + (funding ? ` ${signed(funding, data.money)}` : "")],
        [`n ${toneOf(pnl)}`, pnl === null ? "—" : signed(pnl, data.money)], [`n ${toneOf(share)}`, share === null ? "—" : `${signed(share * 100, 2)}%`],
        ["t", say(row, "legs") || "—"],
      ];
    };
    const body = (row) => {
      const made = document.createElement("tbody"), line = document.createElement("tr"), story = make("tr", "story", ""), cell = document.createElement("td");
      const name = make("button", "jump", symbolOf(row)), first = make("td", "t", "");
      Object.assign(name, { type: "button", title: `Show ${symbolOf(row)} in the chart` });
      name.addEventListener("click", () => show(row));
      first.append(name);
      line.append(first, ...cells(row).map(([kind, text]) => make("td", kind, text)));
      cell.colSpan = 12;
      cell.append(make("div", "", [say(row, "entry_reason"), say(row, "exit_reason")].filter(Boolean).join(" → ")));
      story.append(cell);
      made.append(line, story);
      return made;
    };
    const render = () => {
      const last = Math.max(0, Math.ceil(order.length / PAGE) - 1), { scrollLeft } = list.parentElement;
      page = Math.min(Math.max(page, 0), last);
      for (const old of [...list.tBodies]) old.remove();
      list.append(...order.slice(page * PAGE, (page + 1) * PAGE).map(body));
      list.parentElement.scrollLeft = scrollLeft;
      pager.querySelector("span").textContent = order.length ? `${number(page * PAGE + 1, 0)} to ${number(Math.min(order.length, (page + 1) * PAGE), 0)} of ${number(order.length, 0)}` : "No trade is like that.";
      [...pager.querySelectorAll("button")].forEach((button) => { button.disabled = button.value === "-1" ? page === 0 : page === last; });
    };
    const apply = () => {
      const [symbol, side, result] = ["symbol", "side", "result"].map((name) => tools.querySelector(`[name=${name}]`).value), text = tools.querySelector("[name=text]").value.toLowerCase();
      const wanted = {
        "": () => true, gain: (row) => trades.pnl[row] > 0, loss: (row) => trades.pnl[row] !== null && trades.pnl[row] <= 0, open: (row) => trades.closed_at[row] === null,
      }[result];
      order = Array.from({ length: count }, (_, row) => row).filter((row) => (symbol === "" || trades.symbol[row] === Number(symbol))
        && (side === "" || trades.side[row] === Number(side)) && wanted(row)
        && (text === "" || `${say(row, "entry_reason")} ${say(row, "exit_reason")}`.toLowerCase().includes(text)));
      if (sorted) order.sort(compare);
      page = 0;
      render();
    };
    for (const head of heads) head.addEventListener("click", () => {
      falling = sorted === head.value ? !falling : true;
      sorted = head.value;
      for (const other of heads) other.parentElement.removeAttribute("aria-sort");
      head.parentElement.setAttribute("aria-sort", falling ? "descending" : "ascending");
      apply();
    });
    tools.addEventListener("input", apply);
    pager.addEventListener("click", (event) => { if (event.target.closest("button")) { page += Number(event.target.closest("button").value); render(); } });
    render();
  }

  const paint = (isPrinted) => { document.documentElement.classList.toggle("printing", isPrinted); charts.forEach((chart) => chart.paint(isPrinted)); };
  dark.addEventListener("change", () => paint(false));
  window.addEventListener("beforeprint", () => paint(true));
  window.addEventListener("afterprint", () => paint(false));
})();
