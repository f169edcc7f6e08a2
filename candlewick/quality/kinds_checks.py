"""Checks of funding, open interest and trades. The findings are named as those of candles.

| kind of data | finding | severity | rule |
|---|---|---|---|
| funding | ``gap`` | warning | payments that are due are absent (candlewick/funding.py says when they are due) |
| funding | ``conflicting_duplicate`` | error | two rates for one payment |
| funding | ``not_finite`` | error | a rate that is no number, or no share of the notional within (-1, 1) |
| open interest | ``off_grid``, ``not_finite``, ``not_positive`` | error | a time off the timeframe, no number, a number below 0 |
| open interest | ``gap`` | warning | times of the timeframe without a row |
| trades | ``not_finite``, ``not_positive`` | error | a price or an amount that is no number, or not above 0 |
| trades | ``conflicting_duplicate`` | error | one id for two trades |
| all | ``schema`` | error | other columns or types, or rows without a time |
| all | ``out_of_order``, ``duplicate`` | info | rows after a later one; rows that say the same again |
| all | ``gap_not_downloaded`` | warning | within the rows, times that were never asked for, or not answered |
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from candlewick.funding import FUNDING_SCHEMA, HOUR_MS, funding_holes
from candlewick.market_data.coverage import Coverage, Span
from candlewick.market_data.kinds import DataSeries
from candlewick.market_data.schemas import OPEN_INTEREST_SCHEMA, TRADES_SCHEMA
from candlewick.quality.runs import Times, plural
from candlewick.quality.values import check_grid
from candlewick.timeframes import format_utc, timeframe_ms
from candlewick.validation import Finding, Severity

DEFAULT_INTERVAL_H = 8


def check_kind(rows: pl.DataFrame, series: DataSeries, coverage: Coverage | None = None) -> tuple[Finding, ...]:
    """What is remarkable about rows of funding, open interest or trades, in the order of their spans; sorted or not.

    ``rows`` in the kind's schema (FUNDING_SCHEMA, OPEN_INTEREST_SCHEMA, TRADES_SCHEMA), else that is the one finding.
    """
    schema = {"funding_rate": FUNDING_SCHEMA, "open_interest": OPEN_INTEREST_SCHEMA, "trades": TRADES_SCHEMA}[series.kind]
    findings = _schema(rows, schema)
    if findings or rows.is_empty():
        return tuple(findings)
    time = next(iter(schema))
    findings += _order(rows, time)
    ordered = rows.sort(time, maintain_order=True)
    match series.kind:
        case "funding_rate":
            findings += _funding(ordered)
        case "open_interest":
            findings += _open_interest(ordered, series)
        case _:
            findings += _trades(ordered)
    findings = _by_coverage(findings, _times(ordered, time), coverage)
    return tuple(sorted(findings, key=lambda one: (one.span_start_ms, one.span_end_ms, one.kind, one.evidence)))


def _times(rows: pl.DataFrame, column: str) -> Times:
    times: Times = rows[column].dt.epoch("ms").to_numpy()
    return times


def _schema(rows: pl.DataFrame, schema: Mapping[str, pl.DataType]) -> list[Finding]:
    if rows.schema != dict(schema):
        return [Finding("schema", "error", 0, 1, f"columns are {dict(rows.schema)}; {dict(schema)} are needed")]
    time = next(iter(schema))
    missing = rows[time].null_count()
    return [Finding("schema", "error", 0, 1, f"{plural(missing, 'row')} without {time}")] if missing else []


def _order(rows: pl.DataFrame, column: str) -> list[Finding]:
    times = _times(rows, column)
    late = times[1:][times[1:] < np.maximum.accumulate(times)[:-1]]
    if late.size == 0:
        return []
    text = f"{plural(late.size, 'row')} of {rows.height} came after a later one"
    return [Finding("out_of_order", "info", int(late.min()), int(late.max()) + 1, text)]


def _wrong(rows: pl.DataFrame, kind: str, column: str, broken: pl.Expr, text: str) -> list[Finding]:
    """One finding about the rows that break a rule, from the first to the last of them."""
    found = rows.filter(broken.fill_null(False))
    if found.is_empty():
        return []
    times = _times(found, rows.columns[0])
    said = f"{plural(found.height, 'row')}; {format_utc(int(times[0]))}: {column} {found[column][0]} {text}"
    return [Finding(kind, "error", int(times[0]), int(times[-1]) + 1, said)]


def _repeats(rows: pl.DataFrame, keys: tuple[str, ...], values: tuple[str, ...]) -> list[Finding]:
    """Rows of one key that say the same, or not."""
    several = rows.filter(pl.struct(keys).is_duplicated())
    if several.is_empty():
        return []
    counts = several.group_by(keys, maintain_order=True).agg(pl.struct(values).n_unique().alias("contents"))
    kinds: tuple[tuple[str, Severity, pl.Expr, str], ...] = (
        ("conflicting_duplicate", "error", pl.col("contents") > 1, "more than once with different content"),
        ("duplicate", "info", pl.col("contents") == 1, "more than once, all the same"),
    )
    findings = []
    for kind, severity, which, text in kinds:
        told = counts.filter(which)
        if told.height:
            times = _times(told, rows.columns[0])
            said = f"{plural(told.height, 'row')} {text}; the first at {format_utc(int(times[0]))}"
            findings.append(Finding(kind, severity, int(times[0]), int(times[-1]) + 1, said))
    return findings


def _funding(rows: pl.DataFrame) -> list[Finding]:
    single = rows.unique("funding_at", keep="first", maintain_order=True)
    times = _times(single, "funding_at")
    steps = np.diff(times)
    usual_h = max(1, round(float(np.median(steps)) / HOUR_MS)) if steps.size else DEFAULT_INTERVAL_H
    holes = funding_holes(single, int(times[0]), int(times[-1]) + 1, usual_h)
    share = pl.col("rate").is_null() | ~pl.col("rate").is_finite() | (pl.col("rate").abs() >= 1)
    return [
        *_wrong(rows, "not_finite", "rate", share, "is no share of the notional between -1 and 1"),
        *_repeats(rows, ("funding_at",), ("rate",)),
        *(
            Finding("gap", "warning", one.since_ms, one.until_ms, f"{plural(one.payments, 'payment')} missing between the two")
            for one in holes
        ),
    ]


def _open_interest(rows: pl.DataFrame, series: DataSeries) -> list[Finding]:
    length = timeframe_ms(series.timeframe)
    times = np.unique(_times(rows, "opened_at"))
    at = np.flatnonzero(np.diff(times) > length)
    value, worth = pl.col("open_interest"), pl.col("open_interest_value")
    return [
        *check_grid(times, series.timeframe),
        *_wrong(rows, "not_finite", "open_interest", value.is_null() | ~value.is_finite(), "is no finite number"),
        *_wrong(rows, "not_finite", "open_interest_value", ~worth.is_finite(), "is no finite number"),
        *_wrong(rows, "not_positive", "open_interest", value < 0, "is below 0"),
        *_wrong(rows, "not_positive", "open_interest_value", worth < 0, "is below 0"),
        *_repeats(rows, ("opened_at",), ("open_interest", "open_interest_value")),
        *(
            Finding("gap", "warning", start + length, end, f"{plural((end - start - 1) // length, 'row')} missing")
            for start, end in zip(times[at].tolist(), times[at + 1].tolist(), strict=True)
        ),
    ]


def _trades(rows: pl.DataFrame) -> list[Finding]:
    findings = []
    for name in ("price", "amount"):
        value = pl.col(name)
        findings += _wrong(rows, "not_finite", name, value.is_null() | ~value.is_finite(), "is no finite number")
        findings += _wrong(rows, "not_positive", name, value <= 0, "is not above 0")
    findings += _wrong(rows, "schema", "side", ~pl.col("side").is_in(["buy", "sell"]), "is neither buy nor sell")
    return findings + _repeats(rows, ("traded_at", "trade_id"), ("price", "amount", "side"))


def _by_coverage(findings: list[Finding], times: Times, coverage: Coverage | None) -> list[Finding]:
    """What was not downloaded between the first row and the last, in the place of holes that are only that."""
    if coverage is None or times[0] == times[-1]:
        return findings
    missing = coverage.missing(Span(int(times[0]), int(times[-1])))
    text = "never asked for, or not answered"
    told = [Finding("gap_not_downloaded", "warning", one.since_ms, one.until_ms, text) for one in missing]

    def is_told(finding: Finding) -> bool:
        return finding.kind == "gap" and not coverage.covers(Span(finding.span_start_ms + 1, finding.span_end_ms))

    return [*(one for one in findings if not is_told(one)), *told]
