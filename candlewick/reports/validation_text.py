"""What a validation found: for the terminal, and for Prefect's artifacts. Nothing here depends on colour."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from candlewick.quality.comparison import BarRun, SourceComparison
from candlewick.quality.disagreements import disagreement_text
from candlewick.reports.numbers import MISSING, format_count
from candlewick.reports.summary import heading, indented, markdown_cell
from candlewick.reports.validation_view import InspectedSeries, ValidationView
from candlewick.timeframes import format_utc

INSPECTED_COLUMNS = {
    "series": "Series", "verdict": "Verdict", "kind": "Kind", "severity": "Severity", "state": "State", "findings": "Findings",
    "from": "From", "to": "To",
}  # fmt: skip
MOST_SHOWN = 5
MAX_ARTIFACT_ROWS = 100
Pairs = Sequence[tuple[str, str]]


def validation_figures(found: SourceComparison) -> list[tuple[str, str]]:
    """The comparison's figures as names and ready texts."""
    difference, volume, ranges, lag = found.difference, found.volume, found.ranges, found.lag
    rows = [
        ("common span", f"{found.span} UTC" if found.span else "none: the sources do not meet in time"),
        ("common bars", f"{found.common_bars:,}, {found.identical_bars:,} of them identical"),
        (f"missing at {found.ours.name}", _holes_text(found.only_other)),
        (f"missing at {found.other.name}", _holes_text(found.only_ours)),
    ]
    if difference is not None:
        largest = f"{difference.max_bps:,.1f} bps at {format_utc(difference.max_at_ms)}"
        spread = f"median {difference.median_bps:,.1f}, mean {difference.mean_bps:,.1f}"
        rows += [
            ("difference of closes", f"{spread}, 95 % {difference.p95_bps:,.1f}, 99 % {difference.p99_bps:,.1f} bps"),
            ("largest", largest),
            ("bias", f"{difference.bias_bps:+,.1f} bps"),
        ]
    rows.append(("disagreements", f"{len(found.disagreements):,}, {found.disagreeing_bars:,} bars about a price"))
    if volume is not None:
        ratio = MISSING if volume.median is None else f"{volume.median:.4g}"
        rows.append(("volume ratio", f"{ratio}; zero {volume.ours_zero_share:.2%} and {volume.other_zero_share:.2%}"))
    if ranges is not None:
        meeting = f"{ranges.overlap_share:.1%} of ranges meet, {ranges.overlap_at_level_share:.1%} level aside"
        rows.append(("close inside", f"{ranges.close_inside_share:.1%} of bars; {meeting}"))
    if lag is not None:
        shift = "none" if lag.best_bars == 0 else f"{lag.best_bars:+d} bars"
        rows.append(("shift in time", f"{shift}; correlation of returns {lag.best:.3f}"))
    return rows


def _holes_text(runs: Sequence[BarRun]) -> str:
    if not runs:
        return "no bar"
    longest = max(runs, key=lambda run: run.bars)
    times = f"{format_utc(longest.since_ms)} to {format_utc(longest.until_ms)}"
    total = format_count(sum(run.bars for run in runs), "bar")
    return f"{total} in {format_count(len(runs), 'run')}, the longest {longest.bars:,} from {times}"


def render_validation(view: ValidationView, report: Path | None) -> RenderableType:
    """The validation for the terminal; readable at 80 columns and without colour."""
    found = view.comparison
    blocks: list[RenderableType] = [
        Text(f"{view.judgement.verdict.upper()}  {view.title}", style="bold"),
        indented(view.sentence),
    ]
    blocks += [indented(f"Note: {notice}") for notice in view.all_notices]
    blocks += [heading("Figures"), _grid(validation_figures(found))]
    blocks += [heading("Criteria"), _criteria_grid(view)]
    worst = sorted(found.disagreements, key=lambda one: -abs(one.difference_bps))
    if worst:
        blocks.append(heading("Largest disagreements"))
        blocks += [indented(f"- {disagreement_text(one, found.other.label)}") for one in worst[:MOST_SHOWN]]
        if len(worst) > MOST_SHOWN:
            blocks.append(indented(f"... and {len(worst) - MOST_SHOWN:,} more"))
    if view.found_text:
        blocks += [heading("Kept in the quality table"), indented(view.found_text)]
    if report is not None:
        blocks += [heading("Report"), indented(str(report))]
    return Group(*blocks)


def _grid(rows: Pairs) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), Text(value))
    return Padding(grid, (0, 0, 0, 2))


def _criteria_grid(view: ValidationView) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for one in view.judgement.criteria:
        grid.add_row(
            Text("met" if one.is_met else "NOT MET"), Text(one.name, style="dim"), Text(one.value), Text(one.limit, style="dim")
        )
    return Padding(grid, (0, 0, 0, 2))


def validation_markdown(view: ValidationView, report: Path | None) -> str:
    """The validation as a Markdown artifact."""
    found = view.comparison
    lines = [f"## {view.judgement.verdict.capitalize()}: {markdown_cell(view.title)}", "", markdown_cell(view.sentence), ""]
    lines += [f"- {markdown_cell(notice)}" for notice in view.all_notices]
    lines += [
        "",
        "| Figure | Value |",
        "|---|---|",
        *(f"| {markdown_cell(name)} | {markdown_cell(text)} |" for name, text in validation_figures(found)),
    ]
    lines += ["", "### Criteria", "", "| Criterion | Value | Limit | |", "|---|--:|---|---|"]
    for one in view.judgement.criteria:
        cells = (one.name, one.value, one.limit, "met" if one.is_met else "**not met**")
        lines.append(f"| {' | '.join(markdown_cell(cell) for cell in cells)} |")
    if view.found_text:
        lines += ["", f"Kept in the quality table: {view.found_text}"]
    if report is not None:
        lines += ["", f"Report: `{report}`"]
    return "\n".join(lines) + "\n"


def disagreement_rows(view: ValidationView) -> list[dict[str, str]]:
    """The largest disagreements and longest holes as rows of Prefect's table artifact, in order of time."""
    found, empty = view.comparison, dict.fromkeys(("price", "here", "there", "bps"), "")
    rows: list[tuple[int, dict[str, str]]] = []
    for one in sorted(found.disagreements, key=lambda one: -abs(one.difference_bps))[:MAX_ARTIFACT_ROWS]:
        values = {"here": f"{one.ours:.10g}", "there": f"{one.other:.10g}", "bps": f"{one.difference_bps:+,.1f}"}
        row = _row(one.since_ms, one.until_ms, one.bars, one.cause.replace("_", " "))
        rows.append((one.since_ms, {**row, "price": one.column, **values}))
    for source, lacking in ((found.ours, found.only_other), (found.other, found.only_ours)):
        longest = sorted(lacking, key=lambda run: -run.bars)[:MAX_ARTIFACT_ROWS]
        rows += [
            (run.since_ms, {**_row(run.since_ms, run.until_ms, run.bars, f"missing at {source.label}"), **empty})
            for run in longest
        ]
    return [row for _, row in sorted(rows, key=lambda one: one[0])]


def _row(since_ms: int, until_ms: int, bars: int, kind: str) -> dict[str, str]:
    return {"from": format_utc(since_ms), "to": format_utc(until_ms), "bars": f"{bars:,}", "kind": kind}


def inspection_sentence(series: Sequence[InspectedSeries]) -> str:
    """How many series were looked over, and what came out."""
    counts = {verdict: sum(one.verdict == verdict for one in series) for verdict in ("clean", "warnings", "errors")}
    found = sum(one.count for one in series)
    said = f"{counts['clean']:,} clean, {counts['warnings']:,} with warnings, {counts['errors']:,} with errors"
    return f"{len(series):,} series looked over: {said}; {format_count(found, 'finding')}."


def inspected_rows(series: Sequence[InspectedSeries]) -> list[dict[str, str | int | None]]:
    """A row a series and kind of finding; a clean series has one row, too."""
    rows: list[dict[str, str | int | None]] = []
    for one in series:
        named: dict[str, str | int | None] = {"series": str(one.series), "verdict": one.verdict}
        for kind in one.kinds:
            span = {"from": format_utc(kind.since_ms), "to": format_utc(kind.until_ms)}
            rows.append(
                {**named, "kind": kind.kind, "severity": kind.severity, "state": kind.state, "findings": kind.count, **span}
            )
        if not one.kinds:
            rows.append({**named, **dict.fromkeys(("kind", "severity", "state")), "findings": 0, "from": None, "to": None})
    return rows
