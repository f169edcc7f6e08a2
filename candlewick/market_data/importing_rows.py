"""From a file's cells to rows with a time in milliseconds and numbers, in batches: first looked at, then read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from candlewick.market.file_names import symbol_key
from candlewick.market_data.importing_columns import Roles
from candlewick.market_data.importing_report import Note, Problem, numbered, rows_text
from candlewick.market_data.importing_schema import ImportRequest, ImportSchema
from candlewick.market_data.importing_tables import Layout, Torn, read_batches
from candlewick.market_data.importing_times import TimeReader, TimeSurvey, time_reader
from candlewick.timeframes import format_duration

_NOTHING = ("", "null", "none", "nan", "n/a", "na", "-")
_TEXTS = ("symbol", "side", "trade_id")
_HOURS_14_MS = 14 * 3_600_000


@dataclass(slots=True)
class Survey:
    """What a first look at all rows found; filled batch by batch."""

    rows: int = 0
    last_line: int = 0
    times: dict[str, TimeSurvey] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    torn: Torn = field(default_factory=Torn)

    @property
    def torn_end(self) -> tuple[int, ...]:
        """The last line, where it was cut off."""
        return tuple(line for line in self.torn.lines if line > self.last_line)


@dataclass(slots=True)
class Reading:
    """What the second look counted; filled batch by batch. ``offsets``: rows by the other time column's difference in ms."""

    offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    offset_lines: dict[str, list[int]] = field(default_factory=dict)
    strange: dict[str, list[int]] = field(default_factory=dict)
    strange_rows: dict[str, int] = field(default_factory=dict)
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class TimeChoice:
    """The column that tells the time, those it is held against, and which of two numbers is the day."""

    column: str
    others: tuple[str, ...]
    day_first: bool


def survey_rows(path: Path, layout: Layout, roles: Roles, request: ImportRequest) -> Survey:
    """Look at every row's time and symbol. Raises InvalidCandles, MarketUnavailable."""
    survey, reader = Survey(times={column: TimeSurvey() for column in roles.times}), time_reader(request)
    symbol = roles.columns.get("symbol")
    columns = (*roles.times, *filter(None, (roles.clock, symbol)))
    for batch in read_batches(path, layout, columns, survey.torn):
        survey.rows += batch.height
        survey.last_line = int(batch["line"][-1]) if batch.height else survey.last_line
        for column in roles.times:
            cells = _time_cells(batch, column, roles.clock)
            survey.times[column] = survey.times[column].with_batch(cells, batch["line"], reader)
        if symbol is not None:
            for name, rows in batch[symbol].cast(pl.String()).value_counts().iter_rows():
                survey.symbols[name or ""] = survey.symbols.get(name or "", 0) + rows
    return survey


def choose_time(roles: Roles, survey: Survey, schema: ImportSchema) -> tuple[TimeChoice, list[Problem]]:
    """Numbers outrank text, and text with a day and a month in an unknown order comes last."""

    def rank(column: str) -> tuple[bool, bool, bool]:
        found = survey.times[column]
        return 2 * found.unreadable > survey.rows, not found.numeric, bool(found.forms.get("parts")) and found.day_first is None

    ordered = sorted(roles.times, key=rank)
    chosen, found = ordered[0], survey.times[ordered[0]]
    day_first = schema.day_first if schema.day_first is not None else bool(found.day_first)
    problems = []
    if found.forms.get("parts") and schema.day_first is None and found.day_first is None:
        why = "rows of both orders are there" if found.first_day else "no row says which of two numbers is the day"
        text = f"{found.forms['parts']:,} dates in {chosen!r} may be day-first or month-first ({why}):"
        advice = "say `day_first: true` or `false`, or a time_format, in the schema"
        problems.append(Problem("ambiguous", text, advice, found.parts_lines))
    if found.unreadable:
        text = f"{chosen!r} has no time that can be read in one way in {rows_text(found.unreadable)}:"
        advice = "say time_unit (s, ms, us, ns) or time_format in the schema (%Y-%m-%d %I-%p reads 2019-10-17 09-AM)"
        problems.append(Problem("ambiguous", text, advice, found.unreadable_lines))
    return TimeChoice(chosen, tuple(ordered[1:]), day_first), problems


def judge_symbols(survey: Survey, request: ImportRequest) -> tuple[list[Note], list[Problem]]:
    """Rows of other symbols are left out where the asked one is there as well."""
    if not survey.symbols:
        return [], []
    mine = {name: rows for name, rows in survey.symbols.items() if same_symbol(name, request.symbol)}
    others = {name: rows for name, rows in survey.symbols.items() if name not in mine}
    named = ", ".join(f"{name or 'no symbol'} ({rows:,} rows)" for name, rows in list(others.items())[:5])
    if not mine:
        advice = "ask for what the file has, or import another file"
        return [], [Problem("ambiguous", f"the file is of {named}, and {request.symbol} was asked for", advice)]
    if others:
        return [Note("symbol", f"{request.symbol}, and {named}", "left out", sum(others.values()))], []
    return [Note("symbol", f"{', '.join(mine)} in every row")], []


def same_symbol(name: str, symbol: str) -> bool:
    """Whether a file's name of a symbol is the asked one; `XRP/USDT:USDT` is also called XRPUSDT."""
    return symbol_key(name) in (symbol_key(symbol), symbol_key(symbol.partition(":")[0]))


def read_rows(
    path: Path,
    layout: Layout,
    roles: Roles,
    request: ImportRequest,
    choice: TimeChoice,
    numbers: tuple[str, ...],
    reading: Reading,
) -> Iterator[pl.DataFrame]:
    """Frames of ``line``, ``ms`` (Int64), the ``numbers`` (Float64; null where a cell is empty or no number) and texts, of the
    asked symbol's rows. What is strange is counted in ``reading``. Raises InvalidCandles, MarketUnavailable."""
    reader = time_reader(request)
    for batch in read_batches(path, layout, roles.needed, Torn()):
        cells = _time_cells(batch, choice.column, roles.clock)
        moments = reader.read(cells, choice.day_first)["ms"]
        columns = [
            batch["line"],
            moments.alias("ms"),
            *(_numbers(batch, roles, name, reading, request.schema) for name in numbers),
        ]
        columns += [batch[roles.columns[name]].cast(pl.String()).alias(name) for name in _TEXTS if name in roles.columns]
        for other in choice.others:
            _compare_times(batch, other, moments, reader, reading)
        rows = pl.DataFrame(columns)
        if "symbol" in rows.columns:
            names = [name for name in rows["symbol"].unique().to_list() if name and same_symbol(name, request.symbol)]
            mine = rows.filter(pl.col("symbol").is_in(names)).drop("symbol")
            reading.left_out += rows.height - mine.height
            rows = mine
        if rows.height:
            yield rows


def judge_other_times(choice: TimeChoice, reading: Reading, rows: int) -> tuple[list[Note], list[Problem]]:
    """What the other time columns say beside the chosen one."""
    notes, problems = [], []
    for column, offsets in reading.offsets.items():
        apart = {offset: count for offset, count in offsets.items() if offset}
        shifted = sum(apart.values())
        whole = all(offset % 900_000 == 0 and abs(offset) <= _HOURS_14_MS for offset in apart)
        hours = ", ".join(f"{'-' if offset < 0 else ''}{format_duration(offset)}" for offset in sorted(apart))
        if not offsets:
            notes.append(Note("time", f"{column!r} is no time", "not used"))
        elif not shifted:
            notes.append(Note("time", f"{column!r} agrees with {choice.column!r}", "", sum(offsets.values())))
        elif len(apart) <= 2 and whole and shifted >= rows - rows // 50:
            text = f"{column!r} is {hours} off {choice.column!r}: clocks of another zone"
            notes.append(Note("time", text, "not used", shifted))
        else:
            text = f"{column!r} and {choice.column!r} tell different times in {shifted:,} of {rows:,} rows:"
            advice = "say which one is right: `columns: {opened_at: NAME}` in the schema"
            problems.append(Problem("ambiguous", text, advice, numbered(reading.offset_lines[column])))
    return notes, problems


def judge_numbers(reading: Reading) -> list[Problem]:
    """Cells that are text where a number is wanted."""
    return [
        Problem(
            "ambiguous",
            f"{column!r} holds what is no number in {rows_text(rows)}:",
            'say `decimal: ","` in the schema where a comma is the decimal point, or name another column',
            numbered(reading.strange[column]),
        )
        for column, rows in reading.strange_rows.items()
    ]


def _time_cells(batch: pl.DataFrame, column: str, clock: str | None) -> pl.Series:
    if clock is None:
        return batch[column]
    parts = (pl.col(name).str.strip_chars() for name in (column, clock))
    return batch.select(pl.concat_str(*parts, separator=" ")).to_series()


def _numbers(batch: pl.DataFrame, roles: Roles, name: str, reading: Reading, schema: ImportSchema) -> pl.Series:
    column = roles.columns[name]
    cells = batch[column]
    if cells.dtype.is_numeric() or cells.dtype == pl.Null():
        return cells.cast(pl.Float64()).alias(name)
    text = cells.cast(pl.String())
    if schema.decimal == ",":
        text = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    numbers = text.cast(pl.Float64(), strict=False)
    if numbers.null_count() > text.null_count():
        plain = text.str.strip_chars()
        numbers = plain.cast(pl.Float64(), strict=False)
        strange = numbers.is_null() & plain.is_not_null() & ~plain.str.to_lowercase().is_in(list(_NOTHING))
        if strange.any():
            reading.strange_rows[column] = reading.strange_rows.get(column, 0) + int(strange.sum())
            reading.strange.setdefault(column, []).extend(batch["line"].filter(strange).head(5).to_list())
    return numbers.alias(name)


def _compare_times(batch: pl.DataFrame, column: str, moments: pl.Series, reader: TimeReader, reading: Reading) -> None:
    """Count by how much another column's times differ; the order of day and month is the one that differs least."""
    readings = [reader.read(batch[column], day_first)["ms"] - moments for day_first in (True, False)]
    differences = min(readings, key=lambda one: int((one != 0).sum()))
    counts = reading.offsets.setdefault(column, {})
    for offset, rows in differences.drop_nulls().value_counts().iter_rows():
        if offset in counts or len(counts) < 100:
            counts[offset] = counts.get(offset, 0) + rows
    lines = reading.offset_lines.setdefault(column, [])
    lines.extend(batch["line"].filter(differences != 0).head(5 - len(lines)).to_list() if len(lines) < 5 else [])
