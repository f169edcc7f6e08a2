"""Rows of the tables about market data: findings, finished chunks, runs and series, as values and as frames.

Column names and types as in candlewick/store/migrations.py. The column `timeframe` holds the ``part`` of a series that is not
one of candles (candlewick/market_data/kinds.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from candlewick.candles import Series
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.rows import NUMBER, TEXT, TIME, Schema
from candlewick.timeframes import utc

AnySeries = Series | DataSeries
FindingState = Literal["open", "explained", "repaired"]
DataRunKind = Literal["backfill", "sync", "validate", "repair", "import"]
DataRunStatus = Literal["running", "success", "partial", "failure", "interrupted"]

SERIES_KEY = ("market", "symbol", "timeframe")
CHUNK_KEY = (*SERIES_KEY, "since_at", "until_at")

QUALITY_ROW: Schema = {
    **dict.fromkeys(("finding_id", *SERIES_KEY, "kind", "severity"), TEXT),
    **dict.fromkeys(("span_start", "span_end"), TIME),
    **dict.fromkeys(("evidence", "state", "explanation"), TEXT),
}
DATA_CHUNK_ROW: Schema = {
    **dict.fromkeys(SERIES_KEY, TEXT),
    **dict.fromkeys(("since_at", "until_at"), TIME),
    **dict.fromkeys(("rows", "pages"), NUMBER),
    **dict.fromkeys(("first_at", "last_at"), TIME),
    "digest": TEXT,
    "bytes": NUMBER,
    **dict.fromkeys(("requested_s", "waited_s"), pl.Float64()),
    "fetched_at": TIME,
}
DATA_RUN_ROW: Schema = {
    **dict.fromkeys(("run_id", "kind", "market"), TEXT),
    "series": NUMBER,
    **dict.fromkeys(("since_at", "until_at"), TIME),
    **dict.fromkeys(("rows_added", "findings"), NUMBER),
    **dict.fromkeys(("status", "error", "flow_run_id", "code_version", "process"), TEXT),
    **dict.fromkeys(("started_at", "completed_at"), TIME),
}
DATA_SERIES_ROW: Schema = {
    **dict.fromkeys(SERIES_KEY, TEXT),
    **dict.fromkeys(("last_synced_at", "last_validated_at"), TIME),
    "verdict": TEXT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataChunk:
    """One finished chunk of a series: what was asked for (``span``), what came, and what it cost.

    ``first_at`` and ``last_at`` are the times of the first and the last row; None where nothing came. ``digest`` is that of the
    candles (candlewick/candles.py), ``bytes`` of the answers as received; ``requested_s`` is the time spent waiting for
    answers, ``waited_s`` that spent waiting for the right to ask.
    """

    series: AnySeries
    span: Span
    rows: int
    pages: int
    first_at: datetime | None
    last_at: datetime | None
    digest: str
    bytes: int
    requested_s: float
    fetched_at: datetime
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRun:
    """One run of a flow of market data; fields are columns of `data_runs`.

    ``market`` None: several. ``series`` is how many were worked on, ``rows_added`` and ``findings`` how many rows and findings
    that made. ``process`` (who does it) is the store's own and ignored elsewhere.
    """

    run_id: str
    kind: DataRunKind
    code_version: str
    started_at: datetime
    market: str | None = None
    series: int = 0
    since_at: datetime | None = None
    until_at: datetime | None = None
    rows_added: int = 0
    findings: int = 0
    status: DataRunStatus = "running"
    error: str | None = None
    flow_run_id: str | None = None
    process: str | None = None
    completed_at: datetime | None = None


def keyed(series: AnySeries) -> Series:
    """The series as the tables name it: its ``part`` stands in the place of the timeframe."""
    return Series(series.market, series.symbol, series.part) if isinstance(series, DataSeries) else series


def several(series: AnySeries | Iterable[AnySeries]) -> tuple[Series, ...]:
    """One or many, as the tables name them."""
    return tuple(map(keyed, (series,) if isinstance(series, Series | DataSeries) else series))


def series_rows(series: AnySeries | Iterable[AnySeries]) -> pl.DataFrame:
    """One row a series, each once: market, symbol, timeframe."""
    names = dict.fromkeys(several(series))
    cells = {column: [getattr(one, column) for one in names] for column in SERIES_KEY}
    return pl.DataFrame(cells, schema={column: DATA_SERIES_ROW[column] for column in SERIES_KEY})


def chunk_rows(chunks: Iterable[DataChunk]) -> pl.DataFrame:
    """Chunks as rows of `data_chunks`, without the run."""
    told = tuple(chunks)
    spans = {"since_at": [utc(one.span.since_ms) for one in told], "until_at": [utc(one.span.until_ms) for one in told]}
    series = [keyed(one.series) for one in told]
    cells = {column: [getattr(one, column) for one in series] for column in SERIES_KEY} | spans
    rest = {column: [getattr(one, column) for one in told] for column in DATA_CHUNK_ROW if column not in cells}
    return pl.DataFrame(cells | rest, schema=dict(DATA_CHUNK_ROW))


def data_run_row(run: DataRun) -> pl.DataFrame:
    """The run as a row of `data_runs`."""
    return pl.DataFrame({column: [getattr(run, column)] for column in DATA_RUN_ROW}, schema=dict(DATA_RUN_ROW))
