"""The report of one backtest."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import polars as pl

from candlewick.metrics import Measure
from candlewick.reports.backtest_view import BacktestView
from candlewick.reports.curves import exit_text, listed_trades
from candlewick.reports.html import report_name
from candlewick.reports.measures import figure_value
from candlewick.reports.numbers import MISSING, format_money, format_price, format_quantity, format_span, format_time
from candlewick.reports.page import render_page, write_page
from candlewick.reports.run_figures import backtest_document
from candlewick.reports.run_sections import (
    CHART_HINT,
    NO_SCRIPT,
    PAGE_CHART,
    callouts,
    figures_section,
    headline,
    monte_carlo_section,
    months_section,
    provenance_section,
    run_header,
    symbols_section,
)
from candlewick.reports.sections import section, signed_money, signed_share

PAGE_ROWS = 50
"""Trades on one page of the list."""
_BUTTON_SYMBOLS = 8
_SCRIPT, _STYLE = "backtest.js", "backtest.css"
RUN_FOOTER = "Times in UTC. A backtest is made of history: it says how rules met these candles, not what comes next."
TRADE_COLUMNS = (
    ("symbol", "Symbol", "t"),
    ("side", "Side", "t"),
    ("opened_at", "Opened (UTC)", "t"),
    ("closed_at", "Closed (UTC)", "t"),
    ("held", "Held", "n"),
    ("quantity", "Quantity", "n"),
    ("entry_price", "Entry", "n"),
    ("exit_price", "Exit", "n"),
    ("costs", "Fees, funding", "n"),
    ("pnl", "P&L", "n"),
    ("return_share", "Return", "n"),
    ("legs", "Left by", "t"),
)


def _headline(view: BacktestView) -> str:
    final, returned = view.figures.get("final_equity", Measure(None)), view.figures.get("total_return", Measure(None))
    reason = escape(final.reason or returned.reason or "no figure")
    below = f"{signed_share(returned.value)} over the span" if returned.value is not None else reason
    return headline("Final equity", figure_value("final_equity", final.value, view.quote), escape(view.quote), below)


def _symbol_picker(view: BacktestView) -> str:
    if len(view.symbols) > _BUTTON_SYMBOLS:
        options = "".join(f'<option value="{place}">{escape(symbol)}</option>' for place, symbol in enumerate(view.symbols))
        return f'<select aria-label="Symbol">{options}</select>'
    return "".join(
        f'<button type="button" value="{place}" aria-pressed="false">{escape(symbol)}</button>'
        for place, symbol in enumerate(view.symbols)
    )


def charts_html(title: str, equity: pl.DataFrame, picker: str = "") -> str:
    """The chart of an equity frame, and the candle chart where there is a ``picker`` of symbols."""
    signs = (("earlier", "Earlier", "‹"), ("later", "Later", "›"), ("in", "Zoom in", "+"), ("out", "Zoom out", "−"))
    zoom = "".join(f'<button type="button" value="{value}" aria-label="{name}">{sign}</button>' for value, name, sign in signs)
    chart = f'<div id="equity-chart" {PAGE_CHART} aria-label="Equity curve with the drawdown below it"></div>{NO_SCRIPT}'
    body = '<p class="soft">No bar was processed.</p>' if equity.is_empty() else chart
    curve = f'<section class="whole"><header><h2>{title}</h2></header>{body}</section>'
    if not picker:
        return curve
    return f"""{curve}<section class="whole" id="candles"><header><h2>Candles and trades</h2>
<div class="bar" id="symbol-picker">{picker}</div>
<div class="bar screen"><select id="window-picker" aria-label="Part of the chart"></select></div>
<div class="bar screen" id="range-picker"><button type="button" value="all">All</button>{zoom}</div></header>
<div id="candle-chart" {PAGE_CHART} aria-label="Candles with entries and exits"></div>
<p class="note"><span id="candle-note"></span> {CHART_HINT}</p></section>"""


def _trade_rows(trades: pl.DataFrame, quote: str) -> str:
    """Trades as the page's script writes them; it replaces these rows."""
    found = []
    for trade in trades.iter_rows(named=True):
        legs, funding = trade["exit_legs"] or (), trade["funding"]
        cells = [
            f"<b>{escape(trade['symbol'])}</b>",
            escape(trade["side"] or "long"),
            format_time(trade["opened_at"]),
            format_time(trade["closed_at"]) if trade["closed_at"] is not None else "open",
            format_span(trade["holding_time"]),
            format_quantity(trade["quantity"]),
            format_price(trade["entry_price"]),
            format_price(trade["exit_price"]),
            format_money(trade["fees"], quote) + (f" {format_money(funding, quote, sign=True)}" if funding else ""),
            signed_money(trade["pnl"], quote),
            signed_share(trade["return_share"]),
            escape(" + ".join(leg.replace("_", " ") for leg in dict.fromkeys(legs))) or MISSING,
        ]
        row = "".join(f'<td class="{kind}">{cell}</td>' for (_, _, kind), cell in zip(TRADE_COLUMNS, cells, strict=True))
        reasons = (trade["entry_reason"], exit_text(legs, trade["exit_reasons"] or ()))
        story = f'<td colspan="{len(cells)}"><div>{" → ".join(escape(text) for text in reasons if text)}</div></td>'
        found.append(f'<tbody><tr>{row}</tr><tr class="story">{story}</tr></tbody>')
    return "".join(found)


def _options(label: str, name: str, options: Iterable[tuple[str, str]]) -> str:
    """A filter of the list of trades; the first option lets all through."""
    shown = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)
    return f'<select name="{name}" aria-label="{label}">{shown}</select>'


def _trade_tools(symbols: Sequence[str]) -> str:
    named = ((str(place), symbol) for place, symbol in enumerate(symbols))
    results = (("", "All results"), ("gain", "Gains"), ("loss", "Losses"), ("open", "Open"))
    return (
        '<div class="bar screen" id="trade-tools">'
        + _options("Symbol", "symbol", [("", "All symbols"), *named])
        + _options("Side", "side", (("", "Both sides"), ("0", "Long"), ("1", "Short")))
        + _options("Result", "result", results)
        + '<input type="search" name="text" placeholder="Reason contains …" aria-label="Reason contains"></div>'
    )


def trades_section(view: BacktestView) -> str:
    """The list of trades, newest first; the script sorts, filters and turns its pages."""
    if view.trades.is_empty():
        return section("Trades", '<p class="soft">The strategy made no trade.</p>', 0)
    listed = listed_trades(view)
    head = "".join(
        f'<th scope="col" class="{kind}"><button type="button" class="sort" value="{name}">{escape(title)}</button></th>'
        for name, title, kind in TRADE_COLUMNS
    )
    rows = _trade_rows(listed.head(PAGE_ROWS), view.quote)
    pager = (
        '<div class="bar screen" id="trade-pager"><button type="button" value="-1" aria-label="Earlier page">‹</button>'
        '<span class="soft"></span><button type="button" value="1" aria-label="Later page">›</button></div>'
    )
    left_out = view.trades.height - listed.height
    note = "P&amp;L after fees and funding. A time is the open time of the bar it happened in." + (
        f" The {left_out:,} oldest of {view.trades.height:,} trades are not in this file; the figures count all."
        if left_out
        else ""
    )
    listing = f'<div class="scroll"><table id="trades"><thead><tr>{head}</tr></thead>{rows}</table></div>'
    return section("Trades", _trade_tools(view.symbols) + listing + pager, view.trades.height, note)


def render_backtest_report(view: BacktestView) -> str:
    """The report as HTML; equal views give equal pages."""
    has_candles = any(not frame.is_empty() for frame in view.candles.values())
    parts = [
        run_header(view, _headline(view)),
        callouts(view.check, view.check_passed, view.notices),
        figures_section(view.figures, view.quote, skip=("final_equity",)),
        charts_html("Equity and drawdown", view.equity, _symbol_picker(view) if has_candles else ""),
        months_section(view.months),
        symbols_section(view.symbols_table, view.quote) if len(view.symbols) > 1 else "",
        monte_carlo_section(view.monte_carlo, view.quote),
        trades_section(view),
        provenance_section(view),
    ]
    body = "\n".join(part for part in parts if part)
    footer = f"Amounts in {escape(view.quote)}. {RUN_FOOTER}"
    return render_page(f"{view.title}: Candlewick backtest", body, footer, backtest_document(view), _SCRIPT, _STYLE)


def write_backtest_report(view: BacktestView, directory: Path) -> Path:
    """Write ``<run_id>.html`` and return its path. Raises CandlewickError when the folder cannot be written or is full."""
    return write_page(render_backtest_report(view), directory / report_name(view.run_id), "the run is stored all the same")
