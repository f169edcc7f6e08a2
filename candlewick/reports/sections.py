"""The tables of the HTML report, one function a section. Every text from outside passes through ``escape``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape

import polars as pl

from candlewick.candles import candle_digest
from candlewick.metrics import Drawdown, Measure
from candlewick.reports.cycle_data import ledger_positions
from candlewick.reports.numbers import (
    MISSING,
    decimals_of,
    format_count,
    format_money,
    format_price,
    format_quantity,
    format_rule_value,
    format_share,
    format_span,
    format_time,
)
from candlewick.reports.view import AccountView

MAX_TRADES = 1_000
MAX_ROWS = 200
_NUMBER, _TIME, _TEXT, _PLAIN = "n", "t", "text", ""
Column = tuple[str, str]


def minus(text: str) -> str:
    """A proper minus sign, as wide as the digits."""
    return text.replace("-", "−")


def tone(value: Decimal | None) -> str:
    """The class that colours a gain or a loss; the sign says the same."""
    return "" if not value else "gain" if value > 0 else "loss"


def signed_money(value: Decimal | None, quote: str) -> str:
    """A gain or loss as a coloured, signed amount."""
    return f'<span class="{tone(value)}">{minus(format_money(value, quote, sign=True))}</span>'


def signed_share(value: Decimal | None) -> str:
    """A gain or loss as a coloured, signed percentage."""
    return f'<span class="{tone(value)}">{minus(format_share(value, sign=True))}</span>'


def words(name: str) -> str:
    """``take_profit_1`` as ``take profit 1``."""
    return escape(name.replace("_", " "))


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], bodies: bool = False) -> str:
    """A table of ready HTML cells; with ``bodies`` each row stands in a body of its own and may end in a story row."""
    head = "".join(f'<th scope="col" class="{kind if kind != _TEXT else ""}">{escape(name)}</th>' for name, kind in columns)
    lines = []
    for row in rows:
        cells = "".join(f'<td class="{kind}">{cell}</td>' for (_, kind), cell in zip(columns, row, strict=False))
        story = f'<tr class="story"><td colspan="{len(columns)}">{row[len(columns)]}</td></tr>' if len(row) > len(columns) else ""
        lines.append(f"<tbody><tr>{cells}</tr>{story}</tbody>" if bodies else f"<tr>{cells}</tr>")
    body = "\n".join(lines) if bodies else f'<tbody class="rows">{chr(10).join(lines)}</tbody>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{body}</table></div>'


def section(title: str, body: str, count: int | None = None, note: str = "") -> str:
    """A titled card."""
    number = f'<span class="count">{count:,}</span>' if count is not None else ""
    foot = f'<p class="note">{note}</p>' if note else ""
    return f"<section><header><h2>{escape(title)}{number}</h2></header>{body}{foot}</section>"


def figure(name: str, value: str, why: str = "") -> str:
    """One headline figure with the line below it."""
    return f'<div><span class="name">{escape(name)}</span><b>{value}</b><span class="why">{why}</span></div>'


def measured(name: str, measure: Measure, text: str, why: str = "") -> str:
    """A headline figure, or a dash and the reason why there is none."""
    return figure(name, text, why) if measure.value is not None else figure(name, MISSING, escape(measure.reason or ""))


def drawdown_story(drawdown: Drawdown) -> str:
    """When the deepest drawdown began, bottomed and ended."""
    if drawdown.trough_at is None:
        return "equity was never below an earlier peak"
    began = f"{drawdown.started_at:%Y-%m-%d}" if drawdown.started_at is not None else "the start"
    ended = f"recovered {drawdown.recovered_at:%Y-%m-%d}" if drawdown.recovered_at is not None else "not recovered yet"
    return f"{began} to {drawdown.trough_at:%Y-%m-%d}, {ended}"


def _waiting_orders(view: AccountView) -> pl.DataFrame:
    """Entries and exits that are decided and meet the next open, or a price."""
    done = pl.col("status").is_in(["filled", "refused", "cancelled", "expired"])
    return view.orders.filter(pl.col("leg").is_in(["entry", "exit", "time_stop"]) & ~done).sort("sequence")


def _waiting_line(order: Mapping[str, object], quote: str) -> str:
    budget, quantity, at = order["budget"], order["quantity"], order["decided_at"]
    amount = f"{format_money(budget, quote)} {quote}" if isinstance(budget, Decimal) else ""
    if isinstance(quantity, Decimal):
        amount = format_quantity(quantity)
    filled, price, until = order["filled_quantity"], order["price"], order["expires_at"]
    if isinstance(filled, Decimal) and filled:
        amount += f" ({format_quantity(filled)} filled so far)"
    decided = format_time(at) if isinstance(at, datetime) else MISSING
    deal = escape(f"{str(order['side']).lower()} {order['symbol']}, {amount}, decided {decided} UTC. {order['reason'] or ''}")
    meets = f"{order['kind']} {format_price(price)}" if isinstance(price, Decimal) else "the next open"
    ends = f" until {format_time(until)} UTC" if isinstance(until, datetime) else ""
    return f'<p class="note">Waiting for {escape(meets)}{ends}: {deal}</p>'


def positions_section(view: AccountView) -> str:
    """Open positions with their stops and targets, and entries or exits that wait for the next open."""
    positions = ledger_positions(view.positions, view.symbols)
    on_margin = any(row.margin is not None for row in positions)
    columns = [("Symbol", _TIME), *([("Side", _TIME)] if on_margin else [])]
    columns += [(name, _NUMBER) for name in ("Quantity", "Entry", "Last", "Stop", "Target 1", "Target 2")]
    columns += [("Liquidation", _NUMBER), (f"Margin {view.quote}", _NUMBER)] if on_margin else []
    columns += [(f"Unrealised {view.quote}", _NUMBER), ("Return", _NUMBER), ("Opened (UTC)", _NUMBER)]
    rows = []
    for row in positions:
        stop = format_price(row.stop_loss) + (" <i>trailing</i>" if row.trailing else "")
        prices = [format_price(row.entry_price), format_price(row.last_price), stop]
        prices += [format_price(row.take_profit_1), format_price(row.take_profit_2)]
        held = [format_price(row.liquidation_price), format_money(row.margin, view.quote)] if on_margin else []
        result = [signed_money(row.unrealized_pnl, view.quote), signed_share(row.return_share), format_time(row.opened_at)]
        names = [f"<b>{escape(row.symbol)}</b>", *([row.side] if on_margin else []), format_quantity(row.quantity)]
        rows.append([*names, *prices, *held, *result])
    body = table(columns, rows) if rows else '<p class="soft">No position is open.</p>'
    body += "".join(_waiting_line(order, view.quote) for order in _waiting_orders(view).iter_rows(named=True))
    note = "Unrealised at the last close, the entry's fee included, before the costs of the exit." if rows else ""
    note += " The return is on the margin, which is part of the cash; funding is settled in cash." if on_margin else ""
    return section("Open positions", body, len(rows), note)


def _fill_line(fill: Mapping[str, object], decimals: int, quote: str) -> str:
    price, quantity, fee = Decimal(str(fill["price"])), Decimal(str(fill["quantity"])), Decimal(str(fill["fee"]))
    shown = format_price(price, max(decimals, min(8, decimals_of(price))))
    at = fill["bar_opened_at"]
    moment = format_time(at) if isinstance(at, datetime) else MISSING
    facts = f"{format_quantity(quantity)} at {shown}, fee {format_money(fee, quote)}"
    deal = f"<i>{words(str(fill['leg']))}</i> {escape(str(fill['side']).lower())} {facts}"
    return f"<li>{moment} {deal}: {escape(str(fill['reason']))}</li>"


def trades_section(view: AccountView, trades: pl.DataFrame) -> str:
    """Every trade, newest first, with each of its fills and why it happened."""
    if trades.is_empty():
        return section("Trades", '<p class="soft">No trade yet.</p>', 0)
    sided, funded = (trades["side"] != "long").any(), (trades["funding"] != 0).any()
    columns = [("Symbol", _TIME), *([("Side", _TIME)] if sided else []), ("Opened (UTC)", _TIME), ("Closed (UTC)", _TIME)]
    columns += [("Held", _NUMBER), ("Quantity", _NUMBER), ("Entry", _NUMBER), ("Exit", _NUMBER), ("Fees", _NUMBER)]
    columns += [*([("Funding", _NUMBER)] if funded else []), (f"P&L {view.quote}", _NUMBER), ("Return", _NUMBER)]
    columns += [("Left by", _TIME)]
    fills = {row["fill_id"]: row for row in view.fills.iter_rows(named=True)}
    number = {symbol: place for place, symbol in enumerate(view.symbols)}
    end = view.watermark_at
    rows = []
    for trade in trades.reverse().head(MAX_TRADES).iter_rows(named=True):
        own = [fills[fill_id] for fill_id in trade["fill_ids"]]
        decimals = max((min(8, decimals_of(fill["price"])) for fill in own), default=2)
        until = trade["closed_at"] or end or trade["opened_at"]
        span = f'data-from="{_epoch_ms(trade["opened_at"])}" data-to="{_epoch_ms(until)}"'
        place = number.get(trade["symbol"], 0)
        name = f'<button class="jump" data-symbol="{place}" {span} title="Show in the chart">{escape(trade["symbol"])}</button>'
        prices = [format_price(trade[key], max(2, decimals)) for key in ("entry_price", "exit_price")]
        legs = " + ".join(words(leg) for leg in trade["exit_legs"])
        closed = format_time(trade["closed_at"]) if trade["closed_at"] is not None else "<i>open</i>"
        rest = [signed_money(trade["pnl"], view.quote), signed_share(trade["return_share"]), legs or MISSING]
        costs = [format_money(trade["fees"], view.quote)]
        costs += [signed_money(trade["funding"], view.quote)] if funded else []
        story = "<ol>" + "".join(_fill_line(fill, decimals, view.quote) for fill in own) + "</ol>"
        facts = [
            name,
            *([trade["side"]] if sided else []),
            format_time(trade["opened_at"]),
            closed,
            format_span(trade["holding_time"]),
            format_quantity(trade["quantity"]),
        ]
        rows.append([*facts, *prices, *costs, *rest, story])
    note = "P&amp;L after all fees" + (" and funding (received less paid)." if funded else ".")
    note += " A fill's time is the open time of the bar it happened in; its reason stands behind the colon."
    return section("Trades", table(columns, rows, bodies=True), trades.height, note + _left_out(trades.height, MAX_TRADES, view))


def _epoch_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _left_out(height: int, limit: int, view: AccountView) -> str:
    if height <= limit:
        return ""
    command = f"<code>python -m flows.accounts export {escape(view.account)}</code>"
    return f" Only the newest {limit:,} are listed; {command} writes them all."


def refusals_section(view: AccountView) -> str:
    """Orders that a rule refused, newest first: which rule, its limit and the value that met it."""
    refused = view.orders.filter(pl.col("status") == "refused").sort("sequence", descending=True)
    if refused.is_empty():
        return section("Refused orders", '<p class="soft">No order was refused.</p>', 0)
    columns = [
        ("Decided (UTC)", _TIME),
        ("Symbol", _TIME),
        ("Order", _TIME),
        ("Rule", _TIME),
        ("Value", _NUMBER),
        ("Limit", _NUMBER),
    ]
    columns += [("Why", _TEXT)]
    rows = [
        [
            format_time(row["decided_at"]),
            escape(row["symbol"]),
            f"{escape(row['side'].lower())} {words(row['leg'])}",
            words(row["rule"] or MISSING),
            minus(format_rule_value(row["rule"], row["rule_value"], view.quote)),
            minus(format_rule_value(row["rule"], row["rule_limit"], view.quote)),
            escape(row["reason"] or ""),
        ]
        for row in refused.head(MAX_ROWS).iter_rows(named=True)
    ]
    return section("Refused orders", table(columns, rows), refused.height, _left_out(refused.height, MAX_ROWS, view).strip())


def signals_section(view: AccountView) -> str:
    """How many signals of each kind there were and what became of them."""
    if view.signals.is_empty():
        return section("Signals", '<p class="soft">The strategy gave no signal yet.</p>', 0)
    counts = view.signals.group_by("action", "outcome").len().sort(["len", "action", "outcome"], descending=[True, False, False])
    rows = [[escape(action), words(outcome), f"{count:,}"] for action, outcome, count in counts.iter_rows()]
    return section(
        "Signals",
        table([("Signal", _PLAIN), ("What became of it", _PLAIN), ("Count", _NUMBER)], rows) + "</div>",
        view.signals.height,
    )


def runs_section(view: AccountView) -> str:
    """Every cycle, newest first."""
    if view.runs.is_empty():
        return section("Runs", '<p class="soft">No run is recorded yet.</p>', 0)
    columns = [("Status", _PLAIN), ("Started (UTC)", _TIME), ("Took", _NUMBER), ("Watermark (UTC)", _TIME), ("Bars", _NUMBER)]
    columns += [("Code", _PLAIN), ("Run", _PLAIN), ("Remarks", _TEXT)]
    rows = []
    for row in view.runs.sort("started_at", "run_id", descending=True).head(MAX_ROWS).iter_rows(named=True):
        took = (row["completed_at"] - row["started_at"]).total_seconds()
        remarks = [row["error"]] if row["error"] else []
        remarks += json.loads(row["notices"] or "[]")
        moved = row["watermark_at"] != row["watermark_before"]
        mark = (
            f"{format_time(row['watermark_before'])} → {format_time(row['watermark_at'])}"
            if moved
            else format_time(row["watermark_at"])
        )
        facts = [f'<span class="status">{escape(row["status"])}</span>', format_time(row["started_at"]), f"{took:,.1f} s", mark]
        ids = [f"<code>{escape(row['code_version'])}</code>", f"<code>{escape(row['run_id'])}</code>"]
        rows.append([*facts, f"{row['bars']:,}", *ids, "<br>".join(escape(str(remark)) for remark in remarks)])
    return section("Runs", table(columns, rows), view.runs.height, _left_out(view.runs.height, MAX_ROWS, view).strip())


def candles_section(view: AccountView) -> str:
    """What the figures were computed from: each symbol's candles, their span and digest."""
    columns = [
        ("Symbol", _TIME),
        ("Bars", _NUMBER),
        ("From (UTC)", _TIME),
        ("To (UTC)", _TIME),
        ("SHA-256 of the candles", "digest"),
    ]
    rows = []
    for symbol in view.symbols:
        frame = view.candles.get(symbol)
        if frame is None or frame.is_empty():
            rows.append([escape(symbol), "0", MISSING, MISSING, MISSING])
            continue
        span = [format_time(frame["opened_at"][0]), format_time(frame["opened_at"][-1])]
        rows.append([escape(symbol), f"{frame.height:,}", *span, candle_digest(frame)])
    note = f"Open times of the first and the last {escape(view.timeframe)} bar. Equal candles have equal digests."
    return section("Candles", table(columns, rows), note=note)


def callout(view: AccountView) -> str:
    """What went wrong in the last run, if anything did, and its notices."""
    if view.runs.is_empty():
        return ""
    last = view.runs.sort("started_at", "run_id").row(-1, named=True)
    notices = [str(notice) for notice in json.loads(last["notices"] or "[]")]
    if last["status"] == "success" and not notices:
        return ""
    lead = "Notes of the last run" if last["status"] == "success" else f"The last run ended as {last['status']}"
    lead += f": {last['error']}" if last["error"] else ""
    items = "".join(f"<li>{escape(notice)}</li>" for notice in notices)
    return f'<div class="callout" role="note"><b>{escape(lead)}</b>{f"<ul>{items}</ul>" if items else ""}</div>'


def parameters_text(view: AccountView) -> str:
    """``lookback_bars 50, confirm true``, as code."""
    parts = [
        f"{escape(name)} <code>{escape(json.dumps(value) if not isinstance(value, str) else value)}</code>"
        for name, value in view.parameters.items()
    ]
    return ", ".join(parts) or "no parameters"


def bars_text(view: AccountView) -> str:
    """How many bars the account has seen."""
    return format_count(view.equity.height, "bar")
