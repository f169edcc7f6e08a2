"""The backtesting reports' charts as plotly figures.

The page's script puts in the colours: under a key that ends in "color", "@name" is one of SCHEMES or SERIES.
"""

from collections.abc import Mapping, Sequence
from html import escape

import polars as pl

from candlewick.reports.backtest_view import BacktestView
from candlewick.reports.curves import band_rows, equity_rows, listed_trades, symbol_documents, trade_document
from candlewick.reports.figures import CONFIG, DIGIT_PX, SCHEMES, Document, Value, layout_template, time_layout, y_axis
from candlewick.reports.numbers import money_decimals
from candlewick.timeframes import timeframe_ms

SERIES: Mapping[str, Sequence[str]] = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#7a4fb5", "#555555"),
    "dark": ("#56b4e9", "#f0803c", "#35c49a", "#e3a1c4", "#e3c14a", "#9ad0f0", "#b79ae6", "#b5bcc4"),
}
"""Colours of lines that stand beside each other (after Okabe and Ito, told apart by colour-blind readers), by scheme."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "8px,2px", "2px,6px")


def frame_document() -> dict[str, Value]:
    """What every page's script needs beside its charts: colours and chart style by scheme, and plotly's settings."""
    colours: dict[str, Value] = {
        scheme: {**named, **{f"series-{number}": colour for number, colour in enumerate(SERIES[scheme])}}
        for scheme, named in SCHEMES.items()
    }
    styles: dict[str, Value] = {scheme: {"layout": layout_template(named)} for scheme, named in SCHEMES.items()}
    return {"colours": colours, "templates": styles, "config": CONFIG}


def legend() -> Document:
    """A legend in a row below the chart."""
    return {"orientation": "h", "x": 0, "y": -0.11, "yanchor": "top", "traceorder": "normal"}


def _band_traces(view: BacktestView) -> list[Value]:
    """Bootstrap bands: 5 to 95 % and 25 to 75 % as areas, the median as a dotted line."""
    if view.bands is None or view.bands.is_empty():
        return []
    rows = band_rows(view.bands, money_decimals(view.quote))
    line: Document = {"type": "scatter", "mode": "lines", "x": rows["at"], "hoverinfo": "skip"}
    edge: Document = {**line, "line": {"width": 0}, "showlegend": False}
    return [
        {**edge, "name": "5 %", "y": rows["p05"], "meta": "fit"},
        {
            **edge,
            "name": "bootstrap 5 to 95 %",
            "y": rows["p95"],
            "fill": "tonexty",
            "fillcolor": "@area",
            "showlegend": True,
            "meta": "fit",
        },
        {**edge, "name": "25 %", "y": rows["p25"]},
        {**edge, "name": "bootstrap 25 to 75 %", "y": rows["p75"], "fill": "tonexty", "fillcolor": "@area", "showlegend": True},
        {**line, "name": "bootstrap median", "y": rows["p50"], "line": {"width": 1, "dash": "dot", "color": "@soft"}},
    ]


def equity_chart(
    equity: pl.DataFrame, quote: str, initial: float, bar_ms: int, bands: Sequence[Value] = (), lines_at: Sequence[int] = ()
) -> Document:
    """Equity against the benchmark, and the drawdown below it, over one time axis. ``lines_at`` (ms) stand upright in it."""
    rows, decimals = equity_rows(equity), money_decimals(quote)
    times = rows["at"].to_list()
    span = (times[0] - bar_ms, times[-1] + bar_ms) if times else (0, bar_ms)
    line: Document = {"type": "scatter", "mode": "lines", "x": times, "meta": "fit"}
    unit = escape(quote, quote=False)
    data: list[Value] = [*bands]
    if rows["benchmark"].is_not_null().any():
        held: Document = {
            "y": rows["benchmark"].round(decimals).to_list(),
            "line": {"width": 1.4, "color": "@soft", "dash": "dash"},
        }
        data.append(
            {
                **line,
                "name": "holding instead",
                **held,
                "hovertemplate": f"holding <b>%{{y:,.{decimals}f}}</b> {unit}<extra></extra>",
            }
        )
    returns = (rows["equity"] / initial - 1).round(6).to_list() if initial else [0.0] * len(times)
    money = f"equity <b>%{{y:,.{decimals}f}}</b> {unit}, return <b>%{{customdata:+.2%}}</b><extra></extra>"
    own: Document = {"y": rows["equity"].round(decimals).to_list(), "customdata": returns, "hovertemplate": money}
    data.append({**line, "name": "equity", **own, "line": {"width": 1.7, "color": "@accent"}})
    fall: Document = {
        "y": rows["drawdown"].to_list(),
        "yaxis": "y2",
        "fill": "tozeroy",
        "fillcolor": "@under",
        "showlegend": False,
    }
    fall = {**fall, "line": {"width": 1.2, "color": "@loss"}, "hovertemplate": "drawdown <b>%{y:.2%}</b><extra></extra>"}
    data.append({**line, "name": "drawdown", **fall})
    start: Document = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": initial, "y1": initial, "layer": "below"}
    upright: list[Value] = [
        {
            "type": "line",
            "yref": "paper",
            "x0": at,
            "x1": at,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"color": "@line", "width": 1, "dash": "solid"},
        }
        for at in lines_at
    ]
    widest = max([initial, *rows["equity"].to_list()])
    return {
        "step": bar_ms,
        "data": data,
        "layout": {
            **time_layout(span, DIGIT_PX * max(7, len(f"{widest:,.0f}") + 1) + 12, "y2"),
            "hoversubplots": "axis",
            "showlegend": len(data) > 2,
            "legend": legend(),
            "yaxis": y_axis(",.6~f", domain=[0.34, 1]),
            "yaxis2": y_axis(".2~%", domain=[0, 0.3], nticks=4),
            "shapes": [start, *upright],
        },
    }


def backtest_document(view: BacktestView) -> Document:
    """Everything the page of a backtest draws: equity, each symbol's candles and windows, and the trades."""
    bar_ms = timeframe_ms(view.timeframe)
    equity = equity_chart(view.equity, view.quote, float(view.initial_cash), bar_ms, _band_traces(view))
    return {
        **frame_document(),
        "quote": view.quote,
        "money": money_decimals(view.quote),
        "timeframe": view.timeframe,
        "equity": equity,
        "candles": {"layout": {**time_layout((0, 1), 60, "y"), "showlegend": True, "legend": legend(), "yaxis": y_axis(",.2~f")}},
        "symbols": symbol_documents(view),
        "trades": trade_document(view, listed_trades(view)),
    }
