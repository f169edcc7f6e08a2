"""An account's statement for the terminal; readable at 80 columns and without colour."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from candlewick.reports.numbers import format_count, format_money, format_time
from candlewick.reports.statement import AccountStatement, RunLine
from candlewick.reports.summary import (
    figures_table,
    fill_text,
    heading,
    indented,
    margin_block,
    order_text,
    positions_table,
    stories,
)
from candlewick.tables import cell_text


def render_statement(statement: AccountStatement) -> RenderableType:
    """Figures, positions, orders that wait, last fills, refusals, terms, last runs, and where the report is."""
    quote = statement.quote
    positions = positions_table(statement) if statement.positions else indented("none")
    waiting = [(order_text(row, quote), row.reason) for row in statement.waiting_orders]
    fills = [(fill_text(row, quote), row.reason) for row in reversed(statement.last_fills)]
    refusals = [(order_text(row, quote), row.reason) for row in reversed(statement.last_refusals)]
    return Group(
        Text(f"Account {statement.account}: {statement.strategy} on {statement.market} {statement.timeframe}", style="bold"),
        indented(_since(statement)),
        figures_table(statement),
        *margin_block(statement),
        heading(f"Open positions ({len(statement.positions)})"),
        positions,
        *_block(f"Waiting orders ({len(waiting)})", waiting),
        *_block("Last fills, newest first (times UTC)", fills),
        *_block(f"Refused orders ({statement.refused:,}), newest first", refusals),
        *_terms(statement),
        heading(f"Last runs ({statement.runs:,} in all), newest first"),
        *(indented(_run_text(run)) for run in reversed(statement.last_runs)),
        heading("Report"),
        indented(statement.report or "none yet; the next cycle writes it"),
    )


def _since(statement: AccountStatement) -> str:
    opened = (
        f"{format_time(statement.anchor_at)} UTC with {format_money(statement.initial_cash, statement.quote)} {statement.quote}"
    )
    if statement.watermark_at is None:
        return f"Starts at {opened}; no bar has been processed yet."
    return f"Started at {opened}; the watermark is {format_time(statement.watermark_at)} UTC."


def _block(title: str, rows: list[tuple[str, str]]) -> list[RenderableType]:
    return [heading(title), *(stories(rows) if rows else [indented("none")])]


def _terms(statement: AccountStatement) -> list[RenderableType]:
    lines = [f"{statement.strategy}: {_listed(statement.parameters)}", f"rules: {_listed(statement.rules)}"]
    for instrument in statement.instruments:
        told = {name: value for name, value in instrument.items() if name not in ("symbol", "base", "quote")}
        lines.append(f"{instrument['symbol']}: {_listed(told)}")
    return [heading("Terms"), *map(indented, lines)]


def _listed(values: Mapping[str, str | int | float | bool | None]) -> str:
    return (
        ", ".join(f"{name}={'off' if value is None else cell_text(value)}" for name, value in values.items()) or "no parameters"
    )


def _run_text(run: RunLine) -> str:
    moved = f"{format_count(run.bars, 'bar')} to {format_time(run.watermark_at)}" if run.watermark_at else "no bar"
    said = "; ".join(part for part in (run.error, *run.notices) if part)
    return f"{format_time(run.started_at)}  {run.status}  {moved}  {run.run_id}" + (f": {said}" if said else "")
