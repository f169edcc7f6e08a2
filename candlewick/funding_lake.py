"""Funding in the lake: beside a symbol's candles, one Parquet file per year.

    <url>/silver/exchange=binanceusdm/symbol=SOL-USDT%3AUSDT/kind=funding_rate/2026.parquet

Columns are those of FUNDING_SCHEMA plus ``source`` and ``fetched_at``; ``noted_at`` is what the exchange said. Files are
written, and writers queue, as for candles (partitions.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from candlewick.candles import Series
from candlewick.funding import FUNDING_SCHEMA, HOUR_MS, funding_at_ms, funding_holes
from candlewick.lake import Lake
from candlewick.lake_keys import folder_key, table_of
from candlewick.market_data.kinds import DataSeries
from candlewick.partitions import KEPT_COLUMNS, check_offered, replace_rows
from candlewick.storage.contract import Held
from candlewick.timeframes import DAY_MS, format_utc
from candlewick.validation import Finding

FUNDING_LAKE_SCHEMA: Mapping[str, pl.DataType] = {**FUNDING_SCHEMA, **KEPT_COLUMNS}

# Payments before a span say when those inside of it are due. No exchange lets more than a day pass between two.
LOOK_BACK_MS = 2 * DAY_MS

# A source that is copied is copied whole: its fingerprint says nothing of how much of it was.
_END_OF_TIME_MS = 253_402_300_800_000
_FINGERPRINT = ".fingerprint"


@dataclass(frozen=True, slots=True)
class FundingPlan:
    """What to ask a market for: payments with ``since_ms <= funding_at < until_ms``. ``series`` says market and symbol.

    ``source`` is the market's fingerprint of a source that can change as a whole: then the lake's copy is replaced by it.
    """

    series: Series
    since_ms: int
    until_ms: int
    source: str | None = None


@dataclass(frozen=True, slots=True)
class FundingReport:
    """What became of the payments offered. ``conflicting`` has ``funding_at``, ``rate`` as kept and ``rate_offered``."""

    added: int
    conflicting: pl.DataFrame


def plan_funding(
    lake: Lake, series: Series, since_ms: int, until_ms: int, interval_h: int, source: str | None
) -> FundingPlan | None:
    """What the lake lacks of a span, from its first hole on; None where it lacks nothing. Raises LakeError.

    A source that can change as a whole is asked for everything when its fingerprint is another than the lake remembers.
    """
    if source is not None:
        return None if funding_fingerprint(lake, series) == source else FundingPlan(series, 0, _END_OF_TIME_MS, source)
    holes = funding_holes(read_funding(lake, series, since_ms - LOOK_BACK_MS, until_ms), since_ms, until_ms, interval_h)
    if not holes:
        return None
    start_ms = holes[0].since_ms
    # From before the hole: a market that knows the payment there says by it what is due next.
    return FundingPlan(series, start_ms - LOOK_BACK_MS if start_ms <= since_ms else start_ms - interval_h * HOUR_MS, until_ms)


def append_funding(lake: Lake, series: Series, funding: pl.DataFrame, source: str, fetched_at: datetime | None) -> FundingReport:
    """Add the payments that are new; one that is known stays as it is, and another rate for it is reported.

    ``funding`` in FUNDING_SCHEMA, normalised. Doing it twice changes nothing. Raises LakeError.
    """
    report = lake.append_rows(funding_series(series), funding, None, source, fetched_at)
    return FundingReport(report.added, report.conflicting)


def replace_funding(
    lake: Lake, series: Series, funding: pl.DataFrame, source: str, fingerprint: str, fetched_at: datetime | None
) -> None:
    """Make ``funding`` all there is, and remember the fingerprint of where it came from. Raises LakeError."""
    table = table_of(funding_series(series))
    wanted = check_offered(funding, table)

    def replace_all(held: Held) -> None:
        held.remove(_FINGERPRINT)
        replace_rows(held, wanted, table, source, fetched_at)
        held.write(_FINGERPRINT, fingerprint.encode())

    lake.write_in(folder_key(funding_series(series)), replace_all)


def read_funding(lake: Lake, series: Series, since_ms: int, until_ms: int) -> pl.DataFrame:
    """Payments with ``since_ms <= funding_at < until_ms`` in FUNDING_SCHEMA, sorted; no rows where there are none.

    Of ``series`` market and symbol count, not the timeframe. Raises LakeError.
    """
    return lake.read_rows(funding_series(series), since_ms, until_ms)


def funding_fingerprint(lake: Lake, series: Series) -> str | None:
    """What ``replace_funding`` said last; None where nothing was said, or it did not come to its end."""
    content = lake.read_in(folder_key(funding_series(series)), lambda held: held.read(_FINGERPRINT))
    return None if content is None else content.decode()


def funding_series(series: Series) -> DataSeries:
    """The series of funding of a series' market and symbol."""
    return DataSeries(series.market, series.symbol, "funding_rate")


def revised_funding(report: FundingReport) -> list[Finding]:
    """Payments that the market now tells differently than before. The lake keeps the first word: accounts have acted on it."""
    times = funding_at_ms(report.conflicting).tolist()
    rows = report.conflicting.iter_rows(named=True)
    return [
        Finding(
            "revised_funding",
            "warning",
            time,
            time + 1,
            f"funding {format_utc(time)}: rate {row['rate']} kept, {row['rate_offered']} offered",
        )
        for time, row in zip(times, rows, strict=True)
    ]
