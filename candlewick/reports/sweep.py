"""The report of a sweep: which parameter sets did best, how steady that is, and how much of it luck explains."""

from decimal import Decimal
from html import escape
from pathlib import Path

import polars as pl

from candlewick.metrics import Measure
from candlewick.reports.backtest_view import SweepView
from candlewick.reports.html import report_name
from candlewick.reports.measures import TITLES, as_decimal, cell_text, figure_title, figure_value, kind_title
from candlewick.reports.numbers import format_count, format_ratio, format_share
from candlewick.reports.page import render_page, write_page
from candlewick.reports.run_sections import (
    NO_SCRIPT,
    callouts,
    frame_table,
    headline,
    provenance_section,
    run_header,
    texts_html,
)
from candlewick.reports.sections import figure, measured, minus, section
from candlewick.reports.sweep_figures import Axis, finite_objective, pairs, ranked, sweep_axes, sweep_document

MAX_FIGURE_COLUMNS = 12


def best_text(view: SweepView) -> str:
    """``fast 10, slow 50`` of the best set."""
    best = ranked(view).head(1)
    if best.is_empty():
        return "no set has an objective"
    return ", ".join(f"{name} {cell_text('', best[name][0], '')}" for name in view.grid)


def top_frame(view: SweepView) -> pl.DataFrame:
    """The best sets: rank, parameters, the objective, then the other figures in the order readers know."""
    best = ranked(view).head(view.top)
    known = [name for name in TITLES if name in best.columns and name != view.objective and name not in view.grid]
    rank = pl.int_range(1, pl.len() + 1).alias("rank")
    return best.select(rank, *view.grid, view.objective, *known[:MAX_FIGURE_COLUMNS])


def sweep_figures(view: SweepView) -> list[tuple[str, Measure, str, str]]:
    """Headline figures: name, measure, its text, and what it means."""
    values, sets = finite_objective(view)[view.objective], view.results.height
    name = figure_title(view.objective)
    best, median = (
        as_decimal(one) if isinstance(one, float) else None
        for one in (ranked(view)[view.objective].head(1).max(), values.median())
    )
    undefined = Measure(None, "no set has an objective")
    found = [
        (
            f"Best {name}",
            Measure(best) if best is not None else undefined,
            figure_value(view.objective, best, view.quote),
            best_text(view),
        ),
        (
            f"Median {name}",
            Measure(median) if median is not None else undefined,
            figure_value(view.objective, median, view.quote),
            "of all sets",
        ),
    ]
    if "total_return" in view.results.columns and sets:
        gained = Decimal(int((view.results["total_return"] > 0).sum())) / sets
        found.append(("Sets that gained", Measure(gained), format_share(gained), "of all sets"))
    deflated, threshold, overfit = view.deflated_sharpe, view.sharpe_threshold, view.overfit_probability
    found += [
        ("Sharpe by luck", threshold, format_ratio(threshold.value), "what the best of so many sets reaches without skill"),
        ("Deflated Sharpe", deflated, format_share(deflated.value), "probability that the best set beats that"),
        (
            "Overfitting",
            overfit,
            format_share(overfit.value),
            "probability that the best in one half is below the median in the other",
        ),
    ]
    return found


def sets_text(view: SweepView) -> str:
    """How many sets ran, and how many were left out for which reason."""
    undefined = view.results.height - finite_objective(view).height
    skipped = [f"{format_count(count, 'set')} left out: {reason}" for reason, count in view.skipped.items()]
    parts = [f"{format_count(view.results.height, 'set')} ran", *skipped]
    if undefined:
        parts.append(f"{format_count(undefined, 'set')} without a defined {figure_title(view.objective)}")
    return "; ".join(parts)


def _select(label: str, chart: str, options: list[tuple[str, str]]) -> str:
    shown = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)
    return f'<select data-chart="{chart}" aria-label="{label}">{shown}</select>'


def _heat_section(view: SweepView, axes: dict[str, Axis]) -> str:
    chosen = pairs(tuple(axes))
    if not chosen:
        return ""
    shared = len(axes) > 2 or any(axis.is_binned for axis in axes.values())
    which = _select("Parameters", "heat", [(str(number), f"{across} × {up}") for number, (across, up) in enumerate(chosen)])
    how = _select("Sets that share a cell", "heat", [("best", "best of a cell"), ("mean", "mean of a cell")])
    note = "The ring marks the best cell. " + (
        "Sets with other values of the remaining parameters share a cell: it shows the best of them, or their mean."
        if len(axes) > 2
        else "Neighbouring values share a cell."
        if shared
        else "Every cell is one set. An empty cell has no defined figure."
    )
    tools = f'<div class="bar screen">{which}{how}</div>'
    title = f"<h2>{escape(figure_title(view.objective))} by two parameters</h2>"
    chart = '<div id="heat" class="chart plain tall" role="img" aria-label="Heat map of the objective over two parameters"></div>'
    return f'<section class="whole"><header>{title}{tools}</header>{chart}<p class="note">{note}</p>{NO_SCRIPT}</section>'


def _panels(view: SweepView, axes: dict[str, Axis]) -> str:
    """The objective along each parameter, and over all sets."""
    name = escape(figure_title(view.objective))
    names = _select("Parameter", "along", [(str(number), one) for number, one in enumerate(axes)])
    first = (
        f'<section class="whole"><header><h2>{name} along one parameter</h2><div class="bar screen">{names}</div></header>'
        '<div id="along" class="chart plain" role="img" aria-label="Objective along one parameter"></div>'
        '<p class="note">A parameter that holds up has a plateau here, not a peak.</p></section>'
        if axes
        else ""
    )
    luck = "" if view.objective == "sharpe" else " What luck reaches is known for the Sharpe ratio only, see above."
    second = (
        f'<section class="whole"><header><h2>{name} of all sets</h2></header>'
        '<div id="distribution" class="chart plain" role="img" aria-label="Distribution of the objective"></div>'
        f'<p class="note">{escape(sets_text(view))}.{luck}</p></section>'
    )
    return f'<div class="panels">{first}{second}</div>'


def render_sweep_report(view: SweepView) -> str:
    """The report as HTML; equal views give equal pages."""
    figures, axes = sweep_figures(view), dict(sweep_axes(view))
    _, best, shown, _ = figures[0]
    below = escape(best_text(view)) if best.value is not None else escape(best.reason or "")
    boxes = "".join(measured(name, measure, minus(text), escape(why)) for name, measure, text, why in figures[1:])
    boxes = figure("Sets", f"{view.results.height:,}", escape(f"{sum(view.skipped.values()):,} left out")) + boxes
    top = top_frame(view)
    ranking = (
        frame_table(top, view.quote, {name: (name, "") for name in view.grid})
        if top.height
        else '<p class="soft">No set has a defined objective.</p>'
    )
    first = "Lowest" if view.lower_is_better else "Highest"
    order = f"{first} {escape(figure_title(view.objective))} first; equal sets in the order they ran."
    parts = [
        run_header(view, headline(f"Best {figure_title(view.objective)}", minus(shown), "", below)),
        callouts(view.check, view.check_passed, view.notices),
        f'<section class="figures whole" aria-label="Headline figures">{boxes}</section>{texts_html(view.texts)}',
        _heat_section(view, axes),
        _panels(view, axes),
        section(
            f"The best {top.height:,} sets",
            ranking,
            note=order,
        ),
        provenance_section(view),
    ]
    footer = f"Amounts in {escape(view.quote)}, times in UTC. The best of many sets looks better than it is."
    title = f"{view.title}: Candlewick {kind_title(view.kind)}"
    body = "\n".join(part for part in parts if part)
    return render_page(title, body, footer, sweep_document(view), "backtest.js", "backtest.css", "data:")


def write_sweep_report(view: SweepView, directory: Path) -> Path:
    """Write ``<run_id>.html`` and return its path. Raises CandlewickError when the folder cannot be written or is full."""
    return write_page(render_sweep_report(view), directory / report_name(view.run_id), "the run is stored all the same")
