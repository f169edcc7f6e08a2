"""What the lake has, how old it is, and what is known against it: one row a series, from footers and one look into the store.

Nothing of a file but its end is read, so a lake of a thousand series is told in a second or two.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from candlewick.candles import Series
from candlewick.errors import LakeError, UsageError
from candlewick.footers import SeriesOverview
from candlewick.lake import Lake
from candlewick.lake_keys import folder_key
from candlewick.market_data.asking import market_key
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.datasets import dataset_wanted
from candlewick.market_data.gold import length_of
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.rows import SERIES_KEY, keyed
from candlewick.quality.limits import CheckLimits
from candlewick.quality.states import EXPLAINED_KINDS
from candlewick.settings import Settings
from candlewick.store.data_runs import DataStore
from candlewick.store.quality import QualityStore
from candlewick.timeframes import MINUTE_MS, utc

Freshness = Literal["fresh", "late", "stale"]

GRACE_MS = 15 * MINUTE_MS
"""A series is fresh until so long after the next bar closed: the sync that fetches it needs its turn."""
LEAST_STALE_MS = 60 * MINUTE_MS
# How often there is something new of the kinds without a timeframe.
_EVENT_STEP_MS = {"funding_rate": 8 * 60 * MINUTE_MS, "trades": 4 * 60 * MINUTE_MS}
_GAP_KINDS = ("gap", "gap_outage", "gap_no_trades")
_THREADS = 8


@dataclass(frozen=True, slots=True)
class Declared:
    """What the settings want of a series: the names of its datasets, and from when on."""

    datasets: tuple[str, ...]
    since_ms: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which series are told of; None: all."""

    market: str | None = None
    symbol: str | None = None
    timeframe: str | None = None

    def has(self, series: DataSeries) -> bool:
        """Whether the series is one of them."""
        asked = ((self.market, series.market), (self.symbol, series.symbol), (self.timeframe, series.timeframe))
        return all(wanted in (None, there) for wanted, there in asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStatus:
    """One series. ``problem`` is what keeps it from being read.

    ``known_until`` is how far the market was asked. ``missing_bars`` lie between the first and the last bar in times that were
    answered; ``explained_bars`` of them were in no trade or an outage. ``hole_ms`` in ``holes`` spans were never downloaded.
    ``age_ms`` is now less ``known_until``; ``freshness`` is None for what nobody keeps up to date: copies of files, and, where
    datasets are declared, series that none of them declares. ``bytes`` are those of the silver layer.
    """

    market: str
    symbol: str
    kind: str
    timeframe: str
    datasets: tuple[str, ...] = ()
    problem: str | None = None
    rows: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    known_until: datetime | None = None
    missing_bars: int = 0
    explained_bars: int = 0
    holes: int = 0
    hole_ms: int = 0
    age_ms: int | None = None
    freshness: Freshness | None = None
    last_synced_at: datetime | None = None
    last_validated_at: datetime | None = None
    verdict: str | None = None
    open_errors: int = 0
    open_warnings: int = 0
    open_infos: int = 0
    files: int = 0
    bytes: int = 0
    bronze_bytes: int = 0

    @property
    def is_started(self) -> bool:
        """Whether there is anything of it."""
        return self.rows > 0 or self.known_until is not None or self.problem is not None

    @property
    def is_wrong(self) -> bool:
        """Whether somebody should look: it cannot be read, is stale or not started, or an error is open."""
        return self.problem is not None or not self.is_started or self.freshness == "stale" or self.open_errors > 0


@dataclass(frozen=True, slots=True)
class _There:
    """What the lake says of one series."""

    overview: SeriesOverview
    coverage: Coverage
    bronze_bytes: int
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known beside the lake: of `data_series` a row, and how much of the gaps is explained, by the tables' names."""

    declared: Mapping[DataSeries, Declared]
    states: Mapping[tuple[str, str, str], Mapping[str, object]]
    explained_ms: Mapping[tuple[str, str, str], int]
    silent: frozenset[tuple[str, str, str]]
    now_ms: int


def lake_status(
    lake: Lake, data: DataStore, quality: QualityStore, settings: Settings, now_ms: int, chosen: Chosen
) -> tuple[SeriesStatus, ...]:
    """Every chosen series that is in the lake or declared, by market, symbol, kind and timeframe. Raises LakeError, LedgerError.

    ``now_ms`` is this machine's clock. A series that cannot be read is told of with its problem.
    """
    declared = declared_series(settings)
    listed = {one for one in (*lake.all_data_series(), *declared) if chosen.has(one)}
    series = sorted(listed, key=lambda one: (one.market, one.symbol, one.kind, length_of(one.timeframe) if one.timeframe else 0))
    with ThreadPoolExecutor(_THREADS) as threads:
        there = list(threads.map(lambda one: _look_at(lake, one), series))
    found = quality.findings(kinds=(*_GAP_KINDS, "stale"))
    silent = found.filter(pl.col("kind") == "stale", pl.col("state") == "open")
    known = _Known(
        declared,
        {_key(row): row for row in data.series_states().iter_rows(named=True)},
        _explained_ms(found.filter(pl.col("kind") != "stale")),
        frozenset(map(_key, silent.iter_rows(named=True))),
        now_ms,
    )
    return tuple(_status(one, found, known) for one, found in zip(series, there, strict=True))


def declared_series(settings: Settings) -> dict[DataSeries, Declared]:
    """The series of all datasets of the settings, by the lake's names."""
    found: dict[DataSeries, Declared] = {}
    for name, dataset in settings.datasets.items():
        for wanted in dataset_wanted(dataset):
            market = _lake_market(wanted.market, settings)
            made = [DataSeries(market, wanted.symbol, "ohlcv", timeframe) for timeframe in wanted.candles]
            for series in (DataSeries(market, wanted.symbol, wanted.kind, wanted.timeframe), *made):
                before = found.get(series, Declared((), wanted.since_ms))
                names = tuple(dict.fromkeys((*before.datasets, name)))
                found[series] = Declared(names, min(before.since_ms, wanted.since_ms))
    return found


def _lake_market(market: str, settings: Settings) -> str:
    """The lake's name of a market; of a folder that is not there, as the user wrote it."""
    exchange = settings.exchanges.get(market)
    if exchange is not None and exchange.sandbox:
        return f"{market}-sandbox"
    try:
        return market_key(market)
    except UsageError:
        return market


def _look_at(lake: Lake, series: DataSeries) -> _There:
    try:
        bronze = lake.read_in(folder_key(series, "bronze"), lambda held: sum(map(held.size, held.names())))
        return _There(lake.overview(series), lake.coverage(series), bronze)
    except LakeError as error:
        return _There(SeriesOverview(0, None, None, 0, 0), Coverage(), 0, str(error))


def _explained_ms(gaps: pl.DataFrame) -> dict[tuple[str, str, str], int]:
    """How much time of the gaps is explained, by series; what two findings say counts once."""
    start, end = (pl.col(name).dt.epoch("ms") for name in ("span_start", "span_end"))
    before = pl.col("end").cum_max().shift(1).over(SERIES_KEY).fill_null(0)
    told = (
        gaps.filter(pl.col("state") != "repaired", (pl.col("state") == "explained") | pl.col("kind").is_in(EXPLAINED_KINDS))
        .select(*SERIES_KEY, start.alias("start"), end.alias("end"))
        .sort(*SERIES_KEY, "start")
        .with_columns(own=pl.max_horizontal(pl.col("end") - pl.max_horizontal("start", before), 0))
        .group_by(SERIES_KEY)
        .agg(pl.col("own").sum())
    )
    return {(market, symbol, part): own for market, symbol, part, own in told.iter_rows()}


def _status(series: DataSeries, there: _There, known: _Known) -> SeriesStatus:
    wanted = known.declared.get(series)
    named = keyed(series)
    state = known.states.get(_named(named), {})
    overview, spans = there.overview, there.coverage.spans
    until_ms = max((spans[-1].until_ms if spans else 0), _end_of_rows(series, overview)) or None
    holes = () if until_ms is None else _holes(series, there, until_ms, None if wanted is None else wanted.since_ms)
    age_ms = None if until_ms is None else max(0, known.now_ms - until_ms)
    is_kept = not series.market.startswith("files-") and (wanted is not None or not known.declared)
    missing = _missing_bars(series, there)
    explained_ms = known.explained_ms.get(_named(named), 0)
    return SeriesStatus(
        market=series.market,
        symbol=series.symbol,
        kind=series.kind,
        timeframe=series.timeframe,
        datasets=() if wanted is None else wanted.datasets,
        problem=there.problem,
        rows=overview.rows,
        first_at=_at(overview.first_ms),
        last_at=_at(overview.last_ms),
        known_until=_at(until_ms),
        missing_bars=missing,
        explained_bars=min(missing, explained_ms // length_of(series.timeframe)) if missing else 0,
        holes=len(holes),
        hole_ms=sum(hole.length_ms for hole in holes),
        age_ms=age_ms,
        freshness=_freshness(series, age_ms, is_silent=_named(named) in known.silent) if is_kept and age_ms is not None else None,
        last_synced_at=_time(state, "last_synced_at"),
        last_validated_at=_time(state, "last_validated_at"),
        verdict=None if state.get("verdict") is None else str(state["verdict"]),
        open_errors=_count(state, "open_errors"),
        open_warnings=_count(state, "open_warnings"),
        open_infos=_count(state, "open_findings") - _count(state, "open_errors") - _count(state, "open_warnings"),
        files=overview.files,
        bytes=overview.bytes,
        bronze_bytes=there.bronze_bytes,
    )


def _end_of_rows(series: DataSeries, overview: SeriesOverview) -> int:
    """Where the last row ends; 0 where there is none."""
    if overview.last_ms is None:
        return 0
    return overview.last_ms + (length_of(series.timeframe) if series.timeframe else 1)


def _holes(series: DataSeries, there: _There, until_ms: int, since_ms: int | None) -> tuple[Span, ...]:
    """What was never downloaded, from where it is wanted (or begins) on. Copies of files have what the files have."""
    spans = there.coverage.spans
    starts = [since_ms] if since_ms is not None else [spans[0].since_ms] if spans else []
    if not starts or not spans or series.market.startswith("files-") or starts[0] >= until_ms:
        return ()
    return there.coverage.missing(Span(starts[0], until_ms))


def _missing_bars(series: DataSeries, there: _There) -> int:
    """Bars that are absent between the first and the last one, in times that were answered."""
    first_ms, last_ms = there.overview.first_ms, there.overview.last_ms
    if not series.timeframe or first_ms is None or last_ms is None:
        return 0
    length_ms = length_of(series.timeframe)
    within = Span(first_ms, last_ms + length_ms)
    absent_ms = sum(hole.length_ms for hole in there.coverage.missing(within)) if there.coverage.spans else 0
    return max(0, (within.length_ms - absent_ms) // length_ms - there.overview.rows)


def _named(series: Series) -> tuple[str, str, str]:
    return series.market, series.symbol, series.timeframe


def _freshness(series: DataSeries, age_ms: int, *, is_silent: bool) -> Freshness:
    if is_silent:
        return "stale"
    step_ms = length_of(series.timeframe) if series.timeframe else _EVENT_STEP_MS[series.kind]
    if age_ms <= step_ms + GRACE_MS:
        return "fresh"
    return "stale" if age_ms > max(CheckLimits().stale_bars * step_ms, LEAST_STALE_MS) else "late"


def _key(row: Mapping[str, object]) -> tuple[str, str, str]:
    return str(row["market"]), str(row["symbol"]), str(row["timeframe"])


def _at(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else utc(time_ms)


def _time(state: Mapping[str, object], name: str) -> datetime | None:
    value = state.get(name)
    return value if isinstance(value, datetime) else None


def _count(state: Mapping[str, object], name: str) -> int:
    value = state.get(name)
    return value if isinstance(value, int) else 0
