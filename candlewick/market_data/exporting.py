"""Series of the lake as files of one's own: Parquet, CSV or Feather, whole or not at all, as long as the disk is.

A file of candles is named as the market `files:DIR` reads it (`binance_BTC-USDT_1h.parquet`), so that an export can be traded
on, imported and compared: its candles have the digest that is told here. Columns are those of the lake's frames; times are UTC,
in a CSV as ISO 8601 (`2026-01-31T16:00:00Z`).

Rows are read and written some at a time, so memory does not grow with the span.
"""

import filecmp
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from candlewick.candles import CANDLE_SCHEMA, Series, opened_at_ms
from candlewick.errors import CandlewickError, UsageError
from candlewick.files import naming_what_failed, sync_folder
from candlewick.lake import Lake
from candlewick.lake_keys import table_of
from candlewick.market_data.asking import Missing, find_candles, find_events, market_key
from candlewick.market_data.coverage import Span
from candlewick.market_data.gold import GoldSource, length_of, read_parts
from candlewick.market_data.kinds import KINDS, TIMED_KINDS, DataSeries, Kind
from candlewick.timeframes import DAY_MS, utc

Format = Literal["parquet", "csv", "feather"]
FORMATS: tuple[Format, ...] = get_args(Format)
Outcome = Literal["written", "replaced", "unchanged", "failed"]

_SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".feather": "feather"}
# Rows of these kinds that are read at a time, as a length of time: trades come by the thousand a minute.
_TRADES_AT_ONCE_MS, _OTHERS_AT_ONCE_MS = DAY_MS, 366 * DAY_MS

Parts = Callable[[], Iterator[pl.DataFrame]]


@dataclass(frozen=True, slots=True)
class Exported:
    """One file. ``digest`` is that of the candles (candlewick/candles.py), of other kinds SHA-256 of the rows as CSV without a
    header; ``made_of`` is the timeframe that the candles were made of where the lake does not have their own."""

    series: str
    path: str
    outcome: Outcome
    rows: int
    first_at: datetime | None
    last_at: datetime | None
    digest: str
    bytes: int
    made_of: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One series as a file, as the user wrote it. ``to`` is a folder, or one file by its name; ``form`` None: as ``to`` says."""

    market: str
    symbol: str
    kind: Kind
    timeframe: str
    to: str
    form: str | None = None
    since: str | None = None
    until: str | None = None
    overwrite: bool = False
    missing: Missing = "raise"


def export_requests(symbols: Iterable[str], timeframes: Iterable[str], first: ExportRequest) -> tuple[ExportRequest, ...]:
    """The same for each symbol and timeframe; several may stand in one text, with commas between.

    Raises UsageError for what makes no sense; nothing has been written then.
    """
    named, lengths = (
        tuple(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
        for texts in (symbols, timeframes)
    )
    if not named:
        raise UsageError("name at least one symbol, such as --symbols BTC/USDT")
    if first.kind not in KINDS:
        raise UsageError(f"kind {first.kind!r} is unknown: use {', '.join(KINDS)}")
    if first.kind in TIMED_KINDS and not lengths:
        raise UsageError(f"{first.kind} comes in timeframes: name at least one, such as --timeframe 1h")
    if first.kind not in TIMED_KINDS and lengths:
        raise UsageError(f"{first.kind} comes in no timeframes: leave --timeframe away")
    for length in lengths:
        length_of(length)
    target = Path(first.to)
    choose_format(first.form, target)
    asked = tuple(replace(first, symbol=symbol, timeframe=length) for symbol in named for length in lengths or ("",))
    if len(asked) > 1 and is_file_target(target):
        raise UsageError(f"{len(asked)} series do not go into one file {target.name}: name a folder")
    return asked


def export_series(lake: Lake, request: ExportRequest) -> Exported:
    """Write one series to its file. Raises MissingData where the lake lacks something of it, UsageError, LakeError."""
    asked = (request.since, request.until, request.missing)
    series: Series | DataSeries
    if request.kind == "ohlcv":
        source = find_candles(lake, request.market, request.symbol, request.timeframe, *asked)
        content, series = candle_content(lake, source), source.asked
    else:
        series = DataSeries(market_key(request.market), request.symbol, request.kind, request.timeframe)
        content = event_content(lake, series, find_events(lake, request.market, series, *asked))
    target = Path(request.to)
    form = choose_format(request.form, target)
    return export(
        content, target if is_file_target(target) else target / file_name(series, form), form, overwrite=request.overwrite
    )


def failed_export(request: ExportRequest, error: CandlewickError) -> Exported:
    """A series that could not be exported, among others that could."""
    name = f"{request.market} {request.symbol} {' '.join(filter(None, (request.timeframe, request.kind)))}"
    return Exported(name, request.to, "failed", 0, None, None, "", 0, error=str(error))


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into a file: ``name`` says what it is; the first column of ``schema`` is the time; ``parts`` reads the rows, in
    order of time, anew whenever it is called."""

    name: str
    kind: Kind
    schema: Mapping[str, pl.DataType]
    parts: Parts
    made_of: str | None = None


def candle_content(lake: Lake, source: GoldSource) -> Content:
    """Candles, the lake's own or made of finer ones."""
    name = f"{source.asked.market} {source.asked.symbol} {source.asked.timeframe}"
    made_of = source.stored.timeframe if source.is_resampled else None
    return Content(name, "ohlcv", CANDLE_SCHEMA, lambda: read_parts(lake, source), made_of)


def event_content(lake: Lake, series: DataSeries, span: Span | None) -> Content:
    """Funding, open interest or trades in a span."""
    step_ms = _TRADES_AT_ONCE_MS if series.kind == "trades" else _OTHERS_AT_ONCE_MS

    def parts() -> Iterator[pl.DataFrame]:
        for since_ms in range(span.since_ms, span.until_ms, step_ms) if span is not None else ():
            assert span is not None
            yield lake.read_rows(series, since_ms, min(since_ms + step_ms, span.until_ms))

    return Content(str(series), series.kind, table_of(series).schema, parts)


def file_name(series: Series | DataSeries, form: Format) -> str:
    """How an exported file is called: `binance_BTC-USDT_1h.parquet`, `binanceusdm_SOL-USDT-USDT_funding.csv`.

    >>> file_name(Series("binance", "BTC/USDT", "1h"), "csv")
    'binance_BTC-USDT_1h.csv'
    """
    part = series.timeframe if isinstance(series, Series) else series.part.replace("funding_rate", "funding").replace("_", "-")
    symbol = series.symbol.replace("/", "-").replace(":", "-")
    return f"{series.market}_{symbol}_{part}.{form}"


def choose_format(asked: str | None, target: Path) -> Format:
    """The format that is asked for, else the one that the target's name says, else Parquet. Raises UsageError."""
    told = _SUFFIXES.get(target.suffix)
    if asked is not None and asked not in FORMATS:
        raise UsageError(f"format {asked!r} is unknown: use one of {', '.join(FORMATS)}")
    if asked is not None and told is not None and told != asked and not target.is_dir():
        raise UsageError(f"{target.name} says {told}, and the format asked for is {asked}: make them agree")
    return next((form for form in FORMATS if form in (asked or told,)), "parquet")


def is_file_target(target: Path) -> bool:
    """Whether a target names one file, and no folder."""
    return target.suffix in _SUFFIXES and not target.is_dir()


def export(content: Content, target: Path, form: Format, *, overwrite: bool = False) -> Exported:
    """Write the content to ``target``, whole or not at all; its folder is made. The same content again leaves the file alone.

    Raises UsageError where there is a file with other content and ``overwrite`` is not said, LakeError where the lake cannot
    be read or the file not be written.
    """
    with naming_what_failed(target.parent, "written"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with naming_what_failed(target, "written"), _temporary(target) as temporary:
        with open(temporary, "wb") as file:
            rows, ends = _write(content, file, form)
            file.flush()
            os.fsync(file.fileno())
        outcome = _put_in_place(temporary, target, overwrite=overwrite)
        size = target.stat().st_size
    first_at, last_at = (utc(time_ms) for time_ms in ends) if ends is not None else (None, None)
    digest = _candle_digest(content.parts, rows) if content.kind == "ohlcv" else _digest(content.parts)
    return Exported(content.name, str(target), outcome, rows, first_at, last_at, digest, size, content.made_of)


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside the target that is this process's own; gone at the end, whatever happens."""
    path = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _put_in_place(temporary: Path, target: Path, *, overwrite: bool) -> Outcome:
    there = target.exists()
    if there and filecmp.cmp(temporary, target, shallow=False):
        return "unchanged"
    if there and not overwrite:
        raise UsageError(f"{target} is there with other content: say --overwrite to replace it, or another --to")
    os.replace(temporary, target)
    sync_folder(target.parent)
    return "replaced" if there else "written"


def _write(content: Content, file: BinaryIO, form: Format) -> tuple[int, tuple[int, int] | None]:
    """Write all parts; the rows, and the first and the last one's time in ms."""
    rows, ends, time = 0, list[int](), next(iter(content.schema))
    with _writer(content, file, form) as write:
        for part in content.parts():
            if part.height:
                write(part)
                rows += part.height
                ends += [int(moment.timestamp() * 1000) for moment in (part[time][0], part[time][-1])]
    return rows, (ends[0], ends[-1]) if ends else None


@contextmanager
def _writer(content: Content, file: BinaryIO, form: Format) -> Iterator[Callable[[pl.DataFrame], None]]:
    """What puts one part after the other into the file."""
    empty = pl.DataFrame(schema=dict(content.schema))
    if form == "csv":
        times = "%Y-%m-%dT%H:%M:%SZ" if content.kind == "ohlcv" else "%Y-%m-%dT%H:%M:%S%.3fZ"
        empty.write_csv(file)
        yield lambda part: part.write_csv(file, include_header=False, datetime_format=times)
    elif form == "parquet":
        with pq.ParquetWriter(file, empty.to_arrow().schema, compression="zstd") as parquet:
            yield lambda part: parquet.write_table(part.to_arrow())
    else:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(file, empty.to_arrow().schema, options=options) as feather:
            yield lambda part: feather.write_table(part.to_arrow())


def _candle_digest(parts: Parts, rows: int) -> str:
    """What ``candle_digest`` says of all parts as one frame: column after column, so the parts are read once a column."""
    digest = hashlib.sha256(f"candles-1:{rows}:".encode())
    for column in CANDLE_SCHEMA:
        for part in parts():
            times = opened_at_ms(part).astype("<i8") if column == "opened_at" else part[column].to_numpy().astype("<f8")
            digest.update(times.tobytes())
    return digest.hexdigest()


def _digest(parts: Parts) -> str:
    digest = hashlib.sha256()
    for part in parts():
        digest.update(part.write_csv(include_header=False).encode())
    return digest.hexdigest()
