"""What an import found in a file and what it did about it, and what it refuses to guess."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from candlewick.market_data.kinds import DataSeries
from candlewick.timeframes import format_utc
from candlewick.validation import Finding

ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that was ``found``, in how many rows (None: it is not about rows), and what was ``done`` about it."""

    topic: str
    found: str
    done: str = ""
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps a file out. ``lines``: numbers of rows that show it. ``advice``: what settles it.

    `ambiguous`: it can be read in two ways. `broken`: the values cannot be true.
    """

    kind: Literal["ambiguous", "broken"]
    text: str
    advice: str
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """One file. ``first_ms`` and ``end_ms``: from the first row's time to the last one's end, milliseconds UTC.

    ``rows`` were read, ``kept`` are good, ``added`` are new in the lake (0 with ``dry_run``).
    """

    file: str
    digest: str
    series: DataSeries
    source: str
    dry_run: bool
    rows: int
    kept: int
    added: int
    first_ms: int
    end_ms: int
    notes: tuple[Note, ...]
    findings: tuple[Finding, ...] = ()
    made: Mapping[str, int] = field(default_factory=dict)
    """Candles made of trades, by timeframe."""

    @property
    def span_text(self) -> str:
        """First and last moment as text."""
        return f"{format_utc(self.first_ms)} to {format_utc(self.end_ms)}"


def rows_text(rows: int) -> str:
    """Rows as text.

    >>> rows_text(1), rows_text(1442)
    ('1 row', '1,442 rows')
    """
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def numbered(lines: Iterable[int]) -> tuple[int, ...]:
    """The first few line numbers, in order."""
    return tuple(sorted(lines)[:ROWS_SHOWN])


def refusal_text(file: str, problems: Iterable[Problem], shown: Mapping[int, str]) -> str:
    """Every problem of a file with its rows as they stand there. ``shown``: the rows' text by line number."""
    parts = [f"{file} is not imported and nothing was written:"]
    for problem in problems:
        parts.append(f"- {problem.text}")
        parts += [f"    line {line:,}: {shown[line]}" for line in problem.lines if line in shown]
        parts.append(f"  {problem.advice}")
    return "\n".join(parts)
