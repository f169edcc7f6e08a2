"""What a look-ahead check found: for the terminal, and for Prefect's artifact. Nothing here depends on colour."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from candlewick.check_report import KINDS, CheckFinding, CheckReport, SymbolCheck
from candlewick.reports.numbers import format_count, format_time
from candlewick.reports.summary import heading, indented, markdown_cell
from candlewick.tables import cell_text

_COLUMNS = ("Symbol", "Bars", "From", "To", "Cuts", "Changed", "Actions cut", "Warm-up", "Measured")
_SPAN = ("From", "To")
_MOST_SHOWN = 10


def check_sentence(report: CheckReport) -> str:
    """The verdict in one sentence, with what was compared or what was found first."""
    named = f"{report.strategy} ({cell_text(report.parameters)})" if report.parameters else report.strategy
    found = report.first_failure
    if found is not None:
        return f"{named} failed its look-ahead check: {found.text}."
    bars = format_count(report.bars, "bar")
    return f"{named} passed its look-ahead check: over {bars} no decision changed in any of {report.cuts:,} other histories."


def check_rows(report: CheckReport) -> list[dict[str, object]]:
    """The findings as rows of a table, failures first."""
    return [
        {
            "kind": finding.kind.replace("_", " "),
            "symbol": finding.symbol,
            "bar": finding.bar,
            "column": finding.column,
            "full": finding.full,
            "truncated": finding.truncated,
            "cut": finding.cut,
            "text": finding.text,
        }
        for finding in report.findings
    ]


def render_check(report: CheckReport) -> RenderableType:
    """The check for the terminal; readable at 80 columns and without colour."""
    blocks: list[RenderableType] = [Text(f"{report.verdict.upper()}  look-ahead check: {report.strategy}", style="bold")]
    blocks += [indented(check_sentence(report)), heading("What was compared"), _symbols_grid(report)]
    for title, findings in _grouped(report):
        blocks.append(heading(title))
        for finding in findings[:_MOST_SHOWN]:
            blocks += [indented(f"- {finding.text}"), indented(_place(finding), 4, "dim")]
        if len(findings) > _MOST_SHOWN:
            blocks.append(indented(f"... and {len(findings) - _MOST_SHOWN:,} more"))
    return Group(*blocks)


def check_markdown(report: CheckReport) -> str:
    """The check as a Markdown artifact."""
    lines = [f"## {report.verdict.capitalize()}: look-ahead check of {markdown_cell(report.strategy)}", ""]
    lines += [markdown_cell(check_sentence(report)), "", f"| {' | '.join(_COLUMNS)} |", f"|---|{'--:|' * (len(_COLUMNS) - 1)}"]
    lines += [f"| {' | '.join(markdown_cell(cell) for cell in _cells(one))} |" for one in report.symbols]
    for title, findings in _grouped(report):
        lines += ["", f"### {title}", ""]
        lines += [f"- {markdown_cell(finding.text)} — {markdown_cell(_place(finding))}" for finding in findings[:_MOST_SHOWN]]
        if len(findings) > _MOST_SHOWN:
            lines.append(f"- ... and {len(findings) - _MOST_SHOWN:,} more")
    return "\n".join(lines) + "\n"


def _grouped(report: CheckReport) -> list[tuple[str, list[CheckFinding]]]:
    failures = [finding for finding in report.findings if finding.fails]
    warnings = [finding for finding in report.findings if not finding.fails]
    return [(title, found) for title, found in (("Failures", failures), ("Warnings", warnings)) if found]


def _place(finding: CheckFinding) -> str:
    """What kind of finding it is, and where."""
    place = [f"column {finding.column}"] if finding.column else []
    place += [f"bar {format_time(finding.bar)} UTC"] if finding.bar else []
    place += [f"history cut after {format_time(finding.cut)} UTC"] if finding.cut else []
    where = ", ".join(place)
    return f"{KINDS[finding.kind]} {where[:1].upper()}{where[1:]}".strip()


def _cells(one: SymbolCheck) -> tuple[str, ...]:
    span = (f"{one.first_at:%Y-%m-%d}", f"{one.last_at:%Y-%m-%d}")
    counts = (f"{one.cuts:,}", f"{one.changed_cuts:,}", f"{one.acting_checked:,}/{one.acting:,}", f"{one.warmup_declared:,}")
    return (one.symbol, f"{one.bars:,}", *span, *counts, one.warmup_text)


def _symbols_grid(report: CheckReport) -> RenderableType:
    """One symbol a row, without its span so that no figure wraps; where only one was checked, one figure a line."""
    if len(report.symbols) == 1:
        grid = Table.grid(padding=(0, 2, 0, 0))
        for title, cell in zip(_COLUMNS, _cells(report.symbols[0]), strict=True):
            grid.add_row(Text(title, style="dim"), Text(cell))
        return Padding(grid, (0, 0, 0, 2))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    shown = [number for number, title in enumerate(_COLUMNS) if title not in _SPAN]
    for number in shown:
        first_or_last = number in (0, len(_COLUMNS) - 1)
        table.add_column(_COLUMNS[number], justify="left" if number == 0 else "right", no_wrap=not first_or_last, overflow="fold")
    for one in report.symbols:
        cells = _cells(one)
        table.add_row(*(Text(cells[number]) for number in shown))
    return Padding(table, (0, 0, 0, 2))
