"""Where two answers of a strategy differ: the first bar and column, and the bar from which on they agree."""

from dataclasses import dataclass

import polars as pl

from candlewick.check_report import Cell
from candlewick.strategies.contract import HOLD, SIGNAL_SCHEMA

SAME_SHARE = 1e-9
"""Numbers whose relative difference is no larger are equal but for rounding."""

_NUMBERS = tuple(name for name, kind in SIGNAL_SCHEMA.items() if kind == pl.Float64())
_COUNTS = tuple(name for name, kind in SIGNAL_SCHEMA.items() if kind == pl.Int64())


@dataclass(frozen=True, slots=True)
class Difference:
    """The first row in which two frames of signals differ, the first such column there, and both values.

    ``is_rounding``: nothing differs anywhere but numbers, by at most ``SAME_SHARE``.
    """

    row: int
    column: str
    full: Cell
    other: Cell
    is_rounding: bool


def first_difference(full: pl.DataFrame, other: pl.DataFrame) -> Difference | None:
    """Compare two frames in SIGNAL_SCHEMA of equal height, bit for bit; None where they are equal."""
    if full.equals(other):
        return None
    rows = {name: _first_row(full[name].ne_missing(other[name])) for name in SIGNAL_SCHEMA}
    differing = {name: row for name, row in rows.items() if row is not None}
    if not differing:
        return None
    column = min(differing, key=lambda name: differing[name])
    row = differing[column]
    rounding = all(name in _NUMBERS and not _apart(full[name], other[name]).any() for name in differing)
    return Difference(row, column, full[column][row], other[column][row], rounding)


def agree_from(full: pl.DataFrame, late: pl.DataFrame) -> int:
    """The row from which on two answers over the same bars agree; the height where they never do.

    They agree where the action is the same and, where that acts, every number up to ``SAME_SHARE`` and every count of bars.
    Reasons are texts with rounded numbers and are left out.
    """
    acts = full["action"] != HOLD
    apart = pl.Series("apart", full["action"] != late["action"])
    for name in _NUMBERS:
        apart |= acts & _apart(full[name], late[name])
    for name in (*_COUNTS, "entry_type"):
        apart |= acts & full[name].ne_missing(late[name])
    last = apart.arg_true()
    return int(last[-1]) + 1 if last.len() else 0


def _apart(left: pl.Series, right: pl.Series) -> pl.Series:
    """Where two numbers are not the same up to ``SAME_SHARE``, or one of them is missing."""
    frame = pl.DataFrame({"left": left, "right": right})
    missing = pl.col("left").is_null() != pl.col("right").is_null()
    largest = pl.max_horizontal(pl.col("left").abs(), pl.col("right").abs())
    wide = (pl.col("left") - pl.col("right")).abs() > SAME_SHARE * largest
    return frame.select(missing | wide.fill_null(False)).to_series()


def _first_row(mask: pl.Series) -> int | None:
    return mask.arg_max() if mask.any() else None
