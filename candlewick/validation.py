"""Candle validation: what is repaired (and said), what is noted, and what is refused.

| finding | severity | what happens |
|---|---|---|
| ``out_of_order`` | info | rows are sorted by open time |
| ``duplicate`` | info | rows that repeat a candle exactly are dropped |
| ``zero_volume`` | info | kept: a bar in which nothing traded |
| ``unclosed`` | info | bars still open at ``now_ms`` are dropped |
| ``future`` | warning | bars that open after ``now_ms`` are dropped: a clock or a unit is wrong somewhere |
| ``gap`` | info | kept as a fact: nothing fills inside it |
| ``repeated_candle`` | warning | kept: a bar that traded has exactly the five numbers of an earlier one |
| ``volume_level`` | warning | kept: the level of the volume jumps a hundredfold and stays (base and quote volume swapped?) |

This is the validation on receipt. The checks of what is stored (candlewick/quality/checks.py) find the same and more:

| finding | severity | what it says |
|---|---|---|
| ``schema``, ``off_grid``, ``not_finite``, ``not_positive``, ``high_low`` | error | what is refused on receipt, in a file |
| ``conflicting_duplicate`` | error, warning | several rows for one time: other prices, or another volume alone |
| ``gap`` | warning, error | nobody knows why bars are missing; error: the market has them |
| ``gap_outage``, ``gap_no_trades`` | info | bars are missing because the exchange was down, or because nobody traded |
| ``gap_not_downloaded`` | warning | bars are missing because they were never asked for |
| ``invented_candle`` | warning | a bar without volume where the exchange had none, or where it traded |
| ``outlier`` | warning, error, info | a price that came back at once, or that another source does not have |
| ``partial_candle`` | warning | the last bar was stored before it closed |
| ``stale`` | warning | the series has stopped |
| ``resampling`` | error, warning | a coarser bar is not what the finer ones make |
| ``disagreement`` | warning, info | two sources cannot both be right (candlewick/quality/disagreements.py) |
| ``refused``, ``damaged_file`` | error | an answer, or a file of the lake, that cannot be used |
| ``revised``, ``revised_funding`` | warning | the market tells something differently than before |
| ``not_listed``, ``delisted`` | info | the market begins or ends there |
| ``mixed_units``, ``swapped_volume``, ``resolved_duplicate`` | info, warning | how an import read a user's file |

Rows of other kinds than candles have findings of the same names (candlewick/quality/kinds_checks.py).

Anything else that is wrong makes every later number worthless and raises InvalidCandles: values that are missing or not
finite, prices not above 0, high below or low above the body, negative volume, two different candles for one open time,
open times off the timeframe's grid, columns or types other than CANDLE_SCHEMA. What is refused is a finding, too
(``refused``, severity error), which the fetch records.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

from candlewick.candles import CANDLE_SCHEMA, PRICE_COLUMNS, Series
from candlewick.errors import InvalidCandles
from candlewick.quality.states import state_of
from candlewick.timeframes import floor_to_bar, format_utc, timeframe_ms, utc

Severity = Literal["info", "warning", "error"]

# How many bars on either side of a jump its levels are taken from, and how large a jump is remarked on.
LEVEL_BARS = 48
LEVEL_FACTOR = 100.0

REPAIRED_KINDS = ("out_of_order", "duplicate", "unclosed", "future")
_NUMBERS = (*PRICE_COLUMNS, "volume")
_TIME = pl.col("opened_at").dt.epoch("ms")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the candles that is worth a row in the `quality` table.

    The span is [start, end) in milliseconds UTC: from the open time of the first bar concerned to the close of the last one.
    """

    kind: str
    severity: Severity
    span_start_ms: int
    span_end_ms: int
    evidence: str


@dataclass(frozen=True, slots=True)
class ValidatedCandles:
    """``candles`` in CANDLE_SCHEMA: closed, sorted, unique, finite and consistent. ``findings`` in the order of their spans."""

    candles: pl.DataFrame
    findings: tuple[Finding, ...]


def validate_candles(candles: pl.DataFrame, series: Series, now_ms: int, after_ms: int | None = None) -> ValidatedCandles:
    """Check candles of one series as received from a market. ``now_ms`` is the market's clock, milliseconds UTC.

    ``after_ms`` is the open time of the last bar that is already known, so that a gap at the seam is found too.
    Raises InvalidCandles naming series, bar, column and value.
    """
    length_ms = timeframe_ms(series.timeframe)
    _refuse_other_columns(candles, series)
    closed, unclosed = _drop_unclosed(candles, length_ms, now_ms)
    _refuse_off_grid(closed, series)
    _refuse_untrustworthy_values(closed, series)
    ordered, disorder = _sort(closed, length_ms)
    single, duplicates = _drop_duplicates(ordered, series, length_ms)
    findings = [
        *unclosed,
        *disorder,
        *duplicates,
        *_zero_volume(single, length_ms),
        *_gaps(single, length_ms, after_ms),
        *find_repeated(single, length_ms),
        *_volume_level(single, length_ms),
    ]
    findings.sort(key=lambda finding: (finding.span_start_ms, finding.span_end_ms, finding.kind))
    return ValidatedCandles(single, tuple(findings))


def finding_rows(series: Series, findings: tuple[Finding, ...], recorded_at: datetime) -> pl.DataFrame:
    """Rows of the `quality` table (candlewick/store/migrations.py). The same finding has the same ``finding_id`` for ever.

    ``state`` as candlewick/quality/states.py says: `open`, `explained` or `repaired`.
    """
    time = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "finding_id": [_finding_id(series, finding) for finding in findings],
            "market": [series.market] * len(findings),
            "symbol": [series.symbol] * len(findings),
            "timeframe": [series.timeframe] * len(findings),
            "kind": [finding.kind for finding in findings],
            "severity": [finding.severity for finding in findings],
            "span_start": [utc(finding.span_start_ms) for finding in findings],
            "span_end": [utc(finding.span_end_ms) for finding in findings],
            "evidence": [finding.evidence for finding in findings],
            "state": [state_of(finding) for finding in findings],
            "recorded_at": [recorded_at] * len(findings),
        },
        schema={
            **{name: pl.String() for name in ("finding_id", "market", "symbol", "timeframe", "kind", "severity")},
            **dict.fromkeys(("span_start", "span_end"), time),
            **{name: pl.String() for name in ("evidence", "state")},
            "recorded_at": time,
        },
    )


def _finding_id(series: Series, finding: Finding) -> str:
    parts = (
        series.market,
        series.symbol,
        series.timeframe,
        finding.kind,
        finding.span_start_ms,
        finding.span_end_ms,
        finding.evidence,
    )
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


def _name(series: Series) -> str:
    return f"{series.market} {series.symbol} {series.timeframe}"


def _refuse_other_columns(candles: pl.DataFrame, series: Series) -> None:
    if candles.schema != dict(CANDLE_SCHEMA):
        raise InvalidCandles(f"{_name(series)}: columns are {dict(candles.schema)}, expected are {dict(CANDLE_SCHEMA)}")
    if candles["opened_at"].null_count():
        row = candles["opened_at"].is_null().arg_true()[0]
        raise InvalidCandles(f"{_name(series)}: row {row} has no open time")


def _drop_unclosed(candles: pl.DataFrame, length_ms: int, now_ms: int) -> tuple[pl.DataFrame, list[Finding]]:
    closed = _TIME + length_ms <= now_ms
    rest = candles.filter(~closed).select(_TIME.alias("time"))["time"].to_list()
    findings: list[Finding] = []
    forming = [time for time in rest if time <= now_ms]
    future = [time for time in rest if time > now_ms]
    if forming:
        text = f"{len(forming)} of the rows had not closed at {format_utc(now_ms)}; dropped"
        findings.append(Finding("unclosed", "info", min(forming), max(forming) + length_ms, text))
    if future:
        text = f"{len(future)} rows open after the market's clock, {format_utc(now_ms)}; dropped"
        findings.append(Finding("future", "warning", min(future), max(future) + length_ms, text))
    return candles.filter(closed), findings


def _refuse_off_grid(candles: pl.DataFrame, series: Series) -> None:
    length_ms, offset_ms = timeframe_ms(series.timeframe), floor_to_bar(0, series.timeframe)
    off = candles.filter((_TIME - offset_ms) % length_ms != 0)
    if off.height:
        when = off["opened_at"][0].strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        raise InvalidCandles(
            f"{_name(series)}: {off.height} of {candles.height} bars do not open on the {series.timeframe} grid, such as {when}"
        )


def _refuse_untrustworthy_values(candles: pl.DataFrame, series: Series) -> None:
    rules: list[tuple[str, pl.Expr, str]] = [
        *((name, pl.col(name).is_null() | ~pl.col(name).is_finite(), "is not a finite number") for name in _NUMBERS),
        *((name, pl.col(name) <= 0, "is not above 0") for name in PRICE_COLUMNS),
        ("volume", pl.col("volume") < 0, "is below 0"),
        ("high", pl.col("high") < pl.max_horizontal("open", "close"), "is below the open or the close"),
        ("low", pl.col("low") > pl.min_horizontal("open", "close"), "is above the open or the close"),
    ]
    counts = candles.select([rule.sum().alias(str(index)) for index, (_, rule, _) in enumerate(rules)]).row(0)
    for (column, rule, text), count in zip(rules, counts, strict=True):
        if count:
            bar = candles.filter(rule).row(0, named=True)
            values = ", ".join(f"{name} {bar[name]}" for name in _NUMBERS)
            raise InvalidCandles(
                f"{_name(series)}: bar {bar['opened_at']:%Y-%m-%d %H:%M}: {column} {bar[column]} {text} ({values}); "
                f"{count} such bars"
            )


def _sort(candles: pl.DataFrame, length_ms: int) -> tuple[pl.DataFrame, list[Finding]]:
    late = candles.filter(_TIME.cum_max().shift(1) > _TIME)
    if late.is_empty():
        return candles, []
    first_ms, last_ms = late.select(_TIME.min(), _TIME.max().alias("last")).row(0)
    text = f"{late.height} of {candles.height} rows came after a later bar; sorted"
    return candles.sort("opened_at", maintain_order=True), [Finding("out_of_order", "info", first_ms, last_ms + length_ms, text)]


def _drop_duplicates(candles: pl.DataFrame, series: Series, length_ms: int) -> tuple[pl.DataFrame, list[Finding]]:
    again = _TIME.shift(1) == _TIME
    if not candles.select(again.any()).item():
        return candles, []
    other = pl.any_horizontal([pl.col(name) != pl.col(name).shift(1) for name in _NUMBERS])
    pairs = candles.with_row_index("row").with_columns(again=again, other=again & other)
    conflicting = pairs.filter(pl.col("other"))
    if conflicting.height:
        second = conflicting.row(0, named=True)
        first = candles.row(second["row"] - 1, named=True)
        column = next(name for name in _NUMBERS if first[name] != second[name])
        raise InvalidCandles(
            f"{_name(series)}: bar {first['opened_at']:%Y-%m-%d %H:%M} is there twice with different content: "
            f"{column} {first[column]} and {second[column]}; {conflicting.height} such bars"
        )
    dropped = candles.filter(again.fill_null(False))
    runs = _runs(dropped.unique("opened_at", keep="first", maintain_order=True), length_ms)
    times = dropped.select(_TIME.alias("time"))["time"]
    findings = [
        Finding("duplicate", "info", start, end, f"{times.is_between(start, end - 1).sum()} rows repeat a bar exactly; dropped")
        for start, end, _ in runs
    ]
    return candles.filter(~again.fill_null(False)), findings


def _runs(candles: pl.DataFrame, length_ms: int) -> list[tuple[int, int, int]]:
    """Unbroken runs of bars as (first open, last close, bars), so that a finding's span does not hang on the window seen."""
    runs = (
        candles.select(_TIME.alias("time"))
        .with_columns(run=(pl.col("time").diff().fill_null(length_ms) != length_ms).cum_sum())
        .group_by("run", maintain_order=True)
        .agg(pl.col("time").first().alias("start"), pl.col("time").last().alias("last"), pl.len().alias("bars"))
    )
    return [(start, last + length_ms, bars) for start, last, bars in runs.select("start", "last", "bars").iter_rows()]


def _zero_volume(candles: pl.DataFrame, length_ms: int) -> list[Finding]:
    quiet = candles.filter(pl.col("volume") == 0)
    return [
        Finding("zero_volume", "info", start, end, f"{bars} bars in which nothing traded; kept")
        for start, end, bars in _runs(quiet, length_ms)
    ]


def _gaps(candles: pl.DataFrame, length_ms: int, after_ms: int | None) -> list[Finding]:
    previous = _TIME.shift(1) if after_ms is None else _TIME.shift(1, fill_value=after_ms)
    holes = candles.select(_TIME.alias("time"), previous.alias("previous")).filter(
        pl.col("time") - pl.col("previous") > length_ms
    )
    return [
        Finding("gap", "info", previous + length_ms, time, f"{(time - previous) // length_ms - 1} bars missing")
        for time, previous in holes.iter_rows()
    ]


def find_repeated(candles: pl.DataFrame, length_ms: int) -> list[Finding]:
    """`repeated_candle`: bars that traded and agree in five numbers to the last digit: none in a million good bars do."""
    traded = candles.filter((pl.col("volume") > 0) & (pl.col("high") > pl.col("low")))
    alike = traded.filter(pl.col("volume").is_duplicated())  # A copy has the volume, too: few bars are compared as a whole.
    found = alike.filter(~pl.struct(_NUMBERS).is_first_distinct())
    return [
        Finding("repeated_candle", "warning", start, end, f"{bars} bars have exactly the numbers of an earlier bar; kept")
        for start, end, bars in _runs(found, length_ms)
    ]


def _volume_level(candles: pl.DataFrame, length_ms: int) -> list[Finding]:
    text = "median volume goes from {:g} to {:g} and stays: base and quote volume swapped? Kept"
    return [
        Finding("volume_level", "warning", at.time_ms, at.time_ms + length_ms, text.format(at.before, at.after))
        for at in volume_jumps(candles, length_ms)
    ]


@dataclass(frozen=True, slots=True)
class VolumeJump:
    """``time_ms`` opens the first bar of the new level; ``before`` and ``after`` are medians over LEVEL_BARS."""

    time_ms: int
    before: float
    after: float


def volume_jumps(candles: pl.DataFrame, length_ms: int) -> list[VolumeJump]:
    """Where the median volume of the LEVEL_BARS before and after differ by LEVEL_FACTOR: the sharpest bar of each such place."""
    if candles.height < 2 * LEVEL_BARS:
        return []
    levels = candles.with_columns(level=pl.col("volume").rolling_median(LEVEL_BARS)).select(
        _TIME.alias("time"),
        pl.col("level").shift(1).alias("before"),
        pl.col("level").shift(1 - LEVEL_BARS).alias("after"),
        pl.col("volume"),
        pl.col("volume").shift(1).alias("last"),
    )
    ratio = pl.col("after") / pl.col("before")
    jumps = levels.filter(
        (pl.col("before") > 0) & (pl.col("after") > 0) & ((ratio >= LEVEL_FACTOR) | (ratio <= 1 / LEVEL_FACTOR))
    )
    found: list[VolumeJump] = []
    apart = jumps.with_columns(place=(pl.col("time").diff().fill_null(0) > LEVEL_BARS * length_ms).cum_sum())
    for _, place in apart.group_by("place", maintain_order=True):
        step = (pl.col("volume") / pl.col("last")).log().abs()
        bar = place.sort(step, descending=True, nulls_last=True, maintain_order=True).row(0, named=True)
        found.append(VolumeJump(bar["time"], bar["before"], bar["after"]))
    return found
