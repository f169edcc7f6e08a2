"""What the pictures of a validation draw: prices over each other with the difference, volume and coverage below them on one time
axis, the distribution of the difference, and the correlation of returns when one source is shifted."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np
import polars as pl

from candlewick.quality.comparison import BarRun, SourceComparison
from candlewick.quality.disagreements import OTHER, Disagreement, disagreement_text
from candlewick.reports.charts import price_decimals
from candlewick.reports.curves import chart_step_ms
from candlewick.reports.figures import DIGIT_PX, Document, Value, time_layout, y_axis
from candlewick.reports.run_figures import frame_document, legend
from candlewick.reports.sweep_figures import still_layout
from candlewick.timeframes import format_utc, timeframe_ms

MAX_POINTS = 4_000
"""Points of a curve; beyond, neighbouring bars share one (the difference keeps its lowest and highest)."""
MAX_RUNS_DRAWN = 400
MAX_MARKS_DRAWN = 200
HISTOGRAM_BARS = 61
HISTOGRAM_SHARE = 0.01
"""Share of the bars on either side that the histogram puts into its outermost bars."""
OURS, OTHERS = "@series-0", "@series-1"
_DASH = "dash"


def drawn_step_ms(comparison: SourceComparison) -> int:
    """How much time one point of the curves stands for."""
    length_ms = timeframe_ms(comparison.ours.series.timeframe)
    return chart_step_ms(comparison.span.length_ms if comparison.span else length_ms, length_ms, MAX_POINTS)


def drawn_bars(comparison: SourceComparison) -> pl.DataFrame:
    """Common bars merged to steps that a page can hold.

    Columns ``at`` (ms), ``ours``, ``other`` (last closes), ``low``, ``middle``, ``high`` (difference in bps) and ``ratio``
    (volume of ours over the other's; null where one is 0).
    """
    step_ms = drawn_step_ms(comparison)
    at = (pl.col("opened_at").dt.epoch("ms") // step_ms * step_ms).alias("at")
    volume, other = pl.col("volume").sum(), pl.col(f"volume{OTHER}").sum()
    return comparison.bars.group_by(at, maintain_order=True).agg(
        pl.col("close").last().alias("ours"),
        pl.col(f"close{OTHER}").last().alias("other"),
        pl.col("difference_bps").min().round(2).alias("low"),
        pl.col("difference_bps").median().round(2).alias("middle"),
        pl.col("difference_bps").max().round(2).alias("high"),
        pl.when((volume > 0) & (other > 0)).then((volume / other).round_sig_figs(4)).alias("ratio"),
    )


def _line(name: str, axis: str, x: Sequence[int], y: pl.Series, hover: str, **look: Value) -> Document:
    own: dict[str, Value] = {"type": "scatter", "mode": "lines", "name": escape(name, quote=False), "x": x, "y": y.to_list()}
    return {**own, "yaxis": axis, "line": look, "hovertemplate": f"{hover}<extra></extra>"}


def _prices(comparison: SourceComparison, rows: pl.DataFrame) -> list[Value]:
    decimals = price_decimals(comparison.bars.tail(5_000))
    x, found = rows["at"].to_list(), list[Value]()
    for source, column, look in ((comparison.ours, "ours", OURS), (comparison.other, "other", OTHERS)):
        hover = f"{escape(source.name, quote=False)} <b>%{{y:,.{decimals}~f}}</b>"
        dash = "solid" if column == "ours" else _DASH
        line = _line(source.label, "y", x, rows[column].round(decimals), hover, color=look, width=1.5, dash=dash)
        found.append({**line, "meta": "fit"})
    return found


def _differences(comparison: SourceComparison, rows: pl.DataFrame) -> list[Value]:
    """Lowest to highest as an area, the median as a line, the disagreements as marks."""
    x = rows["at"].to_list()
    edge: Document = {"type": "scatter", "mode": "lines", "x": x, "yaxis": "y2", "hoverinfo": "skip"}
    edge = {**edge, "line": {"width": 0.7, "color": "@line"}}
    hover = "difference <b>%{y:,.1f} bps</b>, %{customdata[0]:,.1f} to %{customdata[1]:,.1f}"
    middle = _line("difference", "y2", x, rows["middle"], hover, color="@accent", width=1.4)
    found: list[Value] = [
        {**edge, "y": rows["low"].to_list(), "showlegend": False, "meta": "fit"},
        {**edge, "y": rows["high"].to_list(), "fill": "tonexty", "fillcolor": "@area", "showlegend": False, "meta": "fit"},
        {**middle, "showlegend": False, "customdata": rows.select("low", "high").rows()},
    ]
    marked = _worst(comparison.disagreements)
    if marked:
        marks: Document = {"symbol": "x", "size": 8, "color": "@loss", "line": {"color": "@card", "width": 1}}
        texts = [escape(disagreement_text(one, comparison.other.label), quote=False) for one in marked]
        prices = [one for one in marked if one.column != "volume"]
        found.append(
            {
                **{"type": "scatter", "mode": "markers", "name": "disagreement", "yaxis": "y2", "marker": marks},
                **{"x": [one.at_ms for one in marked], "y": [_height(one) for one in marked], "text": texts},
                **{"hovertemplate": "%{text}<extra></extra>", "cliponaxis": False, "showlegend": True},
                **({"meta": "fit"} if prices else {}),
            }
        )
    return found


def _height(one: Disagreement) -> float:
    """Where it is marked: a volume's difference has no place among the prices'."""
    return 0.0 if one.column == "volume" else round(one.difference_bps, 1)


def _worst(found: Sequence[Disagreement]) -> list[Disagreement]:
    worst = sorted(found, key=lambda one: -abs(one.difference_bps))[:MAX_MARKS_DRAWN]
    return sorted(worst, key=lambda one: one.at_ms)


def _coverage(comparison: SourceComparison) -> list[Value]:
    """A band a source, broken where it lacks bars that the other has, with a mark at each such hole."""
    span, found = comparison.span, list[Value]()
    assert span is not None, "sources that do not meet are not drawn"
    sources = ((comparison.ours, comparison.only_other, OURS, 1), (comparison.other, comparison.only_ours, OTHERS, 0))
    for source, lacking, look, height in sources:
        holes = sorted(sorted(lacking, key=lambda run: -run.bars)[:MAX_RUNS_DRAWN], key=lambda run: run.since_ms)
        x: list[Value] = [span.since_ms]
        for hole in holes:
            x += [hole.since_ms, None, hole.until_ms]
        x.append(span.until_ms)
        band: Document = {"type": "scatter", "mode": "lines", "yaxis": "y4", "x": x, "hoverinfo": "skip", "showlegend": False}
        name = escape(source.name, quote=False)
        found.append({**band, "y": [None if one is None else height for one in x], "line": {"color": look, "width": 9}})
        if holes:
            found.append(_hole_marks(name, holes, height, is_first=height == 1 or not comparison.only_other))
    return found


def _hole_marks(name: str, holes: Sequence[BarRun], height: int, *, is_first: bool) -> Document:
    """A mark where each hole begins; only the first source's are named in the legend."""
    mark: Document = {"symbol": "line-ns-open", "size": 17, "color": "@loss", "line": {"color": "@loss", "width": 2}}
    return {
        **{"type": "scatter", "mode": "markers", "yaxis": "y4", "marker": mark, "showlegend": is_first},
        **{"name": "missing", "x": [hole.since_ms for hole in holes], "y": [height] * len(holes), "legendgroup": "missing"},
        **{"text": [f"{name} lacks {_run_text(hole)}" for hole in holes], "hovertemplate": "%{text}<extra></extra>"},
    }


def _run_text(run: BarRun) -> str:
    bars = "1 bar" if run.bars == 1 else f"{run.bars:,} bars"
    return f"{bars}, {format_utc(run.since_ms)} to {format_utc(run.until_ms)}"


def time_chart(comparison: SourceComparison) -> Document:
    """Prices, difference, volume ratio and coverage below each other over one time axis."""
    rows, step_ms = drawn_bars(comparison), drawn_step_ms(comparison)
    span = comparison.span
    assert span is not None, "sources that do not meet are not drawn"
    x = rows["at"].to_list()
    ratio = _line("volume ratio", "y3", x, rows["ratio"], "volume ratio <b>%{y:,.4~g}</b>", color="@soft", width=1.3)
    data = [
        *_prices(comparison, rows),
        *_differences(comparison, rows),
        {**ratio, "showlegend": False},
        *_coverage(comparison),
    ]
    top = float(comparison.bars["close"].max() or 1) if comparison.bars.height else 1.0  # type: ignore[arg-type]
    names = [escape(source.name, quote=False) for source in (comparison.other, comparison.ours)]
    right_px = DIGIT_PX * max(8, len(f"{top:,.0f}") + 2, *(len(name) for name in names)) + 14
    zero: Document = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 0, "y1": 0, "layer": "below"}
    one: Document = {**zero, "yref": "y3", "y0": 1, "y1": 1}
    layout = time_layout((span.since_ms - step_ms, span.until_ms + step_ms), right_px, "y4")
    return {
        "step": timeframe_ms(comparison.ours.series.timeframe),
        "data": data,
        "layout": {
            **layout,
            "hoversubplots": "axis",
            "showlegend": True,
            "legend": {**legend(), "y": -0.07, "itemsizing": "constant"},
            "yaxis": y_axis(",.6~f", domain=[0.62, 0.97]),
            "yaxis2": y_axis(",.4~f", domain=[0.33, 0.55], nticks=5),
            "yaxis3": y_axis(",.4~g", domain=[0.145, 0.265], nticks=4, type="log"),
            "yaxis4": y_axis("", domain=[0, 0.085], tickvals=[0, 1], ticktext=names, range=[-0.7, 1.7], showgrid=False),
            "shapes": [zero, one],
            "annotations": _titles((("Close", 1.0), ("Difference, bps", 0.585), ("Volume ratio", 0.3), ("Bars there are", 0.12))),
        },
    }


def _titles(titles: Sequence[tuple[str, float]]) -> list[Value]:
    """The panels' titles, each above its panel."""
    place: Document = {"xref": "paper", "yref": "paper", "x": 0, "xanchor": "left", "yanchor": "middle", "showarrow": False}
    look: Document = {"bgcolor": "@card", "font": {"color": "@soft", "size": 12}}
    return [{**place, **look, "y": height, "text": f"<b>{text}</b>"} for text, height in titles]


def histogram_chart(comparison: SourceComparison) -> Document:
    """How many bars are how far apart, signed; the outermost bars hold all that lies beyond."""
    signed = comparison.bars["difference_bps"].to_numpy()
    low, high = (float(value) for value in np.quantile(signed, (HISTOGRAM_SHARE, 1 - HISTOGRAM_SHARE)))
    reach = max(abs(low), abs(high), 1.0)
    edges = np.linspace(-reach, reach, HISTOGRAM_BARS + 1)
    counts, _ = np.histogram(np.clip(signed, -reach, reach), bins=edges)
    texts = [f"{low:,.1f} to {high:,.1f} bps" for low, high in pairwise(edges)]
    texts[0], texts[-1] = f"below {edges[1]:,.1f} bps", f"{edges[-2]:,.1f} bps and more"
    trace: Document = {
        **{"type": "bar", "x": ((edges[:-1] + edges[1:]) / 2).round(3).tolist(), "y": counts.tolist(), "text": texts},
        **{"width": np.diff(edges).tolist(), "marker": {"color": "@accent", "line": {"color": "@card", "width": 1}}},
        **{"hovertemplate": "%{text}: <b>%{y:,}</b> bars<extra></extra>", "textposition": "none"},
    }
    difference = comparison.difference
    assert difference is not None, "no common bar"
    bias = difference.bias_bps
    at: Document = {"type": "line", "x0": bias, "x1": bias, "yref": "paper", "y0": 0, "y1": 1}
    note: Document = {
        **{"x": bias, "y": 1, "yref": "paper", "yanchor": "top", "text": f"median {bias + 0:+,.1f} bps", "showarrow": False},
        **{"xanchor": "left", "xshift": 4, "bgcolor": "@loss"},
    }
    bottom: Document = {
        "tickformat": ",.4~f",
        "automargin": True,
        "title": {"text": "difference of the closes, bps"},
        "range": [-reach, reach],
    }
    side: Document = {"title": {"text": "bars"}, "automargin": True, "tickformat": ",d", "rangemode": "tozero"}
    shapes: list[Value] = [{**at, "line": {"color": "@loss", "width": 2, "dash": "solid"}}]
    return {"data": [trace], "layout": still_layout(xaxis=bottom, yaxis=side, bargap=0, shapes=shapes, annotations=[note])}


def lag_chart(comparison: SourceComparison) -> Document:
    """The correlation of returns at every shift that was tried; the best one stands out."""
    lag = comparison.lag
    assert lag is not None, "no returns"
    shown = [(str(bars), value) for bars, value in lag.tried]
    colours = ["@gain" if bars == lag.best_bars else "@accent" for bars, _ in lag.tried]
    trace: Document = {
        **{"type": "bar", "x": [bars for bars, _ in shown], "y": [round(value, 4) for _, value in shown]},
        **{"marker": {"color": colours}, "hovertemplate": "shifted by %{x} bars: <b>%{y:.3f}</b><extra></extra>"},
    }
    bottom: Document = {"type": "category", "title": {"text": "shift in bars"}, "automargin": True, "nticks": 11, "tickangle": 0}
    side: Document = {"title": {"text": "correlation of returns"}, "automargin": True, "tickformat": ".1f", "range": [-0.2, 1.05]}
    return {"data": [trace], "layout": still_layout(xaxis=bottom, yaxis=side, bargap=0.25)}


def validation_document(comparison: SourceComparison) -> Document:
    """Everything the page of a validation draws; what cannot be drawn is left out."""
    document: dict[str, Value] = {**frame_document()}
    still: dict[str, Value] = {}
    if comparison.bars.height:
        document["equity"] = time_chart(comparison)
        still["histogram"] = {"versions": None, "figures": [histogram_chart(comparison)]}
    if comparison.lag is not None:
        still["lag"] = {"versions": None, "figures": [lag_chart(comparison)]}
    return {**document, "still": still}
