"""The report of a walk-forward: what the train windows promised against what the test windows gave."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
import polars as pl

from candlewick.metrics import Measure
from candlewick.reports.backtest import RUN_FOOTER, charts_html
from candlewick.reports.backtest_view import WalkForwardView
from candlewick.reports.charts import ms
from candlewick.reports.figures import Document, Value
from candlewick.reports.html import report_name
from candlewick.reports.measures import figure_title
from candlewick.reports.numbers import format_ratio
from candlewick.reports.page import render_page, write_page
from candlewick.reports.run_figures import equity_chart, frame_document, legend
from candlewick.reports.run_sections import (
    callouts,
    figures_section,
    frame_table,
    headline,
    provenance_section,
    run_header,
    texts_html,
)
from candlewick.reports.sections import minus, section, signed_share
from candlewick.reports.sweep_figures import objective_format, still_layout
from candlewick.timeframes import timeframe_ms

_PANEL_PX = 110
WINDOW_RESULTS = ("in_sample_objective", "out_of_sample_objective", "in_sample_return", "out_of_sample_return")


def _floats(frame: pl.DataFrame, name: str) -> list[Value]:
    """A column as finite floats, None for the others."""
    return [value if value is not None and np.isfinite(value) else None for value in frame[name].cast(pl.Float64).to_list()]


def _window_names(windows: pl.DataFrame) -> list[Value]:
    return [
        f"{since:%Y-%m-%d} to {until:%Y-%m-%d}" for since, until in windows.select("test_since_at", "test_until_at").iter_rows()
    ]


def _bars(view: WalkForwardView) -> Document:
    """Objective in the train and in the test window, side by side, a pair a window."""
    form, names, traces = objective_format(view.objective), _window_names(view.windows), list[Value]()
    numbers: list[Value] = list(range(1, view.windows.height + 1))
    for name, text, colour in (("in", "in sample", "@soft"), ("out_of", "out of sample", "@accent")):
        values: Document = {
            "x": numbers,
            "y": _floats(view.windows, f"{name}_sample_objective"),
            "text": names,
            "textposition": "none",
        }
        shown = f"window %{{x}}, tested %{{text}}<br>{text} <b>%{{y:{form}}}</b><extra></extra>"
        traces.append({"type": "bar", "name": text, **values, "marker": {"color": colour}, "hovertemplate": shown})
    x: Document = {"title": {"text": "window"}, "tickformat": "d", "nticks": 12, "automargin": True, "showgrid": False}
    y: Document = {"tickformat": form, "automargin": True, "title": {"text": escape(figure_title(view.objective), quote=False)}}
    layout = still_layout(xaxis=x, yaxis={**y, "zeroline": True}, bargap=0.3, bargroupgap=0.05)
    return {"data": traces, "layout": {**layout, "showlegend": True, "legend": {**legend(), "y": -0.3}}}


def _scatter(view: WalkForwardView) -> Document:
    """In sample across, out of sample up, a point a window; on the line a window kept what its training promised."""
    inside, outside = (_floats(view.windows, f"{name}_sample_objective") for name in ("in", "out_of"))
    form, known = objective_format(view.objective), [value for value in (*inside, *outside) if isinstance(value, float)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = (high - low or 1.0) * 0.08
    span: list[Value] = [low - margin, high + margin]
    diagonal: Document = {"type": "scatter", "mode": "lines", "x": span, "y": span, "hoverinfo": "skip"}
    shown = f"%{{text}}<br>in sample <b>%{{x:{form}}}</b>, out of sample <b>%{{y:{form}}}</b><extra></extra>"
    points: Document = {"type": "scatter", "mode": "markers", "x": inside, "y": outside, "text": _window_names(view.windows)}
    dot: Document = {"size": 9, "color": "@accent", "line": {"color": "@card", "width": 1}}
    axis: Document = {"tickformat": form, "automargin": True, "range": span}
    return {
        "data": [
            {**diagonal, "line": {"color": "@soft", "dash": "dash", "width": 1}},
            {**points, "marker": dot, "hovertemplate": shown},
        ],
        "layout": still_layout(
            xaxis={**axis, "title": {"text": f"{escape(figure_title(view.objective), quote=False)}, in sample"}},
            yaxis={**axis, "title": {"text": "out of sample"}},
        ),
    }


def _chosen(view: WalkForwardView) -> Document:
    """Each parameter's chosen value over the windows, one below the other; text values by their order."""
    traces, axes, size = list[Value](), dict[str, Value](), max(1, len(view.grid))
    starts = [ms(at) for at in view.windows["test_since_at"]]
    ends = [ms(at) for at in view.windows["test_until_at"].tail(1)]
    for place, name in enumerate(view.grid):
        values: list[Value] = view.windows[name].to_list()
        axis = "y" if place == 0 else f"y{place + 1}"
        line: Document = {"color": f"@series-{place % 8}", "width": 2, "shape": "hv"}
        look: Document = {"type": "scatter", "mode": "lines+markers", "name": escape(name, quote=False), "line": line}
        marker: Document = {"size": 6, "color": f"@series-{place % 8}"}
        shown = f"{escape(name, quote=False)} <b>%{{y}}</b><extra></extra>"
        traces.append(
            {**look, "x": [*starts, *ends], "y": values + values[-1:], "yaxis": axis, "marker": marker, "hovertemplate": shown}
        )
        domain: list[Value] = [1 - (place + 0.86) / size, 1 - place / size]
        kind = "linear" if view.windows[name].dtype.is_numeric() else "category"
        title: Document = {"text": escape(name, quote=False)}
        axes[axis.replace("y", "yaxis")] = {"domain": domain, "type": kind, "automargin": True, "title": title, "nticks": 4}
    x: Document = {"type": "date", "automargin": True, "anchor": "free", "position": 0, "nticks": 8}
    height = _PANEL_PX * size + 60
    return {
        "data": traces,
        "layout": {**still_layout(xaxis=x, hovermode="x unified", hoversubplots="axis", height=height), **axes},
    }


def walk_forward_document(view: WalkForwardView) -> Document:
    """Everything the page of a walk-forward draws."""
    starts = [ms(at) for at in view.windows["test_since_at"]]
    equity = equity_chart(view.equity, view.quote, float(view.initial_cash), timeframe_ms(view.timeframe), lines_at=starts)
    figures: dict[str, Document] = {"windows": _bars(view), "scatter": _scatter(view)}
    if view.grid:
        figures["chosen"] = _chosen(view)
    still: dict[str, Value] = {name: {"versions": None, "figures": [one]} for name, one in figures.items()}
    return {**frame_document(), "equity": equity, "still": still if view.windows.height else {}}


def windows_frame(view: WalkForwardView) -> pl.DataFrame:
    """The windows as a reader wants them: number, spans, choices, in and out of sample."""

    def span(name: str) -> pl.Expr:
        since, until = (
            pl.col(f"{name}_{end}_at").dt.strftime("%Y-%m-%d %H:%M").str.replace(" 00:00", "") for end in ("since", "until")
        )
        return pl.concat_str(since, pl.lit(" to "), until).alias(name)

    number = pl.int_range(1, pl.len() + 1).alias("window")
    return view.windows.select(number, span("train"), span("test"), *view.grid, *WINDOW_RESULTS)


def window_columns(view: WalkForwardView) -> Mapping[str, tuple[str, str]]:
    """Title and figure of the columns of ``windows_frame`` that are not called as a figure is."""
    found = {name: (name, "") for name in view.grid}
    for name in WINDOW_RESULTS:
        place, _, kind = name.rpartition("_")
        figure = view.objective if kind == "objective" else "total_return"
        found[name] = (f"{figure_title(figure)}, {place.replace('_sample', '').replace('_', ' ')}", figure)
    return found


def kept_text(view: WalkForwardView) -> str:
    """How many of the test windows gained."""
    total = view.windows.height
    gained = int((view.windows["out_of_sample_return"] > 0).sum())
    return f"{gained:,} of {total:,} test windows gained"


def _panels(view: WalkForwardView) -> str:
    def panel(chart: str, title: str, note: str, kind: str = "plain") -> str:
        drawn = f'<div id="{chart}" class="chart {kind}" role="img" aria-label="{title}"></div>'
        return f'<section class="whole"><header><h2>{title}</h2></header>{drawn}<p class="note">{note}</p></section>'

    if not view.windows.height:
        return section("Windows", '<p class="soft">The span holds no train and test window.</p>')
    bars = panel("windows", "In sample and out of sample", f"{kept_text(view)}.")
    dots = panel(
        "scatter", "Promised and kept", "A window on the dashed line kept what its training promised; below it, it did not."
    )
    chosen = (
        panel("chosen", "Chosen parameters", "The best of each train window, over its test window.", "free") if view.grid else ""
    )
    return f'<div class="panels">{bars}{dots}</div>{chosen}'


def render_walk_forward_report(view: WalkForwardView) -> str:
    """The report as HTML; equal views give equal pages."""
    returned = view.figures.get("total_return", Measure(None))
    efficiency = (
        f"efficiency {format_ratio(view.efficiency.value)}" if view.efficiency.value is not None else view.efficiency.reason or ""
    )
    below = minus(escape(efficiency))
    stability = frame_table(view.stability, view.quote) if view.stability.height else '<p class="soft">No parameter varied.</p>'
    listed = frame_table(windows_frame(view), view.quote, window_columns(view)) if view.windows.height else ""
    parts = [
        run_header(view, headline("Out-of-sample return", signed_share(returned.value), "", below)),
        callouts(view.check, view.check_passed, view.notices),
        figures_section({"efficiency": view.efficiency, **view.figures}, view.quote) + texts_html(view.texts),
        charts_html("Equity of the test windows, one after the other", view.equity),
        _panels(view),
        section("Windows", listed, view.windows.height) if listed else "",
        section("How steady the choice was", stability),
        provenance_section(view),
    ]
    body = "\n".join(part for part in parts if part)
    footer = f"Amounts in {escape(view.quote)}. {RUN_FOOTER}"
    return render_page(
        f"{view.title}: Candlewick walk-forward", body, footer, walk_forward_document(view), "backtest.js", "backtest.css"
    )


def write_walk_forward_report(view: WalkForwardView, directory: Path) -> Path:
    """Write ``<run_id>.html`` and return its path. Raises CandlewickError when the folder cannot be written or is full."""
    return write_page(render_walk_forward_report(view), directory / report_name(view.run_id), "the run is stored all the same")
