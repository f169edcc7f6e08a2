"""Checks of single rows as they came: columns, values, order, rows for one time, and the timeframe's grid."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, PRICE_COLUMNS, opened_at_ms
from candlewick.quality.runs import Bools, Run, Times, plural, run_findings, runs_of
from candlewick.timeframes import floor_to_bar, format_duration, format_utc, timeframe_ms
from candlewick.validation import Finding, Severity

NUMBERS = (*PRICE_COLUMNS, "volume")
NEAR_BARS = 24
"""Conflicting rows, and rows off the grid, no further apart than this make one finding: files overlap and alternate."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``broken`` is true for rows whose ``column`` is not what it must be; ``text`` says what it is instead."""

    kind: str
    column: str
    broken: pl.Expr
    text: str


RULES = (
    *(Rule("not_finite", name, pl.col(name).is_null() | ~pl.col(name).is_finite(), "is no finite number") for name in NUMBERS),
    *(Rule("not_positive", name, pl.col(name) <= 0, "is not above 0") for name in PRICE_COLUMNS),
    Rule("not_positive", "volume", pl.col("volume") < 0, "is below 0"),
    Rule("high_low", "high", pl.col("high") < pl.max_horizontal("open", "close"), "is below the open or the close"),
    Rule("high_low", "low", pl.col("low") > pl.min_horizontal("open", "close"), "is above the open or the close"),
    Rule("high_low", "high", pl.col("high") < pl.col("low"), "is below the low"),
)


def check_columns(candles: pl.DataFrame) -> list[Finding]:
    """`schema`: columns and types other than CANDLE_SCHEMA, and rows without a time. Nothing else is looked at then."""
    if candles.schema != dict(CANDLE_SCHEMA):
        told = ", ".join(f"{name} {kind}" for name, kind in candles.schema.items())
        wanted = ", ".join(f"{name} {kind}" for name, kind in CANDLE_SCHEMA.items())
        times = candles.get_column("opened_at", default=None)
        first_ms, last_ms = _span(times) if times is not None and times.dtype.is_(CANDLE_SCHEMA["opened_at"]) else (0, 0)
        return [Finding("schema", "error", first_ms, last_ms + 1, f"columns are {told}; {wanted} are needed")]
    missing = candles["opened_at"].null_count()
    if missing:
        first_ms, last_ms = _span(candles["opened_at"])
        return [Finding("schema", "error", first_ms, last_ms + 1, f"{plural(missing, 'row')} without an open time")]
    return []


def _span(times: pl.Series) -> tuple[int, int]:
    known = times.drop_nulls().dt.epoch("ms").to_numpy()
    return (int(known.min()), int(known.max())) if known.size else (0, 0)


def check_values(bars: pl.DataFrame, length_ms: int) -> tuple[Bools, list[Finding]]:
    """Which bars are sound, shape (rows,), and what is wrong with the others: `not_finite`, `not_positive`, `high_low`."""
    flags = bars.select([rule.broken.fill_null(False).alias(str(place)) for place, rule in enumerate(RULES)])
    sound = ~flags.select(pl.any_horizontal(pl.all())).to_series().to_numpy()
    if sound.all():
        return sound, []
    findings: list[Finding] = []
    times, told = opened_at_ms(bars), np.zeros(bars.height, np.bool_)
    for kind in dict.fromkeys(rule.kind for rule in RULES):
        rules = [(place, rule) for place, rule in enumerate(RULES) if rule.kind == kind]
        broken = flags.select(pl.any_horizontal(str(place) for place, _ in rules)).to_series().to_numpy() & ~told
        told |= broken  # A bar without a number is not told again for what follows from that.
        places = np.flatnonzero(broken)
        for run in runs_of(times[places], length_ms):
            row = int(places[run.first])
            texts = [f"{rule.column} {bars[rule.column][row]} {rule.text}" for place, rule in rules if flags[str(place)][row]]
            text = f"{plural(run.bars)}; {format_utc(run.start_ms)}: {', '.join(texts)}"
            findings.append(Finding(kind, "error", run.start_ms, run.end_ms, text))
    return sound, findings


def check_order(candles: pl.DataFrame, length_ms: int) -> list[Finding]:
    """`out_of_order`: rows that came after a later one; where nearly all did, those that are not newest first."""
    times = opened_at_ms(candles)
    steps = np.diff(times)
    if not (steps < 0).any():
        return []
    turned = bool((steps < 0).sum() > (steps > 0).sum())
    forwards = times[::-1] if turned else times
    late = forwards[1:] < np.maximum.accumulate(forwards)[:-1]
    wrong = times if turned else forwards[1:][late]
    text = f"{plural(int(late.sum()), 'row')} of {candles.height} out of order"
    text = f"rows come newest first, {text}" if turned else text
    return [Finding("out_of_order", "info", int(wrong.min()), int(wrong.max()) + length_ms, text)]


def single_bars(candles: pl.DataFrame, length_ms: int) -> tuple[pl.DataFrame, list[Finding]]:
    """One row a time, sorted; of several the first that came. `duplicate` for the same again, `conflicting_duplicate` for
    other numbers: an error where a price differs, a warning where only the volume does."""
    ordered = candles if candles["opened_at"].is_sorted() else candles.sort("opened_at", maintain_order=True)
    times = opened_at_ms(ordered)
    again = np.concatenate(([False], np.diff(times) == 0)) if times.size else np.zeros(0, np.bool_)
    if not again.any():
        return ordered, []
    several = ordered.filter(pl.Series(np.isin(times, times[again])))
    told = several.group_by("opened_at", maintain_order=True).agg(pl.col(name).unique(maintain_order=True) for name in NUMBERS)
    prices = pl.any_horizontal(pl.col(name).list.len() > 1 for name in PRICE_COLUMNS)
    volumes = pl.col("volume").list.len() > 1
    same = opened_at_ms(told.filter(~prices & ~volumes))
    findings = [
        *_conflicts(told.filter(prices), "error", "with different prices", length_ms),
        *_conflicts(told.filter(~prices & volumes), "warning", "with the same prices and another volume", length_ms),
        *run_findings("duplicate", "info", same, length_ms, lambda run: f"{plural(run.bars)} more than once, all the same"),
    ]
    return ordered.filter(pl.Series(~again)), findings


def _conflicts(told: pl.DataFrame, severity: Severity, text: str, length_ms: int) -> list[Finding]:
    def evidence(run: Run) -> str:
        bar = told.row(run.first, named=True)
        column = next(name for name in NUMBERS if len(bar[name]) > 1)
        values = " and ".join(str(value) for value in bar[column])
        return f"{plural(run.bars)} more than once {text}; {format_utc(run.start_ms)}: {column} {values}"

    return run_findings("conflicting_duplicate", severity, opened_at_ms(told), length_ms, evidence, NEAR_BARS)


def check_grid(times_ms: Times, timeframe: str) -> list[Finding]:
    """`off_grid`: bars that do not open where bars of the timeframe do; those no more than NEAR_BARS apart as one."""
    length_ms = timeframe_ms(timeframe)
    off = (times_ms - floor_to_bar(0, timeframe)) % length_ms
    places = np.flatnonzero(off)
    if places.size == 0:
        return []
    starts = np.concatenate(([0], np.flatnonzero(np.diff(times_ms[places]) > NEAR_BARS * length_ms) + 1))
    findings = []
    for part in np.split(places, starts[1:]):
        values, counts = np.unique(off[part], return_counts=True)
        most = int(values[counts.argmax()])
        text = f"{plural(part.size)} off the {timeframe} grid, most of them by {format_duration(most)}"
        findings.append(Finding("off_grid", "error", int(times_ms[part[0]]), int(times_ms[part[-1]]) + length_ms, text))
    return findings
