"""Is my window clean? What is known to be wrong with the candles that a run decides on, and what the run does about it.

Findings that are `open` count, from the severity on that the settings name; what was explained or repaired does not. Runs ask
with ``check_windows``, notebooks with ``is_clean``:

    from candlewick.candles import Series
    from candlewick.quality.gate import is_clean

    verdict = is_clean(Series("binance", "BTC/USDT", "1h"), "2024-01-01", "2024-07-01")
    if not verdict:
        print(verdict, verdict.findings)
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import polars as pl

from candlewick.candles import Series
from candlewick.errors import DirtyWindow
from candlewick.findings import noted_findings
from candlewick.lake import Lake
from candlewick.lake_opening import open_lake
from candlewick.market_data.coverage import Span
from candlewick.market_data.rows import SERIES_KEY, AnySeries, keyed
from candlewick.settings import QualitySettings, Settings, load_settings
from candlewick.store.database import Database
from candlewick.store.quality import QualityStore, finding_span
from candlewick.timeframes import format_utc, parse_utc, timeframe_ms, utc
from candlewick.validation import finding_rows

SEVERITIES = ("info", "warning", "error")
COUNTED_COLUMNS = tuple(finding_rows(Series("", "", ""), (), datetime.now(UTC)).columns)


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is known against a window of a series. True where it is clean.

    ``findings``: the open ones that count, the worst first (``COUNTED_COLUMNS``: columns of the quality table). ``missing``:
    times that were never downloaded, where that was looked at (``is_clean``).
    """

    series: Series
    span: Span
    findings: pl.DataFrame
    missing: tuple[Span, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing is known against it."""
        return self.findings.is_empty() and not self.missing

    def __bool__(self) -> bool:
        return self.is_clean

    def __str__(self) -> str:
        name = f"{self.series.market} {self.series.symbol} {self.series.timeframe}"
        if self.is_clean:
            return f"{name}: nothing is known against {self.span}"
        parts = [f"{_number(len(self.missing), 'span')} not downloaded, from {self.missing[0]} on"] if self.missing else []
        if not self.findings.is_empty():
            worst = self.findings.row(0, named=True)
            first = format_utc(round(worst["span_start"].timestamp() * 1000))
            parts.append(
                f"{_number(self.findings.height, 'open finding')}, the worst ({worst['severity']}) is {worst['kind']} "
                f"at {first}: {worst['evidence']}"
            )
        return f"{name}, {self.span}: {'; '.join(parts)}"


def judge_window(findings: pl.DataFrame, series: AnySeries, span: Span, settings: QualitySettings) -> Verdict:
    """What of ``findings`` (rows of the quality table) counts against the span of the series."""
    key = keyed(series)
    rank = pl.col("severity").replace_strict(list(SEVERITIES), list(range(len(SEVERITIES))), return_dtype=pl.Int8)
    counted = findings.filter(
        pl.all_horizontal([pl.col(name) == getattr(key, name) for name in SERIES_KEY]),
        pl.col("state") == "open",
        pl.col("span_start") < utc(span.until_ms),
        pl.col("span_end") > utc(span.since_ms),
        rank >= SEVERITIES.index(settings.severity),
        ~pl.col("kind").is_in(list(settings.ignore)),
    )
    worst_first = counted.sort(rank, "span_start", "finding_id", descending=[True, False, False])
    return Verdict(key, span, worst_first.select(COUNTED_COLUMNS))


def judge_windows(
    store: QualityStore, lake: Lake, noted: pl.DataFrame, windows: Mapping[Series, Span], settings: QualitySettings
) -> tuple[Verdict, ...]:
    """One verdict a series, from the quality table and from ``noted``: findings that are on their way into it.

    What the table has already is judged as the table has it. What was refused or not downloaded and is there since does not
    count. Raises LedgerError, LakeError.
    """
    spans = windows.values()
    since_ms, until_ms = min(span.since_ms for span in spans), max(span.until_ms for span in spans)
    told = store.findings(windows, since_ms=since_ms, until_ms=until_ms).select(COUNTED_COLUMNS)
    if noted.height:
        told = pl.concat([told, noted.select(COUNTED_COLUMNS).join(told, on="finding_id", how="anti")])
    verdicts = [judge_window(told, series, span, settings) for series, span in windows.items()]
    return tuple(replace(one, findings=_not_over(lake, one)) if not one.is_clean else one for one in verdicts)


def _not_over(lake: Lake, verdict: Verdict) -> pl.DataFrame:
    """The findings without those about bars that were not in the lake and are now.

    A refusal of one bar is over when the bar is there; of a whole answer, when the span has been answered since.
    """
    series, over = verdict.series, list[str]()
    for row in verdict.findings.filter(pl.col("kind").is_in(["refused", "gap_not_downloaded"])).iter_rows(named=True):
        span = finding_span(row)
        single = row["kind"] == "refused" and span.length_ms <= timeframe_ms(series.timeframe)
        there = lake.read(series, span.since_ms, span.until_ms).height > 0 if single else lake.coverage(series).covers(span)
        over += [row["finding_id"]] if there else []
    return verdict.findings.filter(~pl.col("finding_id").is_in(over))


def check_windows(
    store: QualityStore, lake: Lake, noted: pl.DataFrame, windows: Mapping[Series, Span], settings: QualitySettings
) -> tuple[str, ...]:
    """What a run has to say about its windows (`warn`), or DirtyWindow (`refuse`). Nothing is read where the gate is off.

    ``noted`` as for ``judge_windows``. Raises DirtyWindow naming count, worst finding and what to do; LedgerError, LakeError.
    """
    if settings.gate == "off" or not windows:
        return ()
    dirty = [verdict for verdict in judge_windows(store, lake, noted, windows, settings) if not verdict]
    if not dirty:
        return ()
    if settings.gate == "warn":
        return tuple(f"{verdict}. `{repair_command(verdict.series)}` looks into it" for verdict in dirty)
    others = f" So are {_number(len(dirty) - 1, 'more series')}." if len(dirty) > 1 else ""
    raise DirtyWindow(
        f"{dirty[0]}.{others} Nothing was decided: `{repair_command(dirty[0].series)} --dry-run` shows what is known, without "
        "--dry-run it is repaired; quality.gate=warn goes on nevertheless"
    )


def is_clean(series: Series, since: str | None = None, until: str | None = None, settings: Settings | None = None) -> Verdict:
    """What is known against a series of candles from ``since`` to ``until`` (ISO 8601, UTC); where they are not given, all of it.

    Times that the lake was never asked for count as well. ``settings`` None: those of this directory and environment.
    Raises UsageError, LakeError, LedgerError.
    """
    chosen = settings or load_settings()
    lake = open_lake(chosen.lake)
    there = lake.span(series) or (0, 0)
    since_ms = there[0] if since is None else parse_utc(since)
    until_ms = there[1] + timeframe_ms(series.timeframe) if until is None else parse_utc(until)
    span = Span(since_ms, max(since_ms + 1, until_ms))
    store = QualityStore(Database(chosen.store.url, chosen.store.lock_timeout_s))
    noted = noted_findings(lake, [series], datetime.now(UTC)).rows
    (verdict,) = judge_windows(store, lake, noted, {series: span}, chosen.quality)
    return replace(verdict, missing=lake.coverage(series).missing(span))


def repair_command(series: Series) -> str:
    """What repairs the series, from a terminal."""
    named = ("market", series.market), ("symbol", series.symbol), ("timeframe", series.timeframe)
    return " ".join(["python -m flows.market_data repair", *(f"--{name} {shlex.quote(value)}" for name, value in named)])


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 or noun.endswith('s') else 's'}"
