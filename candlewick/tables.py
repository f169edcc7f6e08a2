"""Rows for people (a table that fits the terminal, or one block a row where it does not) or for programs (JSON)."""

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from candlewick.json_text import to_json
from candlewick.timeframes import format_utc

Row = Mapping[str, object]
_WIDEST = 100_000
_NARROWEST_TEXT = 16


def print_rows(
    rows: Sequence[Row], columns: Mapping[str, str], json: bool, empty: str = "none", stream: TextIO | None = None
) -> None:
    """Print rows: with ``json`` an array of the rows in full, else the ``columns`` (key: title) as a table.

    Numbers are never cut or wrapped: where the terminal is too narrow each row becomes a block of `title  value` lines.
    ``empty`` is said where there are no rows. Times are in UTC.
    """
    out = stream or sys.stdout
    if json:
        out.write("[" + ",".join(f"\n {to_json(dict(row))}" for row in rows) + ("\n]" if rows else "]") + "\n")
        return
    if not rows:
        out.write(f"{empty}\n")
        return
    console = Console(file=out, highlight=False, emoji=False, markup=False, width=_width(out))
    table = _table(rows, columns)
    if Measurement.get(console, console.options.update(max_width=_WIDEST), table).minimum <= console.width:
        console.print(table)
    else:
        _print_blocks(console, rows, columns)


def cell_text(value: object) -> str:
    """A value as people read it: amounts in full, times in UTC to the minute, yes or no, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return format_utc(round(value.timestamp() * 1000))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={cell_text(member)}" for key, member in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(cell_text, value))
    return str(value)


def _table(rows: Sequence[Row], columns: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for key, title in columns.items():
        values = [row.get(key) for row in rows]
        if any(_is_number(value) for value in values):
            table.add_column(Text(title), justify="right", no_wrap=True, overflow="ignore")
        elif any(isinstance(value, datetime) for value in values):
            table.add_column(Text(title), no_wrap=True, overflow="ignore")
        else:
            longest = max(len(title), *(len(cell_text(value)) for value in values))
            table.add_column(Text(title), overflow="fold", min_width=min(longest, _NARROWEST_TEXT))
    for row in rows:
        table.add_row(*(Text(cell_text(row.get(key))) for key in columns))
    return table


def _print_blocks(console: Console, rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    widest = max(map(len, columns.values()))
    for position, row in enumerate(rows):
        if position:
            console.print()
        for key, title in columns.items():
            console.print(f"{title:<{widest}}  {cell_text(row.get(key))}", soft_wrap=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _width(out: TextIO) -> int | None:
    """None lets rich ask the terminal; a file or pipe has no width, so lines there are as long as they need to be."""
    return None if out.isatty() or os.environ.get("COLUMNS") else _WIDEST
