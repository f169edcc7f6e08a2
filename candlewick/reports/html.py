"""The account's report: one HTML file with everything in it, readable with no network and equal for equal input."""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from pathlib import Path

import polars as pl

from candlewick import metrics
from candlewick.periods import figures_from_frames
from candlewick.reports import sections
from candlewick.reports.cycle_data import received_funding, reserved_margin
from candlewick.reports.figures import chart_document
from candlewick.reports.numbers import format_count, format_money, format_ratio, format_share, format_span, format_time
from candlewick.reports.page import render_page, write_page
from candlewick.reports.view import AccountView
from candlewick.timeframes import timeframe_ms
from candlewick.trades import pair_trades

_BUTTON_SYMBOLS = 8
_NAMED_SYMBOLS = 12
_RANGES = ((7, "1 week"), (30, "1 month"), (90, "3 months"), (365, "1 year"))


def _symbols_text(view: AccountView) -> str:
    """The first symbols by name; the section on candles lists all of them."""
    more = len(view.symbols) - _NAMED_SYMBOLS
    return escape(", ".join(view.symbols[:_NAMED_SYMBOLS])) + (f" and {more:,} more, listed below" if more > 0 else "")


def _header(view: AccountView, generated_at: datetime) -> str:
    equity: Decimal = view.equity["equity"][-1] if view.equity.height else view.initial_cash
    returned = metrics.total_return(view.equity, view.initial_cash).value
    gained = (
        f"{sections.signed_share(returned)} ({sections.signed_money(equity - view.initial_cash, view.quote)}) since the start"
    )
    below = gained if returned is not None else "no bar processed yet"
    facts = [
        ("Market", f"{escape(view.market)}, {escape(view.timeframe)} candles", ""),
        ("Bars (UTC)", f"{format_time(view.anchor_at)} to {format_time(view.watermark_at)}, {sections.bars_text(view)}", ""),
        ("Started with", f"{format_money(view.initial_cash, view.quote)} {escape(view.quote)}", ""),
        ("Report written (UTC)", format_time(generated_at), ""),
        ("Strategy", f"<b>{escape(view.strategy)}</b>: {sections.parameters_text(view)}", "wide"),
        (f"Symbols ({len(view.symbols)})", _symbols_text(view), "wide"),
    ]
    items = "".join(f'<div class="{kind}"><dt>{escape(name)}</dt><dd>{value}</dd></div>' for name, value, kind in facts)
    return (
        f'<header class="top"><div><p class="kicker">Candlewick paper account</p><h1>{escape(view.account)}</h1></div>'
        f'<div class="equity"><span class="kicker">Equity</span><strong>{format_money(equity, view.quote)} '
        f"<small>{escape(view.quote)}</small></strong>{below}</div></header>"
        f'<dl class="facts">{items}</dl>'
    )


def _figures(view: AccountView, trades: pl.DataFrame) -> str:
    equity, quote = view.equity, view.quote
    closed = trades.filter(pl.col("closed_at").is_not_null())
    held = metrics.held_return(view.candles.values())
    benchmark = None if held.value is None else float(held.value)
    figures = figures_from_frames(equity, view.fills, trades, view.initial_cash, timeframe_ms(view.timeframe), benchmark)
    cash: Decimal = equity["cash"][-1] if equity.height else view.initial_cash
    invested = equity["position_value"][-1] / equity["equity"][-1] if equity.height and equity["equity"][-1] else Decimal(0)
    drawdown = metrics.max_drawdown(equity, view.initial_cash)
    now = metrics.current_drawdown_share(equity, view.initial_cash)
    wins, won = figures["win_rate"], int((closed["pnl"] > 0).sum())
    factor, mean, average = figures["profit_factor"], figures["expectancy"], figures["average_trade"]
    span, exposure = closed["holding_time"].mean(), figures["exposure"]
    yearly, volatility, sharpe = figures["annualised_return"], figures["annualised_volatility"], figures["sharpe"]
    fills, margin = format_count(view.fills.height, "fill"), reserved_margin(view.positions)
    idle = f"{escape(quote)}, {format_money(margin, quote)} of it margin" if margin else f"{escape(quote)}, not invested"
    paid = [sections.figure("Funding", sections.signed_money(received_funding(view.funding), quote), "received less paid")]
    items = [
        sections.figure("Cash", format_money(cash, quote), idle),
        sections.figure("Invested", format_share(invested), "of equity is in open positions"),
        sections.figure("Max drawdown", format_share(drawdown.share), sections.drawdown_story(drawdown)),
        sections.figure("Drawdown now", format_share(now), "below the highest equity so far"),
        sections.measured(
            "Win rate", wins, format_share(wins.value), f"{won:,} of {format_count(closed.height, 'closed trade')}"
        ),
        sections.measured("Profit factor", factor, format_ratio(factor.value), "gains over losses, after fees"),
        sections.measured("Expectancy", mean, sections.signed_money(mean.value, quote), f"{escape(quote)} a closed trade"),
        sections.measured(
            "Average trade",
            average,
            sections.signed_share(average.value),
            f"held {format_span(span)} on average" if isinstance(span, timedelta) else "",
        ),
        sections.figure("Fees paid", format_money(metrics.fees_paid(view.fills), quote), f"{escape(quote)}, {fills}"),
        *(paid if view.funding.height else []),
        sections.measured("Exposure", exposure, format_share(exposure.value), "of bars with a position open"),
        sections.measured("Return a year", yearly, sections.signed_share(yearly.value), "compounded from this span"),
        sections.measured("Volatility a year", volatility, format_share(volatility.value), "of daily returns"),
        sections.measured(
            "Sharpe ratio", sharpe, sections.minus(format_ratio(sharpe.value)), "daily returns, annualised, risk-free 0"
        ),
        sections.measured("Holding instead", held, sections.signed_share(held.value), "all symbols in equal shares, no costs"),
    ]
    return f'<section class="figures whole" aria-label="Headline figures">{"".join(items)}</section>'


def _picker(view: AccountView) -> str:
    """Buttons while the symbols fit beside each other, a list beyond."""
    if len(view.symbols) > _BUTTON_SYMBOLS:
        options = "".join(f'<option value="{place}">{escape(symbol)}</option>' for place, symbol in enumerate(view.symbols))
        return f'<select aria-label="Symbol">{options}</select>'
    return "".join(
        f'<button type="button" value="{place}" aria-pressed="false">{escape(symbol)}</button>'
        for place, symbol in enumerate(view.symbols)
    )


def _charts(view: AccountView) -> str:
    span: timedelta = view.watermark_at - view.anchor_at if view.watermark_at is not None else timedelta(0)
    ranges = "".join(
        f'<button type="button" value="{days}">{name}</button>' for days, name in _RANGES if timedelta(days=days) < span
    )
    signs = (("earlier", "Earlier", "‹"), ("later", "Later", "›"), ("in", "Zoom in", "+"), ("out", "Zoom out", "−"))
    zoom = "".join(f'<button type="button" value="{value}" aria-label="{name}">{sign}</button>' for value, name, sign in signs)
    chart = 'class="chart" tabindex="0" role="img"'
    hint = "Drag to move, Ctrl + wheel to zoom, double-click for everything; arrow keys, + and − work too."
    hints = f'<span class="screen mouse">{hint} </span><span class="screen touch">Tap a bar for its prices and deals. </span>'
    return f"""<section class="whole"><header><h2>Equity and drawdown</h2></header>
<div id="equity-chart" {chart} aria-label="Equity curve with the drawdown below it"></div></section>
<section class="whole" id="candles"><header><h2>Candles and trades</h2>
<div class="bar" id="symbol-picker">{_picker(view)}</div>
<div class="bar screen" id="range-picker">{ranges}<button type="button" value="all">All</button>{zoom}</div></header>
<div id="candle-chart" {chart} aria-label="Candles with entries, exits, stops and targets"></div>
<p class="note">{hints}Times are UTC. <span id="merged-note"></span></p>
<noscript><p class="note">The charts need JavaScript; all figures and trades are in the tables below.</p></noscript></section>"""


def render_report(view: AccountView, generated_at: datetime) -> str:
    """The report as HTML. ``generated_at`` is the only time in it that does not come from the account's rows."""
    trades = pair_trades(view.fills, view.funding)
    parts = [
        _header(view, generated_at),
        sections.callout(view),
        _figures(view, trades),
        _charts(view),
        sections.positions_section(view),
        sections.trades_section(view, trades),
        sections.refusals_section(view),
        sections.signals_section(view),
        sections.runs_section(view),
        sections.candles_section(view),
    ]
    body = "\n".join(part for part in parts if part)
    footer = f"Amounts in {escape(view.quote)}, times in UTC. Paper trading: no order left this machine."
    return render_page(f"{view.account}: Candlewick report", body, footer, chart_document(view, trades), "report.js")


def report_name(account: str) -> str:
    """File name of an account's report; characters that a file name may not hold become underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", account).lstrip(".") + ".html"


def write_report(view: AccountView, directory: Path, generated_at: datetime) -> Path:
    """Write ``<account>.html`` under a temporary name and rename it, so that a reader never sees half a report.

    Raises CandlewickError when the folder cannot be written or is full; the report that was there before stays.
    """
    text = render_report(view, generated_at)
    return write_page(text, directory / report_name(view.account), "the ledger is unharmed")
