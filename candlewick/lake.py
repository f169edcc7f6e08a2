"""The lake: what markets answered, and what of it passed the checks, in Parquet, readable by anything that reads Parquet.

    <url>/lake.json                                                                      version of this layout
    <url>/bronze/exchange=binance/symbol=BTC-USDT/timeframe=1h/<since>-<until>-<digest>.parquet     answers (bronze.py)
    <url>/silver/exchange=binance/symbol=BTC-USDT/timeframe=1h/2026-01.parquet                      candles
    <url>/silver/exchange=binance/symbol=BTC-USDT/kind=trades/2026-01-31.parquet                    other kinds

One file per month; per year (`2026.parquet`) for timeframes of a day and longer, per day for trades (partitions.py). Columns
are those of the kind's schema plus ``source`` (who said so) and ``fetched_at``, which is null where the answers, with the
times they came at, are in bronze: a download that was interrupted and one that was not end in the same bytes.

Beside the files: ``.coverage``, the times that were asked for and answered, written after the rows it speaks of;
``.fingerprint``, what a source that changes as a whole was.

The lake is in a local folder (storage/local.py) or in an object store (storage/s3.py); what is said here holds for both.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import polars as pl

from candlewick import bronze
from candlewick.candles import CANDLE_SCHEMA, FormingBar, RawPage, Series, empty_candles
from candlewick.errors import LakeDamaged, LakeError, LakeTooNew
from candlewick.footers import SeriesOverview, overview_of
from candlewick.lake_keys import AnySeries, as_data_series, folder_key, series_of, table_of
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.kinds import DataSeries
from candlewick.partitions import (
    KEPT_COLUMNS,
    AppendReport,
    Table,
    add_rows,
    amend_rows,
    check_offered,
    damaged_partitions,
    partition_span,
    read_rows,
    replace_rows,
    row_span,
)
from candlewick.storage.contract import Held, Storage
from candlewick.storage.local import LocalStorage
from candlewick.timeframes import timeframe_ms

LAKE_SCHEMA = {**CANDLE_SCHEMA, **KEPT_COLUMNS}
LAKE_VERSION = 1

Result = TypeVar("Result")
_VERSION_FILE = "lake.json"
_FORMING = ".forming"
_FINGERPRINT = ".fingerprint"
_COVERAGE = ".coverage"
_NOTE = ".note"
_DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True)
class _Put:
    """Rows on their way into a series, and the span they answer for, if any."""

    rows: pl.DataFrame
    span: Span | None
    source: str
    fetched_at: datetime | None


class Lake:
    """The lake in a ``storage``; a text is a folder's path or a `file:` URL, which the first write makes.

    ``scratch`` is a folder of this machine for what can be computed again (signals, sweeps); of a local lake its own folder.
    Opened from settings by ``candlewick.lake_opening.open_lake``.
    """

    def __init__(self, storage: Storage | str, scratch: Path | None = None) -> None:
        self.storage: Storage = LocalStorage(storage) if isinstance(storage, str) else storage
        self.scratch = Path(self.storage.url) if scratch is None else scratch
        self._checked = False

    @property
    def url(self) -> str:
        """Where the lake is, for people and keys; no credentials."""
        return self.storage.url

    def append(self, series: Series, candles: pl.DataFrame, source: str, fetched_at: datetime | None) -> AppendReport:
        """Add the bars that are new. A bar that is there already stays as it is: with other content it is reported.

        ``candles`` in CANDLE_SCHEMA, validated. Doing it twice changes nothing. Raises LakeError.
        """
        return self._put(series, _Put(candles, None, source, fetched_at))

    def put_chunk(
        self, series: Series, candles: pl.DataFrame, span: Span, source: str, fetched_at: datetime | None
    ) -> AppendReport:
        """``append``, and the span is covered then: written last, so that after a kill in between it is asked for again."""
        return self._put(series, _Put(candles, span, source, fetched_at))

    def append_rows(
        self, series: DataSeries, rows: pl.DataFrame, span: Span | None, source: str, fetched_at: datetime | None
    ) -> AppendReport:
        """As ``put_chunk``, for any kind, in the kind's schema; ``span`` None covers nothing."""
        return self._put(series, _Put(rows, span, source, fetched_at))

    def replace(self, series: Series, candles: pl.DataFrame, source: str, fetched_at: datetime | None) -> None:
        """Make ``candles`` all there is of the series (a user changed the file it came from). Files that agree stay untouched.

        The fingerprint is taken away first: after a crash in the middle it is missing, and the caller replaces again. A reader
        of a local lake sees all of it or nothing; of an object store, some files as before and some as after. Raises LakeError.
        """
        table = table_of(series)
        wanted = check_offered(candles, table)

        def replace_all(held: Held) -> None:
            held.remove(_FINGERPRINT)
            held.remove(_COVERAGE)
            replace_rows(held, wanted, table, source, fetched_at)

        self.write_in(folder_key(series), replace_all)

    def amend(self, series: Series, candles: pl.DataFrame, source: str, fetched_at: datetime | None) -> pl.DataFrame:
        """Repair: these bars take the place of bars of the same open time; others are added. What agrees stays untouched.

        Answers the bars that changed as they were before, in CANDLE_SCHEMA. After a kill in the middle a second call answers
        only what the first did not come to: note what is to change before. Raises LakeError.
        """
        table = table_of(series)
        offered, runs = check_offered(candles, table), [empty_candles()]

        def change(held: Held) -> None:
            _note_old_coverage(held, series)
            amend_rows(held, offered, table, source, fetched_at, runs)

        self.write_in(folder_key(series), change)
        return pl.concat(runs).unique("opened_at", keep="last").sort("opened_at")

    def read(self, series: Series, since_ms: int | None = None, until_ms: int | None = None) -> pl.DataFrame:
        """Bars with ``since_ms <= opened_at < until_ms`` in CANDLE_SCHEMA, sorted; no rows where there are none.

        Raises LakeError (LakeDamaged where a file cannot be read).
        """
        return self.read_rows(DataSeries.of_candles(series), since_ms, until_ms)

    def read_rows(self, series: DataSeries, since_ms: int | None = None, until_ms: int | None = None) -> pl.DataFrame:
        """As ``read``, of any kind, by the kind's time, in the kind's schema."""
        table = table_of(series)
        return self.read_in(folder_key(series), lambda held: read_rows(held, table, since_ms, until_ms))

    def span(self, series: AnySeries) -> tuple[int, int] | None:
        """Times of the first and the last row in milliseconds UTC, from two files at most; None where there is none."""
        table = table_of(series)
        return self.read_in(folder_key(series), lambda held: row_span(held, table))

    def overview(self, series: AnySeries) -> SeriesOverview:
        """How much there is of a series, from the ends of its files. Raises LakeDamaged."""
        table = table_of(series)
        return self.read_in(folder_key(series), lambda held: overview_of(held, table))

    def all_series(self) -> tuple[Series, ...]:
        """Series of candles that the lake has rows of, by market, symbol and timeframe. Raises LakeError."""
        return tuple(series.candles for series in self.all_data_series() if series.kind == "ohlcv")

    def all_data_series(self) -> tuple[DataSeries, ...]:
        """Series of every kind, candles too, that the lake has rows of. Raises LakeError."""
        self._check_version()
        found = (series_of(folder) for folder in self.storage.folders("silver"))
        order = {
            series: (series.market, series.symbol, series.kind, _length_ms(series)) for series in found if series is not None
        }
        return tuple(sorted(order, key=order.__getitem__))

    def coverage(self, series: AnySeries) -> Coverage:
        """Which times of the series were asked for and answered. Raises LakeError.

        Of a lake that kept no coverage yet: from the first time asked for (or the first row, of a copied file) to the last row.
        """
        return self.read_in(folder_key(series), lambda held: _coverage(held, series))

    def cover(self, series: AnySeries, span: Span) -> None:
        """Remember that a span was asked for and answered. Raises LakeError."""
        self.write_in(folder_key(series), lambda held: _set_coverage(held, _coverage(held, series).with_span(span)))

    def uncover(self, series: AnySeries, span: Span) -> None:
        """Forget that a span was answered: it is to be asked for again. The rows stay. Raises LakeError."""
        self.write_in(folder_key(series), lambda held: _set_coverage(held, _coverage(held, series).without(span)))

    def set_aside(self, series: AnySeries) -> tuple[str, ...]:
        """Rename files that cannot be read to `<name>.damaged`, and forget their spans first. The names. Raises LakeError."""
        return self.write_in(folder_key(series), lambda held: _set_aside(held, series))

    def put_pages(self, series: AnySeries, span: Span, pages: Sequence[RawPage]) -> None:
        """Keep answers as they came, in one file named by span and bodies: the same ones again are the same file."""
        if pages:
            self.write_in(folder_key(series, "bronze"), lambda held: bronze.put_pages(held, span, pages))

    def pages(self, series: AnySeries) -> pl.DataFrame:
        """All answers that were kept of a series, in PAGE_SCHEMA (bronze.py), the oldest first. Raises LakeDamaged."""
        return self.read_in(folder_key(series, "bronze"), bronze.read_pages)

    def fingerprint(self, series: Series) -> str | None:
        """What ``set_fingerprint`` said last; None where nothing was said, or ``replace`` did not come to its end."""
        return self.read_in(folder_key(series), lambda held: _text(held, _FINGERPRINT))

    def set_fingerprint(self, series: Series, fingerprint: str) -> None:
        """Remember, beside the series, what its content was made of. Raises LakeError."""
        self.write_in(folder_key(series), lambda held: held.write(_FINGERPRINT, fingerprint.encode()))

    def forming(self, series: Series) -> FormingBar | None:
        """The forming bar that ``set_forming`` said last; None where nothing was said."""
        words = (self.read_in(folder_key(series), lambda held: _text(held, _FORMING)) or "").split()
        # Not synced to disk when written: after a power failure it may be empty, and then it is asked for again.
        return FormingBar(int(words[0]), float(words[1])) if len(words) == 2 else None

    def set_forming(self, series: Series, bar: FormingBar) -> None:
        """Remember the open of the bar that is forming: it does not change, so nobody asks again. Raises LakeError."""
        text = f"{bar.opened_at_ms} {bar.open!r}".encode()
        self.write_in(folder_key(series), lambda held: held.write(_FORMING, text, durable=False))

    def put_note(self, series: AnySeries, content: str) -> None:
        """Keep a small text beside the series until ``drop_notes``; the same text twice is one note. Raises LakeError."""
        name = f"{hashlib.sha256(content.encode()).hexdigest()[:32]}{_NOTE}"
        self.write_in(folder_key(series), lambda held: held.write(name, content.encode()))

    def notes(self, series: AnySeries) -> dict[str, str]:
        """The notes beside the series, by name. Raises LakeError."""
        return self.read_in(
            folder_key(series), lambda held: {name: _text(held, name) or "" for name in held.names() if name.endswith(_NOTE)}
        )

    def drop_notes(self, series: AnySeries, names: Iterable[str]) -> None:
        """Forget notes; those that are gone already are no error. Raises LakeError."""
        gone = list(names)

        def drop(held: Held) -> None:
            for name in gone:
                held.remove(name)

        self.write_in(folder_key(series), drop)

    def folder(self, series: AnySeries) -> Path:
        """Where the series' files are in a lake of this machine; it need not exist."""
        assert isinstance(self.storage, LocalStorage), f"{self.url} has no folder on this machine"
        return self.storage.root / folder_key(series)

    def write_in(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run an operation that writes in a folder of the lake. Raises LakeError (LakeTooNew before anything is written)."""
        if not self._check_version():
            self.storage.writing("", _write_version)
            self._checked = True
        return self.storage.writing(folder, operation)

    def read_in(self, folder: str, operation: Callable[[Held], Result]) -> Result:
        """Run an operation that reads in a folder of the lake. Raises LakeError."""
        self._check_version()
        return self.storage.reading(folder, operation)

    def _check_version(self) -> bool:
        """Whether the lake says its version; read once. Raises LakeTooNew."""
        if not self._checked:
            self._checked = self.storage.reading("", _says_version)
        return self._checked

    def _put(self, series: AnySeries, put: _Put) -> AppendReport:
        table, reports = table_of(series), list[AppendReport]()
        offered = check_offered(put.rows, table)

        def add(held: Held) -> None:
            _note_old_coverage(held, series)
            reports.append(add_rows(held, offered, table, put.source, put.fetched_at))
            if put.span is not None:
                _set_coverage(held, _coverage(held, series).with_span(put.span))

        if not offered.is_empty() or put.span is not None:
            self.write_in(folder_key(series), add)
        return _summed(reports, table)


def compact_pages(lake: Lake, series: AnySeries) -> int:
    """Make one file a month of a series' answers when they lie in many small files; how many files went. Raises LakeError."""
    folder = folder_key(series, "bronze")
    if not lake.read_in(folder, bronze.are_many):
        return 0
    return lake.write_in(folder, bronze.compact)


def _summed(reports: Sequence[AppendReport], table: Table) -> AppendReport:
    """One report of an operation that ran more than once: what an earlier run added is no old row to a later one."""
    if not reports:
        return AppendReport(0, 0, pl.DataFrame(schema=dict(table.conflict_schema)))
    before = sum(report.added for report in reports[:-1])
    last = reports[-1]
    return AppendReport(before + last.added, last.unchanged - before, last.conflicting)


def _length_ms(series: DataSeries) -> int:
    return timeframe_ms(series.timeframe) if series.timeframe else 0


def _text(held: Held, name: str) -> str | None:
    content = held.read(name)
    return None if content is None else content.decode()


def _says_version(held: Held) -> bool:
    content = held.read(_VERSION_FILE)
    if content is None:
        return False
    where = f"{held.address}/{_VERSION_FILE}"
    try:
        version = int(json.loads(content)["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise LakeDamaged(f"{where} is damaged ({error}): it must say {json.dumps({'version': LAKE_VERSION})}") from error
    if version > LAKE_VERSION:
        raise LakeTooNew(f"{where} says version {version}; this Candlewick knows lakes up to version {LAKE_VERSION}: update it")
    return True


def _write_version(held: Held) -> None:
    if not _says_version(held):
        held.write(_VERSION_FILE, json.dumps({"version": LAKE_VERSION}).encode())


def _coverage(held: Held, series: AnySeries) -> Coverage:
    text = _text(held, _COVERAGE)
    if text is not None:
        return Coverage.from_text(text, f"{held.address}/{_COVERAGE}")
    told = _text(held, _FINGERPRINT)
    span = None if told is None else row_span(held, table_of(series))
    if told is None or span is None:
        return Coverage()
    # A lake of before there was a coverage: of an exchange's series the fingerprint is the time it was first asked for.
    since_ms = int(told) if told.isdigit() else span[0]
    end_ms = span[1] + max(1, _length_ms(as_data_series(series)))
    return Coverage.of([Span(min(since_ms, span[0]), end_ms)])


def _note_old_coverage(held: Held, series: AnySeries) -> None:
    """Write down what an older lake's coverage is taken to be, before new rows move the end that it is taken from."""
    if held.read(_COVERAGE) is None:
        coverage = _coverage(held, series)
        if coverage.spans:
            _set_coverage(held, coverage)


def _set_coverage(held: Held, coverage: Coverage) -> None:
    text = coverage.to_text()
    if text != _text(held, _COVERAGE):
        held.write(_COVERAGE, text.encode())


def _set_aside(held: Held, series: AnySeries) -> tuple[str, ...]:
    names = damaged_partitions(held, table_of(series))
    coverage, aside = Coverage(), list(names)
    try:
        coverage = _coverage(held, series)
    except LakeError:  # It cannot be read, or there is none and the files that it would be guessed from cannot.
        if held.read(_COVERAGE) is not None:
            held.rename(_COVERAGE, f"{_COVERAGE}{_DAMAGED}")
            aside.append(_COVERAGE)
    for name in names:
        coverage = coverage.without(partition_span(name))
    if aside:
        _set_coverage(held, coverage)
    for name in names:
        held.rename(name, f"{name}{_DAMAGED}")
    return tuple(aside)
