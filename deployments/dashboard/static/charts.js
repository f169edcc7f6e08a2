// The page's two charts: plotly draws, this hands it what to draw in the page's colours, and keeps the reader's place.
"use strict";
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
// Plotly reads tags in a text: what comes from outside must have none.
const plainText = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const CHART_CONFIG = { responsive: true, displayModeBar: false, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", showTips: false, doubleClick: false };
const TICKS = [
  { dtickrange: [null, 43_200_000], value: "%H:%M\n%-d %b" }, { dtickrange: [43_200_000, "M1"], value: "%-d %b" },
  { dtickrange: ["M1", null], value: "%b %Y" },
];
const BAR_PX = 8;

// Decimals that tell prices of this size apart, at least 2.
const decimalsOf = (price) => Math.max(2, Math.min(10, 5 - Math.floor(Math.log10(Math.abs(price) || 1))));
// Decimals that prices are quoted in: the fewest that hold them all, at least 2.
function quotedIn(prices) {
  const most = decimalsOf(prices.at(-1));
  for (let decimals = 2; decimals < most; decimals += 1) if (prices.every((price) => Math.abs(price * 10 ** decimals - Math.round(price * 10 ** decimals)) < 1e-4)) return decimals;
  return most;
}
const millis = (at) => (typeof at === "number" ? at : Date.parse(at.length > 10 ? `${at.replace(" ", "T")}Z` : at));

function layoutOf(more) {
  const axis = { gridcolor: colour("faint"), linecolor: colour("line"), tickfont: { color: colour("soft"), size: 11.5 }, zeroline: false };
  return {
    autosize: true, paper_bgcolor: colour("card"), plot_bgcolor: colour("card"), separators: ".,", showlegend: false, hovermode: "x unified", hoverdistance: 2,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12 } },
    margin: { l: 4, r: 64, t: 6, b: 36 }, dragmode: false,
    ...more,
    xaxis: { ...axis, type: "date", tickformatstops: TICKS, hoverformat: "%-d %b %Y, %H:%M UTC", rangeslider: { visible: false }, tickangle: 0, nticks: Math.max(4, Math.min(10, Math.round(document.body.clientWidth / 120))), ...more.xaxis },
    yaxis: { ...axis, side: "right", fixedrange: true, nticks: 6, ...more.yaxis },
  };
}

function drawEquity(node, curve, quote, initial) {
  const [low, high] = [Math.min(...curve.equity), Math.max(...curve.equity)];
  const margin = Math.max((high - low) * 0.12, Math.abs(high) * 1e-5, 0.01);
  // The line of what the desk began with is drawn where it is near: the curve itself must not become flat for it.
  const near = initial >= low - (high - low) && initial <= high + (high - low);
  const bounds = near ? [Math.min(low, initial) - margin, Math.max(high, initial) + margin] : [low - margin, high + margin];
  const decimals = high - low < 50 ? 2 : 0;
  const base = { x: curve.at, type: "scatter", mode: "lines", hoverinfo: "skip", line: { width: 0 } };
  Plotly.react(node, [
    { ...base, y: curve.at.map(() => bounds[0]) },
    {
      ...base, y: curve.equity, fill: "tonexty", fillcolor: colour("area"), line: { color: colour("accent"), width: 1.8 }, hoverinfo: "all",
      hovertemplate: `equity <b>%{y:,.2f}</b> ${plainText(quote)}<extra></extra>`,
    },
  ], layoutOf({
    margin: { l: 4, r: 14 + 7.5 * Math.max(6, high.toLocaleString("en", { maximumFractionDigits: decimals, minimumFractionDigits: decimals }).length), t: 6, b: 36 },
    xaxis: { fixedrange: true, range: [curve.at[0], curve.at.at(-1)] }, yaxis: { range: bounds, tickformat: `,.${decimals}f` },
    shapes: near ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: initial, y1: initial, line: { color: colour("soft"), width: 1, dash: "4px,4px" } }] : [],
  }), CHART_CONFIG);
}

const MARKERS = [
  { name: "buy", colour: "gain", symbol: "triangle-up", size: 13, has: (fill) => fill.leg === "entry" && fill.side.toLowerCase() === "buy" },
  { name: "sell short", colour: "loss", symbol: "triangle-down", size: 13, has: (fill) => fill.leg === "entry" && fill.side.toLowerCase() !== "buy" },
  { name: "target", colour: "accent", symbol: "diamond", size: 11, has: (fill) => fill.leg.startsWith("target") },
  { name: "stop", colour: "loss", symbol: "x", size: 10, has: (fill) => fill.leg === "stop" || fill.leg === "liquidation" },
  { name: "exit", colour: "ink", symbol: "square", size: 9, has: (fill) => !["entry", "stop", "liquidation"].includes(fill.leg) && !fill.leg.startsWith("target") },
];

function fillText(fill, decimals) {
  const shown = Number(fill.price).toLocaleString("en", { maximumFractionDigits: Math.max(decimals, 2) });
  const result = fill.realized_pnl === null ? "" : `, result ${Number(fill.realized_pnl).toLocaleString("en", { maximumFractionDigits: 2, signDisplay: "exceptZero" })}`;
  const reason = String(fill.reason ?? "").replace(/(.{30,46}) /g, "$1\n");
  return `<b>${plainText(fill.leg.replaceAll("_", " "))}</b> ${plainText(fill.side.toLowerCase())} ${plainText(Number(fill.quantity))} at ${shown}${result}<br>${plainText(reason).replaceAll("\n", "<br>")}`;
}

function levels(data, decimals) {
  const end = data.bars.at.at(-1) + 2 * data.timeframe_ms, since = Math.max(Date.parse(data.position?.opened_at ?? 0), data.bars.at[0]);
  const line = (name, price, tone, dash) => ({
    type: "scatter", mode: "lines", name, x: [since, end], y: [Number(price), Number(price)], line: { color: colour(tone), width: 1.5, dash },
    hovertemplate: `${name} <b>%{y:,.${decimals}f}</b><extra></extra>`,
  });
  const wanted = data.position === null ? [] : [
    ["entry price", data.position.entry_price, "accent", "solid"], ["stop price", data.position.stop_loss, "loss", "dash"],
    ["target price", data.position.take_profit_1, "gain", "dot"], ["target 2 price", data.position.take_profit_2, "gain", "dot"],
  ];
  return wanted.filter(([, price]) => price !== null).map((one) => line(...one));
}

// Lowest and highest price between two times, of bars, deals and levels, with a margin.
function fittedPrices(traces, from, to) {
  let [low, high] = [Infinity, -Infinity];
  for (const trace of traces) {
    const lows = trace.low ?? trace.y, highs = trace.high ?? trace.y;
    trace.x.forEach((at, row) => { if (at >= from && at <= to) { low = Math.min(low, lows[row]); high = Math.max(high, highs[row]); } });
  }
  const margin = (high - low || Math.abs(high) * 0.01 || 0.01) * 0.07;
  return low <= high ? [low - margin, high + margin] : undefined;
}

function drawCandles(node, data) {
  const { bars } = data, decimals = quotedIn(bars.close), step = data.timeframe_ms;
  const candles = {
    type: "candlestick", name: "candles", showlegend: false, x: bars.at, open: bars.open, high: bars.high, low: bars.low, close: bars.close,
    increasing: { line: { color: colour("up"), width: 1 }, fillcolor: colour("up") }, decreasing: { line: { color: colour("down"), width: 1 }, fillcolor: colour("down") },
    hovertemplate: `O <b>%{open:,.${decimals}f}</b> H <b>%{high:,.${decimals}f}</b> L <b>%{low:,.${decimals}f}</b> C <b>%{close:,.${decimals}f}</b><extra></extra>`,
  };
  const markers = MARKERS.map((kind) => {
    const own = data.fills.filter(kind.has);
    return {
      type: "scatter", mode: "markers", name: kind.name, x: own.map((fill) => Date.parse(fill.at)), y: own.map((fill) => Number(fill.price)), text: own.map((fill) => fillText(fill, decimals)),
      hovertemplate: "%{text}<extra></extra>", marker: { symbol: kind.symbol, size: kind.size, color: colour(kind.colour), line: { color: colour("card"), width: 1.5 } }, cliponaxis: false,
    };
  }).filter(({ x }) => x.length);
  const traces = [candles, ...levels(data, decimals), ...markers], last = bars.at.at(-1) + 3 * step, first = bars.at[0] - step;
  const isOther = node.symbol !== data.symbol, shown = Math.max(40, Math.round((node.clientWidth - 70) / BAR_PX)) * step;
  const range = isOther || node.follows || !node.layout ? [Math.max(first, last - shown), last] : node.layout.xaxis.range.map(millis);
  const close = bars.close.at(-1), text = close.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  const below = 40 + 22 * (node.clientWidth < 500 ? 2 : 1), plotHeight = Math.max(100, node.clientHeight - below - 6);
  const canDrag = !window.matchMedia("(pointer: coarse)").matches; // a finger scrolls the page
  Plotly.react(node, traces, layoutOf({
    dragmode: canDrag ? "pan" : false, showlegend: true, boxgap: 0.3, margin: { l: 4, r: 14 + 7.5 * Math.max(6, text.length), t: 6, b: below },
    legend: { orientation: "h", x: 0, y: -38 / plotHeight, yanchor: "top", font: { color: colour("soft"), size: 12 } },
    xaxis: { range, fixedrange: !canDrag }, yaxis: { range: fittedPrices(traces, ...range), tickformat: `,.${decimals}f` },
    annotations: [{ xref: "paper", x: 1, xanchor: "left", xshift: 1, yref: "y", y: close, text, showarrow: false, bgcolor: colour("ink"), font: { color: colour("card"), size: 12 }, borderpad: 3 }],
  }), CHART_CONFIG);
  if (isOther) node.follows = true;
  node.symbol = data.symbol; node.traces = traces; node.span = [Math.max(first, last - shown), last];
  if (node.listens) return;
  node.listens = true;
  // Dragged by the reader: the place is kept until a double click follows the newest bar again.
  node.on("plotly_relayout", (change) => {
    if (!("xaxis.range[0]" in change)) return;
    node.follows = false;
    const seen = node.layout.xaxis.range.map(millis);
    Plotly.relayout(node, { "yaxis.range": fittedPrices(node.traces, ...seen) });
  });
  node.on("plotly_doubleclick", () => {
    node.follows = true;
    Plotly.relayout(node, { "xaxis.range": node.span, "yaxis.range": fittedPrices(node.traces, ...node.span) });
  });
}
