// The live page: draws what /api/stream says, and asks for the candles of the chosen symbol. All text is set as text, never as HTML.
"use strict";
const $ = (id) => document.getElementById(id);
const FEW = window.matchMedia("(max-width: 700px)").matches ? 8 : 12;
const RETRY_MS = 3000;
const view = { state: null, offset: 0, chosen: decodeURIComponent(location.hash.slice(1)) || null, all: false, candles: null, asked: null };

// ---------------------------------------------------------------------------------------------------- words and numbers
const money = (value, digits = 2) => Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const signed = (value, digits = 2) => Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "exceptZero" }).replace("-", "−");
const share = (value) => `${signed(Number(value) * 100)} %`;
const price = (value) => (value === null ? "–" : Number(value).toLocaleString("en", { minimumFractionDigits: Math.min(2, decimalsOf(value)), maximumFractionDigits: decimalsOf(value) }));
const quantity = (value) => Number(value).toLocaleString("en", { maximumSignificantDigits: 7 }).replace("-", "−");
const tone = (value) => (Number(value) > 0 ? "gain" : Number(value) < 0 ? "loss" : "");
const words = (name) => String(name ?? "").replaceAll("_", " ");
const count = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;
const clock = (at) => new Date(at).toISOString().slice(11, 19);
const day = (at) => new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const moment = (at) => `${day(at)} ${clock(at)}`;
function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min` : `${Math.floor(s / 86400)} d ${Math.round((s % 86400) / 3600)} h`;
}

// ---------------------------------------------------------------------------------------------------- small pieces of DOM
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const dress = (node, name) => { if (node.className !== name) node.className = name; };
const show = (node, isShown) => { node.hidden = !isShown; };
const make = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });
// Children of `parent`, one an item, in the items' order; a node that stays is updated in place and keeps its focus.
function sync(parent, items, key, create, update) {
  const known = (parent.known ??= new Map()), wanted = new Set(items.map(key));
  for (const [name, node] of known) if (!wanted.has(name)) { node.remove(); known.delete(name); }
  let next = parent.firstElementChild;
  for (const item of items) {
    let node = known.get(key(item));
    if (node === undefined) known.set(key(item), (node = create(item)));
    update(node, item);
    if (node === next) next = next.nextElementSibling; else parent.insertBefore(node, next);
  }
}

// ---------------------------------------------------------------------------------------------------- header and banners
const GOOD = ["running", "RUNNING"], WARN = ["paused", "PAUSED", "starting", "STARTING", "recovering", "RECOVERING", "stopping", "STOPPING", "silent"];
const toneOf = (word) => (GOOD.includes(word) ? "good" : WARN.includes(word) ? "warn" : ["crashed", "error", "ERROR"].includes(word) ? "bad" : "");
const isLive = () => view.state?.condition.is_alive ?? false;
const serverNow = () => Date.now() + view.offset;
// The market's time now: as of the last heartbeat, and on since then while the session lives.
function marketNow(session) {
  if (session.clock_at === null) return null;
  return Date.parse(session.clock_at) + (isLive() ? Math.max(0, serverNow() - Date.parse(session.heartbeat_at)) : 0);
}

function drawHeader(state) {
  const { session, condition } = state;
  document.body.dataset.condition = condition.word;
  put($("desk"), state.desk); put($("condition"), condition.word === "none" ? "no session" : condition.word); dress($("condition"), `pill ${toneOf(condition.word)}`);
  document.title = `${condition.word === "running" ? "" : `${condition.word}: `}${state.desk} · Candlewick`;
  show(document.querySelector(".figures"), session !== null);
  if (session === null) return;
  put($("about"), `${session.market} · ${session.timeframe} candles · ${session.strategy}`);
  put($("equity"), `${money(session.equity)} ${session.quote}`);
  const gained = Number(session.equity) - Number(session.initial_cash);
  put($("since-start"), `${signed(gained)} (${share(Number(session.initial_cash) ? gained / Number(session.initial_cash) : 0)}) since the start`); dress($("since-start"), `note ${tone(gained)}`);
  put($("day-pnl"), signed(session.day_pnl)); dress($("day-pnl"), tone(session.day_pnl));
  const dayStart = Number(session.equity) - Number(session.day_pnl);
  put($("day-note"), dayStart ? share(Number(session.day_pnl) / dayStart) : "");
  put($("drawdown"), `${money(Number(session.drawdown_share) * 100)} %`);
  put($("exposure"), `exposure ${money(session.gross_exposure, 0)}, net ${money(session.net_exposure, 0)}`);
  put($("health"), `${session.healthy_symbols} / ${session.symbols.length}`); dress($("health"), session.healthy_symbols < session.symbols.length ? "loss" : "");
  const sick = session.symbols.length - session.healthy_symbols;
  put($("health-note"), !isLive() ? "at the last heartbeat" : sick ? `${count(sick, "symbol")} in trouble` : "all of them");
  put($("counts"), `${count(session.bars, "bar")}, ${count(session.signals, "signal")}, ${count(session.fills, "fill")}, ${count(session.errors, "error")}${session.lag_p99_s === null ? "" : `, bar to fill ${session.lag_p99_s.toFixed(2)} s at p99`}`);
}

function drawLinks(state) {
  const { session, store } = state, bus = session?.bus_connected ?? null, waiting = Object.values(session?.outbox_waiting ?? {}).reduce((a, b) => a + b, 0);
  const isStored = store.reachable && (session === null || session.store_connected);
  dress($("store-dot"), `dot ${isStored ? "good" : "warn"}`); put($("store-link"), isStored ? "store connected" : "waiting for the store");
  dress($("bus-dot"), `dot ${bus === null || !isLive() ? "" : bus ? "good" : "bad"}`);
  const was = isLive() ? "" : "was ";
  put($("bus-link"), (bus === null ? "no external bus" : bus ? `bus ${was}connected` : `bus ${was}disconnected`) + (waiting ? `, ${count(waiting, "event")} waiting` : ""));
}

function drawBanners(state) {
  const { store, condition, session } = state, found = [];
  if (!store.reachable) found.push({ tone: "warn", title: store.title, text: store.message });
  if (condition.text !== null) found.push({ tone: toneOf(condition.word), title: condition.title, text: condition.text });
  for (const text of session?.notices ?? []) found.push({ tone: "warn", title: "", text });
  sync($("banners"), found, (one) => JSON.stringify(one), (one) => {
    const node = make("div", `banner ${one.tone}`);
    if (one.title) node.append(make("b", "", one.title));
    // A command stands between backticks.
    one.text.split("`").forEach((part, index) => node.append(make(index % 2 ? "code" : "span", "", part)));
    return node;
  }, () => {});
}

// Whatever moves by itself: clocks and ages.
function tick() {
  const session = view.state?.session;
  if (!session) return;
  const now = marketNow(session);
  put($("clock"), now === null ? "–" : moment(now));
  const left = (Date.parse(session.ends_at) - serverNow()) / 1000;
  put($("uptime"), isLive() ? `up ${span(session.uptime_s + (serverNow() - Date.parse(session.heartbeat_at)) / 1000)}${left > 0 ? `, hands over in ${span(left)}` : ""}` : `last heard of ${span((serverNow() - Date.parse(session.heartbeat_at)) / 1000)} ago`);
  for (const [name, row] of $("symbols").known ?? []) {
    const symbol = session.symbols.find((one) => one.symbol === name);
    if (symbol) drawAge(row.cells[3], symbol, session, now);
  }
}

function drawAge(cell, symbol, session, now) {
  const age = symbol.last_bar_at === null || now === null ? null : (now - Date.parse(symbol.last_bar_at) - session.timeframe_ms) / 1000;
  put(cell, age === null ? "none yet" : isLive() ? `${span(age)} ago` : moment(Date.parse(symbol.last_bar_at) + session.timeframe_ms).slice(0, -3));
  dress(cell, `number${isLive() && age !== null && age * 1000 > 3 * session.timeframe_ms ? " stale" : ""}`);
}

// ---------------------------------------------------------------------------------------------------- symbols
// Those who need a person come first, then those who hold something.
const urgency = (one) => (one.quarantined ? 0 : one.state === "ERROR" ? 1 : one.state === "RECOVERING" ? 2 : one.state !== "RUNNING" ? 3 : one.last_error && one.errors ? 4 : Number(one.position) ? 5 : 6);
const LABELS = ["Symbol", "State", "Regime", "Last bar", "Signal", "Position", "Price", "Open P&L", "Errors / restarts"];

function createRow(one) {
  const row = make("tr");
  row.setAttribute("role", "row");
  LABELS.forEach((label, index) => {
    const cell = make("td", index === 3 || index > 4 ? "number" : index === 1 ? "state" : "");
    cell.setAttribute("role", "cell"); cell.dataset.label = label;
    row.append(cell);
  });
  const button = make("button", "", one.symbol);
  button.type = "button";
  button.addEventListener("click", () => choose(one.symbol, true));
  row.cells[0].append(button);
  row.cells[1].append(make("span", "pill"), make("small"));
  for (const index of [4, 5, 6, 7]) row.cells[index].append(make("span"), make("small"));
  return row;
}

function updateRow(row, one) {
  const [name, state, regime, , signal, position, last, result, errors] = row.cells;
  const held = Number(one.position);
  dress(row, `${one.symbol === view.chosen ? "chosen" : ""}${held ? "" : " flat"}`);
  name.firstChild.setAttribute("aria-pressed", String(one.symbol === view.chosen));
  put(state.firstChild, one.quarantined ? "quarantined" : one.state.toLowerCase());
  dress(state.firstChild, `pill ${one.quarantined ? "bad" : isLive() ? toneOf(one.state) : ""}`);
  put(state.lastChild, one.quarantined ? one.last_error ?? "" : one.paused_by ?? one.trouble ?? "");
  put(regime, words(one.regime));
  put(signal.firstChild, one.signal ?? "–"); put(signal.lastChild, one.signal === null ? "" : words(one.signal_verdict) || (one.signal_at ? clock(one.signal_at) : ""));
  put(position.firstChild, held ? quantity(one.position) : "–"); put(position.lastChild, held ? `from ${price(one.entry_price)}` : "");
  put(last.firstChild, price(one.last_price)); put(last.lastChild, one.stop_loss === null || !held ? "" : `stop ${price(one.stop_loss)}`);
  put(result.firstChild, held ? signed(one.unrealized_pnl) : "–"); dress(result.firstChild, held ? tone(one.unrealized_pnl) : "");
  put(result.lastChild, `equity ${money(one.equity, 0)}`);
  put(errors, `${one.errors} / ${one.restarts}`); dress(errors, one.errors || one.restarts ? "number" : "number quiet");
  row.title = one.last_error ?? "";
}

function drawSymbols(session) {
  const wanted = $("filter").value.trim().toLowerCase();
  const ordered = [...session.symbols].sort((a, b) => urgency(a) - urgency(b) || a.symbol.localeCompare(b.symbol));
  const found = ordered.filter((one) => `${one.symbol} ${one.state} ${one.regime} ${one.quarantined ? "quarantined" : ""} ${one.paused_by ?? ""}`.toLowerCase().includes(wanted));
  if (view.chosen === null || !session.symbols.some((one) => one.symbol === view.chosen)) view.chosen = (ordered.find((one) => Number(one.position)) ?? ordered[0])?.symbol ?? null;
  const shown = view.all || found.length <= FEW + 2 ? found : found.slice(0, FEW);
  sync($("symbols"), shown, (one) => one.symbol, createRow, updateRow);
  const running = session.symbols.filter((one) => one.state === "RUNNING").length, inQuarantine = session.symbols.filter((one) => one.quarantined).length;
  put($("symbols-note"), `${running} running, ${session.symbols.length - running} not${inQuarantine ? `, ${inQuarantine} in quarantine` : ""}${isLive() ? "; those that need attention first" : "; as of the last heartbeat"}`);
  show($("no-symbols"), !found.length); put($("no-symbols"), session.symbols.length ? `No symbol has “${$("filter").value}”.` : "This session has no symbols.");
  show($("all-symbols"), found.length > FEW + 2); put($("all-symbols"), view.all ? `Show the first ${FEW}` : `Show all ${found.length}`);
  const names = session.symbols.map((one) => one.symbol).sort();
  sync($("picker"), names, (name) => name, (name) => Object.assign(make("option", "", name), { value: name }), () => {});
  if (view.chosen !== null && $("picker").value !== view.chosen) $("picker").value = view.chosen;
}

// ---------------------------------------------------------------------------------------------------- risk, positions, events
// `0.031 of equity` as a number and its unit.
function measured(text) {
  const found = /^(-?[\d.,]+)\s*(.*)$/.exec(text ?? "");
  return found === null ? { number: NaN, shown: text ?? "–", unit: "" } : { number: Number(found[1].replaceAll(",", "")), shown: found[1], unit: found[2] };
}
function drawRisk(session) {
  const set = session.risk.filter((one) => one.limit !== null || one.breached_at !== null), broken = set.filter((one) => one.breached_at !== null).length;
  put($("risk-note"), set.length ? (broken ? `${count(broken, "limit")} broken` : "all kept") : "");
  show($("risk"), true);
  sync($("risk"), set.length ? set : [{ rule: "", none: true }], (one) => one.rule, () => {
    const node = make("li"), pair = make("div", "pair"), bar = make("div", "bar");
    pair.append(make("span"), make("span")); bar.append(make("i"));
    node.append(pair, bar, make("div", "detail"));
    return node;
  }, (node, one) => {
    const [pair, bar, detail] = node.children, value = measured(one.value), limit = measured(one.limit);
    const used = Math.abs(value.number) / Math.abs(limit.number), percent = limit.unit.startsWith("%") ? " %" : "";
    put(pair.firstChild, one.none ? "No limit is set." : words(one.rule));
    put(pair.lastChild, one.none ? "" : Number.isNaN(limit.number) ? value.shown : `${value.shown} / ${limit.shown}${percent}`);
    dress(pair.lastChild, one.breached_at ? "loss" : "");
    show(bar, !one.none && Number.isFinite(used));
    bar.firstChild.style.width = `${Math.min(100, (used || 0) * 100)}%`; dress(bar.firstChild, one.breached_at || used >= 1 ? "over" : used >= 0.8 ? "near" : "");
    const broken = one.breached_at ? `broken since ${moment(one.breached_at)}: ${words(one.action)}, lifted ${one.lift === "manual" ? "by hand" : words(one.lift)}` : "";
    put(detail, one.none ? "The section desk_risk of the settings has them." : broken);
    node.title = one.none || one.limit === null ? "" : `${words(one.rule)}: ${one.value ?? "not known"}, limit ${one.limit}`;
  });
}

function drawPositions(state) {
  put($("positions-note"), state.positions.length ? count(state.positions.length, "position") : "");
  show($("no-positions"), !state.positions.length);
  sync($("positions"), state.positions, (one) => `${one.account} ${one.symbol}`, () => {
    const node = make("li"), pair = make("div", "pair");
    pair.append(make("span"), make("b"));
    node.append(pair, make("div", "detail"));
    return node;
  }, (node, one) => {
    const [pair, detail] = node.children;
    put(pair.firstChild, `${one.symbol} ${one.side} ${quantity(one.quantity)}`);
    put(pair.lastChild, signed(one.unrealized_pnl)); dress(pair.lastChild, tone(one.unrealized_pnl));
    put(detail, `${price(one.entry_price)} → ${price(one.last_price)}, ${one.stop_loss === null ? "no stop" : `stop ${price(one.stop_loss)}`}${one.take_profit_1 === null ? "" : `, target ${price(one.take_profit_1)}`}, since ${moment(one.opened_at)}`);
  });
}

const FEED_DOTS = { gain: "good", loss: "bad", warn: "warn", info: "" };
function drawFeed(state) {
  const isFirst = $("feed").known === undefined;
  show($("no-feed"), !state.feed.length);
  sync($("feed"), state.feed, (one) => one.id, (one) => {
    const node = make("li", isFirst ? "" : "new"), said = make("div", "said"), at = make("time", "", moment(one.at));
    at.dateTime = one.at;
    said.append(at, make("b", "", one.symbol ? `${one.symbol} ` : ""), make("span", "", one.text));
    node.append(make("span", `dot ${FEED_DOTS[one.tone]}`), said);
    return node;
  }, () => {});
  // Only what comes from now on is read aloud.
  if (isFirst) requestAnimationFrame(() => $("feed").setAttribute("aria-live", "polite"));
}

// ---------------------------------------------------------------------------------------------------- charts
function drawCurve(state) {
  const { equity, session } = state;
  show($("equity-chart"), equity.at.length > 1);
  put($("equity-note"), equity.at.length > 1 ? `${session.quote}, ${moment(equity.at[0])} to ${moment(equity.at.at(-1))}` : "No bar has been processed yet.");
  const drawn = `${equity.at.at(-1)} ${equity.equity.at(-1)} ${equity.at.length}`;
  if (equity.at.length > 1 && $("equity-chart").drawn !== drawn) { drawEquity($("equity-chart"), equity, session.quote, Number(session.initial_cash)); $("equity-chart").drawn = drawn; }
}

async function drawChosen(isForced = false) {
  const symbol = view.state?.session?.symbols.find((one) => one.symbol === view.chosen);
  if (!symbol) return;
  const wanted = `${symbol.symbol} ${symbol.bars} ${symbol.last_bar_at} ${symbol.position} ${symbol.stop_loss}`;
  if (!isForced && view.asked === wanted) return;
  view.asked = wanted;
  try {
    const answer = await fetch(`/api/candles?symbol=${encodeURIComponent(symbol.symbol)}`);
    const data = await answer.json();
    if (symbol.symbol !== view.chosen) return;
    view.candles = data;
    drawBars(data);
    if (data.message !== null) view.asked = null; // asked again with the next news
  } catch (problem) {
    view.asked = null;
    put($("candles-note"), `waiting for the candles: ${problem.message}`);
  }
}

function drawBars(data) {
  const hasBars = data.bars.at.length > 0;
  show($("candle-chart"), hasBars); show($("no-candles"), !hasBars || data.message !== null); put($("no-candles"), data.message ?? "There are no candles of this symbol yet.");
  put($("candles-note"), hasBars ? `${data.symbol}, ${data.timeframe}, ${count(data.bars.at.length, "bar")}, ${count(data.fills.length, "fill")}` : data.symbol);
  if (hasBars) drawCandles($("candle-chart"), data);
}

function choose(symbol, isAsked) {
  view.chosen = symbol;
  history.replaceState(null, "", `#${encodeURIComponent(symbol)}`);
  drawSymbols(view.state.session); tick(); drawChosen();
  if (!isAsked) return;
  const behavior = window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", place = $("candles-panel").getBoundingClientRect();
  if (place.top < 0 || place.top > window.innerHeight - 200) $("candles-panel").scrollIntoView({ behavior, block: "start" });
}

// ---------------------------------------------------------------------------------------------------- the stream
function draw(state) {
  view.state = state; view.offset = Date.parse(state.now) - Date.now();
  drawHeader(state); drawLinks(state); drawBanners(state); drawFeed(state); drawPositions(state);
  show(document.querySelector("main"), state.session !== null);
  if (state.session === null) { put($("about"), ""); put($("counts"), ""); return; }
  drawSymbols(state.session); drawRisk(state.session); tick();
  drawCurve(state); drawChosen();
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
}

function setLink(word, name) { put($("page-link"), word); dress($("page-dot"), `dot ${name}`); }
function listen() {
  const stream = new EventSource("/api/stream");
  stream.addEventListener("open", () => setLink("page live", "good"));
  stream.addEventListener("state", (event) => { setLink("page live", "good"); draw(JSON.parse(event.data)); });
  stream.addEventListener("error", () => {
    setLink("page reconnecting", "warn");
    // A browser tries again by itself after a lost connection, but not after an answer it did not like.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
  });
}

$("filter").addEventListener("input", () => { if (view.state?.session) { drawSymbols(view.state.session); tick(); } });
$("picker").addEventListener("change", (event) => choose(event.target.value, false));
$("all-symbols").addEventListener("click", () => { view.all = !view.all; drawSymbols(view.state.session); tick(); });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  $("equity-chart").drawn = null;
  if (view.state?.session) drawCurve(view.state);
  if (view.candles?.bars.at.length) drawBars(view.candles);
});
setInterval(tick, 1000);
listen();
