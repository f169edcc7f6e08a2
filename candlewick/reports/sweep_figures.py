"""What a sweep's charts draw: the objective over pairs of parameters, over each of them, and over all sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations, pairwise

import numpy as np
import polars as pl

from candlewick.reports.backtest_view import SweepView
from candlewick.reports.figures import Document, Value
from candlewick.reports.measures import cell_text, figure_title, figure_unit
from candlewick.reports.run_figures import frame_document, legend

MAX_AXIS_VALUES = 60
"""Values of one parameter beside each other; beyond, neighbouring ones share a column."""
_BINS = 30
_HISTOGRAM_BARS = 60
_CODE = "axis "


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter's values in order: ``labels`` by code, ``codes`` one a row; ``is_binned`` where some share a code."""

    name: str
    labels: tuple[str, ...]
    codes: pl.Series
    is_binned: bool


def still_layout(**more: Value) -> dict[str, Value]:
    """The layout of a chart that does not move."""
    margin: Document = {"l": 8, "r": 8, "t": 10, "b": 36}
    return {
        "autosize": True,
        "dragmode": False,
        "separators": ".,",
        "showlegend": False,
        "margin": margin,
        "hovermode": "closest",
        **more,
    }


def objective_format(name: str) -> str:
    """d3's format of a figure."""
    return ".2~%" if figure_unit(name).endswith("share") else ",.4~g"


def finite_objective(view: SweepView) -> pl.DataFrame:
    """The results whose objective is defined, the objective as float; in the order they came."""
    value = pl.col(view.objective).cast(pl.Float64)
    return view.results.with_columns(value).filter(pl.col(view.objective).is_not_null() & pl.col(view.objective).is_finite())


def ranked(view: SweepView) -> pl.DataFrame:
    """Results from best to worst; sets without an objective are left out, equal ones keep their order."""
    return finite_objective(view).sort(view.objective, descending=not view.lower_is_better, maintain_order=True)


def axis_of(results: pl.DataFrame, name: str) -> Axis:
    """A parameter's axis. More than MAX_AXIS_VALUES different numbers share equal parts of their range."""
    column = results[name]
    values = column.unique().sort()
    if len(values) <= MAX_AXIS_VALUES or not column.dtype.is_numeric():
        places = {value: code for code, value in enumerate(values.to_list())}
        codes = pl.Series(_CODE + name, [places[value] for value in column.to_list()], dtype=pl.Int64)
        return Axis(name, tuple(cell_text("", value, "") for value in places), codes, False)
    numbers = column.cast(pl.Float64).to_numpy()
    edges = np.linspace(numbers.min(), numbers.max(), _BINS + 1)
    places_of = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, _BINS - 1)
    labels = tuple(f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges))
    return Axis(name, labels, pl.Series(_CODE + name, places_of, dtype=pl.Int64), True)


def _best(view: SweepView) -> pl.Expr:
    return pl.col(view.objective).min() if view.lower_is_better else pl.col(view.objective).max()


def _axis_layout(axis: Axis, side: str) -> Document:
    """Labels at the places of their codes, as many as are readable."""
    size = len(axis.labels)
    places = list(range(0, size, -(-size // 12)))
    shown: dict[str, Value] = {"tickvals": places, "ticktext": [escape(axis.labels[place], quote=False) for place in places]}
    title: Document = {"text": escape(axis.name, quote=False), "standoff": 6}
    return {
        **shown,
        "title": title,
        "automargin": True,
        "showgrid": False,
        "side": side,
        "fixedrange": True,
        "range": [-0.5, size - 0.5],
    }


def heat_map(view: SweepView, results: pl.DataFrame, across: Axis, up: Axis, how: str) -> Document:
    """The objective over two parameters; ``how`` is best or mean over the sets that share a cell. The best cell is ringed."""
    value = _best(view) if how == "best" else pl.col(view.objective).mean()
    cells = (
        results.with_columns(across.codes, up.codes).group_by(across.codes.name, up.codes.name).agg(value, pl.len().alias("sets"))
    )
    grid: list[list[Value]] = [[None] * len(across.labels) for _ in up.labels]
    sets: list[list[Value]] = [[0] * len(across.labels) for _ in up.labels]
    for x, y, objective, count in cells.iter_rows():
        grid[y][x], sets[y][x] = float(f"{objective:.5g}"), count
    name, form = escape(figure_title(view.objective), quote=False), objective_format(view.objective)
    shown = f"{escape(across.name, quote=False)} %{{text}}<br>{name}, {how} <b>%{{z:{form}}}</b>"
    shown += ", sets in the cell %{customdata}<extra></extra>"
    labels: list[Value] = [
        [f"{escape(left, quote=False)}, {escape(up.name, quote=False)} {escape(low, quote=False)}" for left in across.labels]
        for low in up.labels
    ]
    bar: Document = {"thickness": 12, "outlinewidth": 0, "tickformat": form, "title": {"text": name, "side": "right"}}
    traces: list[Value] = [
        {
            **{"type": "heatmap", "z": grid, "text": labels, "customdata": sets, "hovertemplate": shown, "xgap": 1, "ygap": 1},
            **{"colorscale": "Cividis", "reversescale": view.lower_is_better, "hoverongaps": False, "colorbar": bar},
        }
    ]
    best = cells.sort(view.objective, descending=not view.lower_is_better).head(1)
    if best.height:
        ring: Document = {"symbol": "circle-open", "size": 16, "color": "#ff5a1f", "line": {"width": 3}}
        at: Document = {"x": [best[across.codes.name][0]], "y": [best[up.codes.name][0]], "hoverinfo": "skip"}
        traces.append({"type": "scatter", "mode": "markers", **at, "marker": ring})
    return {"data": traces, "layout": still_layout(xaxis=_axis_layout(across, "bottom"), yaxis=_axis_layout(up, "left"))}


def along(view: SweepView, results: pl.DataFrame, axis: Axis) -> Document:
    """The objective along one parameter: the best, the median and the mean of the sets that share its value."""
    value = pl.col(view.objective)
    kinds = {"best": _best(view), "mean": value.mean(), "median": value.median()}
    own = results.with_columns(axis.codes).group_by(axis.codes.name).agg(expr.alias(name) for name, expr in kinds.items())
    own = own.sort(axis.codes.name)
    form, traces = objective_format(view.objective), list[Value]()
    for (name, dash), number in zip((("best", "solid"), ("mean", "dash"), ("median", "dot")), (0, 1, 2), strict=True):
        line: Document = {"color": f"@series-{number}", "dash": dash, "width": 1.8}
        points: Document = {"x": own[axis.codes.name].to_list(), "y": [float(f"{one:.6g}") for one in own[name]]}
        shown = f"{name} <b>%{{y:{form}}}</b><extra></extra>"
        marker: Document = {"size": 6, "color": f"@series-{number}"}
        look: Document = {"type": "scatter", "mode": "lines+markers", "name": name, "line": line, "marker": marker}
        traces.append({**look, **points, "hovertemplate": shown})
    up: Document = {"tickformat": form, "automargin": True, "title": {"text": escape(figure_title(view.objective), quote=False)}}
    layout = still_layout(xaxis=_axis_layout(axis, "bottom"), yaxis=up, hovermode="x unified")
    return {"data": traces, "layout": {**layout, "showlegend": True, "legend": {**legend(), "y": -0.24}}}


def distribution(view: SweepView, results: pl.DataFrame) -> Document:
    """How many sets reached which objective, with the best one and what luck alone reaches."""
    values, form = results[view.objective].to_numpy(), objective_format(view.objective)
    bars = max(1, min(_HISTOGRAM_BARS, int(np.ceil(len(values) ** 0.5)) * 2))
    counts, edges = np.histogram(values, bins=bars) if len(values) else (np.zeros(0, dtype=np.int64), np.zeros(1))
    middles, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    spans: list[Value] = [[float(low), float(high)] for low, high in pairwise(edges)]
    shown = f"%{{customdata[0]:{form}}} to %{{customdata[1]:{form}}}: <b>%{{y:,}}</b> sets<extra></extra>"
    trace: dict[str, Value] = {
        "type": "bar",
        "x": middles.tolist(),
        "y": counts.tolist(),
        "width": widths.tolist(),
        "customdata": spans,
    }
    trace |= {"hovertemplate": shown, "marker": {"color": "@accent", "line": {"color": "@card", "width": 1}}}
    lines: list[tuple[float, str, str, float]] = []
    if len(values):
        best = float(values.min() if view.lower_is_better else values.max())
        lines.append((best, "best", "@gain", 1.0))
    if view.objective == "sharpe" and view.sharpe_threshold.value is not None:
        lines.append((float(view.sharpe_threshold.value), "best expected by luck", "@loss", 0.9))
    shapes: list[Value] = [
        {
            "type": "line",
            "x0": at,
            "x1": at,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": colour, "width": 2, "dash": "solid"},
        }
        for at, _, colour, _ in lines
    ]
    notes: list[Value] = [
        {"x": at, "y": height, "yref": "paper", "text": text, "showarrow": False, "xanchor": "auto", "bgcolor": colour}
        for at, text, colour, height in lines
    ]
    x: Document = {"tickformat": form, "automargin": True, "title": {"text": escape(figure_title(view.objective), quote=False)}}
    y: Document = {"title": {"text": "sets"}, "automargin": True, "tickformat": ",d", "rangemode": "tozero"}
    return {"data": [trace], "layout": still_layout(xaxis=x, yaxis=y, bargap=0, shapes=shapes, annotations=notes)}


def pairs(grid: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of parameters in the order of the grid: across, up."""
    return list(combinations(grid, 2))


def sweep_axes(view: SweepView) -> Mapping[str, Axis]:
    """The axes of the parameters that take more than one value among the results with an objective."""
    results = finite_objective(view)
    axes = {name: axis_of(results, name) for name in view.grid} if results.height else {}
    return {name: axis for name, axis in axes.items() if len(axis.labels) > 1}


def sweep_document(view: SweepView) -> Document:
    """Everything the page of a sweep draws."""
    results, axes = finite_objective(view), sweep_axes(view)
    still: dict[str, Value] = {"distribution": {"versions": None, "figures": [distribution(view, results)]}}
    maps = {
        f"{number}|{how}": heat_map(view, results, axes[across], axes[up], how)
        for number, (across, up) in enumerate(pairs(tuple(axes)))
        for how in ("best", "mean")
    }
    if maps:
        still["heat"] = {"versions": {key: place for place, key in enumerate(maps)}, "figures": list(maps.values())}
    lines = {str(number): along(view, results, axis) for number, axis in enumerate(axes.values())}
    if lines:
        still["along"] = {"versions": {key: place for place, key in enumerate(lines)}, "figures": list(lines.values())}
    return {**frame_document(), "still": still}
