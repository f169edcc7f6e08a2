"""A user's own file, looked at and judged as a whole before anything of it is written.

It is read twice in batches; its rows wait on disk, by day, month or year, while the whole is judged, so that memory does not grow
with the file. What can be read in two ways is refused with the rows shown (AmbiguousImport).
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from candlewick.candles import PRICE_COLUMNS
from candlewick.errors import AmbiguousImport, InvalidCandles, MarketUnavailable
from candlewick.market_data.importing_bars import BarsJudged, bar_notes, bar_problems, judge_bars
from candlewick.market_data.importing_columns import Roles, assign_roles
from candlewick.market_data.importing_order import OrderSeen
from candlewick.market_data.importing_report import Note, Problem, refusal_text
from candlewick.market_data.importing_rows import (
    Reading,
    Survey,
    TimeChoice,
    choose_time,
    judge_numbers,
    judge_other_times,
    judge_symbols,
    read_rows,
    survey_rows,
)
from candlewick.market_data.importing_schema import ImportRequest
from candlewick.market_data.importing_spill import Spill
from candlewick.market_data.importing_tables import Layout, lines_at, read_layout
from candlewick.market_data.importing_times import UNITS
from candlewick.market_data.importing_trades import TradesJudged, judge_trades, trade_notes, trade_problems
from candlewick.market_data.importing_volume import VolumeSurvey, judge_volumes
from candlewick.timeframes import timeframe_ms
from candlewick.validation import Finding

_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class FileLook:
    """A file as the first look found it."""

    path: Path
    digest: str
    layout: Layout
    roles: Roles
    survey: Survey
    choice: TimeChoice


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """A file that can be believed. ``parts`` are its rows by day, month or year, in CANDLE_SCHEMA or TRADES_SCHEMA, there while
    the file is open. ``end_ms`` is the end of the last row: a candle's close, the millisecond after a trade."""

    look: FileLook
    parts: Spill
    rows: int
    kept: int
    first_ms: int
    end_ms: int
    notes: tuple[Note, ...]
    findings: tuple[Finding, ...]


@contextmanager
def open_judged(path: Path, request: ImportRequest) -> Iterator[JudgedFile]:
    """The candles or trades of a file. Raises AmbiguousImport with the rows shown, InvalidCandles where values cannot be true or
    the file is no table, MarketUnavailable where it cannot be opened."""
    look, notes, problems = _look(path, request)
    _refuse(look.path, look.layout, problems)
    with tempfile.TemporaryDirectory(prefix="candlewick-import-") as folder:
        by = "1d" if request.kind == "trades" else "1mo" if timeframe_ms(request.timeframe) < _HOUR_MS else "1y"
        spill, reading, order = Spill(Path(folder), by), Reading(), OrderSeen()
        if request.kind == "trades":
            yield _judged_trades(look, request, spill, reading, order, notes)
        else:
            yield _judged_bars(look, request, spill, reading, order, notes)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises MarketUnavailable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MarketUnavailable(f"{path} cannot be opened: {error.strerror or error}") from error


def _look(path: Path, request: ImportRequest) -> tuple[FileLook, list[Note], list[Problem]]:
    digest, layout = file_digest(path), read_layout(path, request.schema)
    roles = assign_roles(path.name, layout, request)
    survey = survey_rows(path, layout, roles, request)
    if not survey.rows:
        raise InvalidCandles(f"{path.name} has no rows")
    choice, problems = choose_time(roles, survey, request.schema)
    symbol_notes, symbol_problems = judge_symbols(survey, request)
    inner = [line for line in survey.torn.lines if line not in survey.torn_end]
    if inner:
        text = f"lines with another number of cells than the header: {len(inner):,}"
        problems.append(Problem("broken", text, "correct the file", tuple(inner[:5])))
    found = survey.times[choice.column]
    mixed = len([form for form in found.forms if form in UNITS]) > 1 or len(found.forms) > 1
    zone = f", taken as {request.schema.timezone or 'UTC'} where they name no zone" if found.unzoned else ""
    notes = [
        *_layout_notes(layout, roles, choice),
        Note("time", f"{choice.column!r}: {found.text}", f"{'each row by its own form' if mixed else 'read'}{zone}", survey.rows),
        *symbol_notes,
        *([Note("last row", "the last line is cut off", "left out", len(survey.torn_end))] if survey.torn_end else []),
    ]
    return FileLook(path, digest, layout, roles, survey, choice), notes, [*problems, *symbol_problems]


def _layout_notes(layout: Layout, roles: Roles, choice: TimeChoice) -> list[Note]:
    notes = []
    if layout.delimiter:
        named = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}.get(layout.delimiter, repr(layout.delimiter))
        header = f"the header in line {layout.first_line - 1}" if layout.header else "no header"
        notes.append(Note("layout", f"cells between {named}, {header}", "" if layout.header else "known by its columns"))
    if layout.skipped:
        notes.append(Note("layout", f"above it {layout.skipped[0]!r}", "skipped", len(layout.skipped)))
    columns = {"time": choice.column} | {name: column for name, column in roles.columns.items() if column.lower() != name}
    notes.append(Note("columns", ", ".join(f"{name} {column!r}" for name, column in columns.items())))
    return notes


def _judged_bars(
    look: FileLook, request: ImportRequest, spill: Spill, reading: Reading, order: OrderSeen, notes: list[Note]
) -> JudgedFile:
    volumes, judged = VolumeSurvey(), BarsJudged()
    names = tuple(name for name in (*PRICE_COLUMNS, "volume", "quote_volume") if name in look.roles.columns)
    for rows in read_rows(look.path, look.layout, look.roles, request, look.choice, names, reading):
        order.add(rows["ms"].to_numpy())
        if "quote_volume" in names:
            volumes = volumes.with_batch(rows)
        spill.add(rows)
    time_notes, time_problems = judge_other_times(look.choice, reading, order.rows)
    volume_notes, volume_problems = _volumes(look.roles, volumes, request)
    for key, rows in spill.parts():
        spill.replace(key, judge_bars(rows, request, volumes, judged))
    problems = [*judge_numbers(reading), *time_problems, *volume_problems, *bar_problems(judged, request)]
    _refuse(look.path, look.layout, problems)
    assert judged.first_ms is not None
    assert judged.last_ms is not None
    length_ms = timeframe_ms(request.timeframe)
    told = [*notes, *time_notes, order.note(), *volume_notes, *bar_notes(judged, request)]
    span = judged.first_ms, judged.last_ms + length_ms
    findings = [*_unit_findings(look, span), *order.findings(length_ms), *judged.findings]
    return JudgedFile(look, spill, order.rows, judged.kept, *span, tuple(told), tuple(findings))


def _judged_trades(
    look: FileLook, request: ImportRequest, spill: Spill, reading: Reading, order: OrderSeen, notes: list[Note]
) -> JudgedFile:
    for rows in read_rows(look.path, look.layout, look.roles, request, look.choice, ("price", "amount"), reading):
        order.add(rows["ms"].to_numpy())
        spill.add(rows)
    time_notes, time_problems = judge_other_times(look.choice, reading, order.rows)
    judged = TradesJudged()
    newest_first = order.newest_first if request.schema.newest_first is None else request.schema.newest_first
    for key, rows in spill.parts():
        spill.replace(key, judge_trades(rows, request, newest_first, judged))
    _refuse(look.path, look.layout, [*judge_numbers(reading), *time_problems, *trade_problems(judged, request)])
    span = judged.first_ms, judged.last_ms + 1
    told = [*notes, *time_notes, order.note(), *trade_notes(judged)]
    findings = [*_unit_findings(look, span), *order.findings(1), *judged.findings]
    return JudgedFile(look, spill, order.rows, judged.kept, *span, tuple(told), tuple(findings))


def _volumes(roles: Roles, volumes: VolumeSurvey, request: ImportRequest) -> tuple[list[Note], list[Problem]]:
    if "quote_volume" in roles.columns:
        return judge_volumes(volumes, (roles.columns["volume"], roles.columns["quote_volume"]), request.schema)
    if request.schema.volume == "quote":
        return [Note("volume", f"{roles.columns['volume']!r} in quote currency (said)", "divided by the bar's mean price")], []
    return [Note("volume", f"{roles.columns['volume']!r}, taken as base currency: there is no other to check it by")], []


def _unit_findings(look: FileLook, span: tuple[int, int]) -> list[Finding]:
    found = look.survey.times[look.choice.column]
    if len([form for form in found.forms if form in UNITS]) < 2:
        return []
    text = f"the imported file tells times in several units: {found.text}; each read as it is"
    return [Finding("mixed_units", "info", *span, text)]


def _refuse(path: Path, layout: Layout, problems: Iterable[Problem]) -> None:
    """Raises AmbiguousImport or InvalidCandles with every problem and its rows; nothing where there is none."""
    told = tuple(problems)
    if told:
        shown = lines_at(path, layout, (line for problem in told for line in problem.lines))
        text = refusal_text(path.name, told, shown)
        raise (AmbiguousImport if any(one.kind == "ambiguous" for one in told) else InvalidCandles)(text)
