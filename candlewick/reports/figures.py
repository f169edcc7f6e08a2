"""The report's charts as plotly figures. Equal accounts give equal figures; colours come from a template per scheme.

The candle chart's figure has no data of its own: ``symbols`` holds, per symbol, what each trace draws and its layout.
The page's script (assets/report.js) hands that to ``Plotly.react``. Times are milliseconds, UTC.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape
from textwrap import wrap

import numpy as np
import polars as pl

from candlewick.candles import PRICE_COLUMNS, empty_candles, opened_at_ms
from candlewick.reports.charts import (
    Level,
    end_of,
    equity_curve,
    merge_bars,
    merge_factor,
    ms,
    price_decimals,
    trade_levels,
)
from candlewick.reports.numbers import MISSING, decimals_of, format_price, format_quantity, format_time, money_decimals
from candlewick.reports.view import AccountView
from candlewick.timeframes import timeframe_ms

Document = Mapping[str, "Value"]
Value = str | int | float | bool | None | Sequence["Value"] | Document

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif'
SCHEMES: Mapping[str, Mapping[str, str]] = {
    "light": {"paper": "#f6f5f1", "card": "#ffffff", "ink": "#1c2126", "soft": "#5c656e", "line": "#e3e0d8", "faint": "#efede6"}
    | {"accent": "#1f5c8b", "gain": "#0b7a68", "loss": "#b8442a", "warn-paper": "#fdf3dc", "warn-ink": "#6d4a00"}
    | {"up": "#12897a", "down": "#cf5a3c", "area": "rgba(31, 92, 139, .10)", "under": "rgba(184, 68, 42, .16)"},
    "dark": {"paper": "#0f1317", "card": "#171c22", "ink": "#e7eaed", "soft": "#9ba6b0", "line": "#2b333c", "faint": "#1f262d"}
    | {"accent": "#7db7e6", "gain": "#45c3ab", "loss": "#f08a6c", "warn-paper": "#33290f", "warn-ink": "#f2d48a"}
    | {"up": "#35b3a0", "down": "#e5795a", "area": "rgba(125, 183, 230, .14)", "under": "rgba(240, 138, 108, .22)"},
}
"""The page's colours by name, for its style sheet and its charts."""

CONFIG: Document = {
    "responsive": True,
    "displayModeBar": False,
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "topojsonURL": "",
    "showTips": False,
    "showAxisRangeEntryBoxes": False,
    "scrollZoom": True,
    "doubleClick": False,
}
_MOMENT = "%-d %b %Y, %H:%M UTC"
_TICKS: Sequence[Document] = (
    {"dtickrange": [None, 43_200_000], "value": "%H:%M\n%-d %b"},
    {"dtickrange": [43_200_000, "M1"], "value": "%-d %b"},
    {"dtickrange": ["M1", "M12"], "value": "%b %Y"},
    {"dtickrange": ["M12", None], "value": "%Y"},
)
_REASON_WIDTH = 46
DIGIT_PX = 7.2
# Shapes and dashes differ, not only colours. A line's group is its place in the legend; only the first of a group is named there.
_LINES = (
    ("entry price", "entry", "accent", "solid"),
    ("stop price", "stop", "loss", "dash"),
    ("target price", "target_1", "gain", "dot"),
    ("target price", "target_2", "gain", "dot"),
)
_MARKERS = (
    ("entry", "accent", "triangle-up", 12),
    ("target", "gain", "diamond", 11),
    ("stop", "loss", "x", 10),
    ("other exit", "loss", "triangle-down", 12),
)


def layout_template(colours: Mapping[str, str]) -> Document:
    """What every chart of the page looks like, its traces aside."""
    axis: Document = {
        "gridcolor": colours["faint"],
        "linecolor": colours["line"],
        "tickfont": {"color": colours["soft"]},
        "zeroline": False,
        "ticklabelstandoff": 4,
    }
    spike: Document = {"spikecolor": colours["soft"], "spikethickness": 1, "spikedash": "2px,3px", "spikemode": "across"}
    return {
        "paper_bgcolor": colours["card"],
        "plot_bgcolor": colours["card"],
        "font": {"family": FONT, "size": 12, "color": colours["ink"]},
        "hoverlabel": {"bgcolor": colours["card"], "bordercolor": colours["line"], "font": {"color": colours["ink"], "size": 12}},
        "legend": {"font": {"color": colours["soft"], "size": 12}},
        "shapedefaults": {"line": {"color": colours["soft"], "width": 1, "dash": "4px,4px"}},
        "annotationdefaults": {"bgcolor": colours["ink"], "font": {"color": colours["card"]}, "borderpad": 3},
        "xaxis": {**axis, **spike},
        "yaxis": axis,
    }


def templates() -> Document:
    """Per scheme and chart, the plotly template with its colours; traces of a template stand in the order of the figure's."""
    found: dict[str, Value] = {}
    for scheme, c in SCHEMES.items():
        curves: list[Value] = [
            {"line": {"color": c["accent"]}, "fillcolor": c["area"]},
            {"line": {"color": c["loss"]}, "fillcolor": c["under"]},
        ]
        deals: list[Value] = [{"line": {"color": c[colour]}} for _, _, colour, _ in _LINES]
        deals += [{"marker": {"color": c[colour], "line": {"color": c["card"], "width": 1.5}}} for _, colour, _, _ in _MARKERS]
        bars: Document = {
            way: {"fillcolor": c[colour], "line": {"color": c[colour], "width": 1}}
            for way, colour in (("increasing", "up"), ("decreasing", "down"))
        }
        layout = layout_template(c)
        found[scheme] = {
            "equity": {"layout": layout, "data": {"scatter": curves}},
            "candles": {"layout": layout, "data": {"scatter": deals, "candlestick": [bars]}},
        }
    return found


def time_layout(span: tuple[int, int], right_px: float, anchor: str) -> dict[str, Value]:
    """The layout both charts share: time below, prices to the right, dragging moves, one box names what is at a time."""
    return {
        "autosize": True,
        "dragmode": "pan",
        "hovermode": "x unified",
        "hoverdistance": 2,
        "separators": ".,",
        "showlegend": False,
        "margin": {"l": 2, "r": round(right_px), "t": 8, "b": 26},
        "xaxis": {
            **{"type": "date", "range": span},
            **{"rangeslider": {"visible": False}, "tickformatstops": _TICKS, "hoverformat": _MOMENT, "anchor": anchor},
        },
    }


def y_axis(tick_format: str, **more: Value) -> Document:
    """A value axis on the right that only the page moves."""
    return {"side": "right", "fixedrange": True, "tickformat": tick_format, "nticks": 8, **more}


# ------------------------------------------------------------------------------------------------- equity and drawdown


def equity_figure(view: AccountView) -> Document:
    """The equity curve, and below it the drawdown from the running peak, over one time axis."""
    curve, decimals, step = equity_curve(view), money_decimals(view.quote), timeframe_ms(view.timeframe)
    times, initial = curve["at"].to_list(), float(view.initial_cash)
    span = (times[0] - step, times[-1] + step) if times else (ms(view.anchor_at), ms(view.anchor_at) + step)
    money = (
        f"equity <b>%{{y:,.{decimals}f}}</b> {escape(view.quote, quote=False)}, return <b>%{{customdata:+.2%}}</b><extra></extra>"
    )
    returns = (curve["equity"] / initial - 1).round(6).to_list()
    common: Document = {"type": "scatter", "mode": "lines", "x": times, "fill": "tozeroy", "meta": "fit"}
    equity: Document = {"name": "equity", "y": curve["equity"].to_list(), "customdata": returns, "hovertemplate": money}
    fall: Document = {"name": "drawdown", "y": (0 - curve["drawdown"]).to_list(), "yaxis": "y2"}
    below: Document = {"hovertemplate": "drawdown <b>%{y:.2%}</b><extra></extra>"}
    label = f"{max([initial, *curve['equity'].to_list()]):,.0f}"
    return {
        "step": step,
        "data": [{**common, **equity, "line": {"width": 1.6}}, {**common, **fall, **below, "line": {"width": 1.2}}],
        "layout": {
            **time_layout(span, DIGIT_PX * max(7, len(label) + 1) + 12, "y2"),
            "hoversubplots": "axis",
            "yaxis": y_axis(",.6~f", domain=[0.34, 1]),
            "yaxis2": y_axis(".2~%", domain=[0, 0.3], nticks=4),
            "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": initial, "y1": initial, "layer": "above"}],
        },
    }


# ------------------------------------------------------------------------------------------------- candles and deals


def candle_figure() -> Document:
    """The chart of one symbol's candles and deals, without any data; ``symbol_document`` has it per symbol."""
    bars: Document = {"type": "candlestick", "name": "candles", "showlegend": False, "meta": "fit"}
    line: Document = {"type": "scatter", "mode": "lines"}
    lines: list[Value] = [
        {**line, "name": group, "legendgroup": group, "showlegend": leg != "target_2", "line": {"dash": dash, "width": 1.4}}
        for group, leg, _, dash in _LINES
    ]
    markers: list[Value] = [
        {"type": "scatter", "mode": "markers", "name": name, "marker": {"symbol": symbol, "size": size}, "cliponaxis": False}
        for name, _, symbol, size in _MARKERS
    ]
    layout = time_layout((0, 1), 60, "y") | {"boxgap": 0.3, "showlegend": True}
    legend: Document = {"orientation": "h", "x": 0, "y": -0.09, "yanchor": "top", "itemsizing": "trace", "traceorder": "normal"}
    return {"data": [bars, *lines, *markers], "layout": {**layout, "legend": legend, "yaxis": y_axis(",.2~f")}}


def _segments(spans: Sequence[tuple[int, int, Decimal]]) -> tuple[list[Value], list[Value]]:
    """Horizontal lines as one broken line: x and y with a null after each."""
    x: list[Value] = []
    y: list[Value] = []
    for since, until, price in spans:
        x += [since, until, None]
        y += [float(price), float(price), None]
    return x, y


def _line_data(view: AccountView, trades: pl.DataFrame, levels: Sequence[Sequence[Level]], decimals: int) -> list[Value]:
    """What the level traces draw: entry prices, stops, targets, each while it stood."""
    end = end_of(view)
    entries = trades.select("opened_at", pl.col("closed_at").fill_null(pl.lit(end)), "entry_price").iter_rows()
    spans = {leg: [(ms(x.since), ms(x.until), x.price) for own in levels for x in own if x.leg == leg] for _, leg, _, _ in _LINES}
    spans["entry"] = [(ms(opened), ms(closed), price) for opened, closed, price in entries]
    found: list[Value] = []
    for leg, own in spans.items():
        x, y = _segments(own)
        found.append(
            {"x": x, "y": y, "hovertemplate": f"{leg.replace('_', ' ')} price <b>%{{y:,.{decimals}f}}</b><extra></extra>"}
        )
    return found


def fill_text(fill: Mapping[str, object], decimals: int) -> str:
    """What the reader sees of a fill: deal and reason, as plotly's pseudo-HTML, which knows tags and a few entities."""
    price, quantity = Decimal(str(fill["price"])), Decimal(str(fill["quantity"]))
    shown = format_price(price, max(decimals, min(8, decimals_of(price))))
    leg, at = str(fill["leg"]).replace("_", " "), fill["bar_opened_at"]
    moment = format_time(at) if isinstance(at, datetime) else MISSING
    leg = f"short {leg}" if fill["position_side"] == "short" else leg
    deal = f"{str(fill['side']).lower()} {format_quantity(quantity)} at {shown}"
    reason = "<br>".join(escape(line, quote=False) for line in wrap(str(fill["reason"]), _REASON_WIDTH))
    return f"<b>{escape(leg, quote=False)}</b> {moment}: {escape(deal, quote=False)}<br>{reason}"


def _marker_of(leg: str) -> int:
    """Row of _MARKERS that draws a leg."""
    return 0 if leg == "entry" else 1 if leg.startswith("target") else 2 if leg == "stop" else 3


def _marker_data(fills: pl.DataFrame, decimals: int) -> list[Value]:
    """What the four marker traces draw. An entry that sells points down, as an exit that sells does; one that buys points up."""
    found: list[dict[str, list[Value]]] = [{"x": [], "y": [], "text": []} for _ in _MARKERS]
    ways: list[list[Value]] = [[] for _ in _MARKERS]
    for row in fills.iter_rows(named=True):
        ways[_marker_of(row["leg"])].append("triangle-up" if row["side"].lower() == "buy" else "triangle-down")
        own = found[_marker_of(row["leg"])]
        own["x"].append(ms(row["bar_opened_at"]))
        own["y"].append(float(row["price"]))
        own["text"].append(fill_text(row, decimals))
    data: list[Value] = []
    for (_, _, shape, size), own, way in zip(_MARKERS, found, ways, strict=True):
        turns = shape.startswith("triangle") and set(way) - {shape}
        turned: Document = {"marker": {"symbol": way, "size": size}} if turns else {}
        data.append({**own, **turned, "hovertemplate": "%{text}<extra></extra>"})
    return data


def symbol_document(
    view: AccountView, symbol: str, trades: pl.DataFrame, levels: Sequence[Sequence[Level]], factor: int
) -> Document:
    """What each trace of ``candle_figure`` draws of a symbol. ``trades`` are its own, ``levels`` runs parallel to their rows."""
    candles = view.candles[symbol] if symbol in view.candles else empty_candles()
    decimals, bars, step = price_decimals(candles), merge_bars(candles, factor), timeframe_ms(view.timeframe) * factor
    times = opened_at_ms(bars).tolist()
    prices: dict[str, Value] = {name: np.round(bars[name].to_numpy(), decimals).tolist() for name in PRICE_COLUMNS}
    shown = "  ".join(f"{name[0].upper()} <b>%{{{name}:,.{decimals}f}}</b>" for name in prices)
    fills = view.fills.filter(pl.col("symbol") == symbol).sort("sequence")
    data: list[Value] = [{"x": times, **prices, "hovertemplate": f"{shown}<extra></extra>"}]
    data += [*_line_data(view, trades, levels, decimals), *_marker_data(fills, decimals)]
    last = f"{bars['close'][-1]:,.{decimals}f}" if times else ""
    tag: Document = {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 1, "yref": "y", "text": last, "showarrow": False}
    return {
        "data": data,
        "deals": fills.height,
        "first": times[0] - step if times else 0,
        "last": times[-1] + 3 * step if times else step,
        "step": step,
        "right": round(DIGIT_PX * max(6, len(last)) + 14),
        "tickformat": f",.{decimals}~f",
        "annotations": [{**tag, "y": bars["close"][-1]}] if times else [],
        "merged": factor,
    }


def chart_document(view: AccountView, trades: pl.DataFrame) -> Document:
    """Everything the page's script hands to plotly. ``trades`` is ``pair_trades`` of the view's fills."""
    levels = trade_levels(view, trades)
    longest = max((frame.height for frame in view.candles.values()), default=0)
    factor = merge_factor(longest, len(view.symbols))
    symbols: list[Value] = []
    for symbol in view.symbols:
        own = trades["symbol"] == symbol
        own_levels = [levels[row] for row in own.arg_true().to_list()]
        symbols.append(symbol_document(view, symbol, trades.filter(own), own_levels, factor))
    return {
        "timeframe": view.timeframe,
        "config": CONFIG,
        "templates": templates(),
        "equity": equity_figure(view),
        "candles": candle_figure(),
        "symbols": symbols,
    }
