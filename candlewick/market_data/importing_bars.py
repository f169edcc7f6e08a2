"""Rows with times and numbers into candles: broken values, the grid, rows that repeat or contradict each other, and order.

One month or year at a time. Nothing is guessed: what the user has not settled is a problem with its lines.
"""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, PRICE_COLUMNS
from candlewick.market_data.importing_report import Note, Problem, numbered, rows_text
from candlewick.market_data.importing_schema import ImportRequest
from candlewick.market_data.importing_volume import VolumeSurvey, with_base_volume
from candlewick.quality.values import RULES
from candlewick.timeframes import DAY_MS, floor_to_bar, format_duration, format_utc, timeframe_ms
from candlewick.validation import Finding, Severity

_NUMBERS = (*PRICE_COLUMNS, "volume")
# A volume that is rounded differs by half of its last digit; some round up, some down.
_ROUNDED = 1.001
_MOST_DECIMALS = 10
_LAST_BARS = 48
_MOST_RUNS = 1000


@dataclass(slots=True)
class BarsJudged:
    """What was counted over all months; filled one by one. Lists of lines hold a few each; spans are [start, end) in ms."""

    rows: int = 0
    kept: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    step_ms: int = 0
    short_steps: dict[int, int] = field(default_factory=dict)
    gaps: int = 0
    missing: int = 0
    repeated: int = 0
    rounded: int = 0
    conflicting: int = 0
    other_prices: int = 0
    conflict_lines: list[int] = field(default_factory=list)
    conflict_text: str = ""
    broken: int = 0
    broken_lines: list[int] = field(default_factory=list)
    broken_text: str = ""
    off_grid: int = 0
    off_lines: list[int] = field(default_factory=list)
    off_times: dict[str, int] = field(default_factory=dict)
    future: int = 0
    future_lines: list[int] = field(default_factory=list)
    unproved: int = 0
    unproved_lines: list[int] = field(default_factory=list)
    unclosed: int = 0
    swapped: int = 0
    last_volumes: list[float] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def judge_bars(rows: pl.DataFrame, request: ImportRequest, volumes: VolumeSurvey, judged: BarsJudged) -> pl.DataFrame:
    """The candles (CANDLE_SCHEMA) of a month's or year's rows; the counts go to ``judged``. Months come in order of time."""
    length_ms, offset_ms = timeframe_ms(request.timeframe), floor_to_bar(0, request.timeframe)
    ordered = with_base_volume(rows.sort("ms", "line"), volumes, request.schema)
    _note_volumes(ordered, length_ms, judged)
    _note_future(ordered, request.now_ms, judged)
    _note_off_grid(ordered.filter((pl.col("ms") - offset_ms) % length_ms != 0), judged)
    single = _single(_sound(ordered, length_ms, judged), request, length_ms, judged)
    closed = single.filter(pl.col("ms") + length_ms <= request.now_ms)
    judged.unclosed += single.height - closed.height
    _note_steps(closed, length_ms, judged)
    judged.rows += rows.height
    judged.kept += closed.height
    time = pl.from_epoch("ms", "ms").dt.replace_time_zone("UTC").alias("opened_at")
    return closed.select(time, *_NUMBERS).select(pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items())


def bar_problems(judged: BarsJudged, request: ImportRequest) -> list[Problem]:
    """What keeps the file out."""
    found = []
    if judged.future:
        text = f"times in the future in {rows_text(judged.future)}:"
        found.append(Problem("ambiguous", text, "say time_unit or timezone in the schema", numbered(judged.future_lines)))
    if judged.off_grid:
        found.append(_off_grid(judged, request))
    elif judged.kept > 2 and judged.step_ms > timeframe_ms(request.timeframe):
        step = format_duration(judged.step_ms)
        text = f"all rows are {step} or a multiple of it apart, and {request.timeframe} was asked for"
        found.append(Problem("ambiguous", text, f"ask for --timeframe {step.replace(' ', '')}"))
    if judged.broken and not request.drop_broken:
        text = f"values that cannot be true in {judged.broken:,} of {judged.rows:,} rows ({judged.broken_text}):"
        advice = "correct the file, or leave them out with --drop-broken; the gap stays a gap"
        found.append(Problem("broken", text, advice, numbered(judged.broken_lines)))
    if judged.unproved:
        text = f"between swapped and unswapped volumes {rows_text(judged.unproved)} cannot be told to be either:"
        advice = "say `volume: {swapped_before: DATE}` in the schema"
        found.append(Problem("ambiguous", text, advice, numbered(judged.unproved_lines)))
    if judged.conflicting and request.resolve is None:
        prices = f" ({judged.other_prices:,} with different prices)" if judged.other_prices else ""
        times = "1 time is" if judged.conflicting == 1 else f"{judged.conflicting:,} times are"
        text = f"{times} there with different candles{prices}, such as {judged.conflict_text}:"
        advice = "settle it with --resolve first, last (in the order of the file) or drop (neither)"
        found.append(Problem("ambiguous", text, advice, tuple(judged.conflict_lines)))
    if not judged.kept and not found:
        found.append(Problem("broken", f"no closed candle of {request.timeframe} is left", "import another file"))
    return found


def bar_notes(judged: BarsJudged, request: ImportRequest) -> list[Note]:
    """What was found in the candles and what was done."""
    notes = [Note("timeframe", f"{request.timeframe}, as asked", "", judged.kept)]
    if judged.repeated:
        rounded = f", {judged.rounded:,} of them with a rounded volume" if judged.rounded else ""
        text = f"rows that repeat a candle{rounded}"
        notes.append(Note("duplicates", text, "dropped; the more exact one is kept", judged.repeated))
    if judged.conflicting:
        done = {"first": "the first in the file kept", "last": "the last in the file kept", "drop": "both dropped: gaps"}
        settled = f"{done[request.resolve or 'drop']} (asked)"
        notes.append(Note("conflicts", "times with two different candles", settled, judged.conflicting))
    if judged.broken:
        notes.append(Note("broken", f"values that cannot be true ({judged.broken_text})", "left out (asked)", judged.broken))
    if judged.unclosed:
        notes.append(Note("last row", "candles that have not closed yet", "left out", judged.unclosed))
    median = float(np.median(judged.last_volumes[:-1])) if len(judged.last_volumes) > _LAST_BARS // 2 else 0.0
    if judged.last_ms is not None and judged.last_volumes and judged.last_volumes[-1] < median / 4:
        told = f"{judged.last_volumes[-1]:g}, a quarter of {median:g} and less"
        notes.append(Note("last row", f"the volume of {format_utc(judged.last_ms)} is {told}: unfinished?", "kept", 1))
    notes.append(Note("gaps", f"candles missing: {judged.missing:,}", "kept as gaps", judged.gaps))
    return notes


def _collect(lines: list[int], rows: pl.DataFrame) -> None:
    lines.extend(rows["line"].head(5).to_list())


def _off_grid(judged: BarsJudged, request: ImportRequest) -> Problem:
    length_ms = timeframe_ms(request.timeframe)
    times = ", ".join(f"{count:,} at {time}" for time, count in sorted(judged.off_times.items(), key=lambda at: -at[1])[:3])
    text = f"{judged.off_grid:,} of {judged.rows:,} rows do not open on the {request.timeframe} grid in UTC ({times} UTC):"
    common_ms, count = max(judged.short_steps.items(), key=lambda step: step[1], default=(length_ms, 0))
    if 2 * count > judged.rows and length_ms % common_ms == 0:
        step = format_duration(common_ms)
        advice = f"most rows are {step} apart: ask for --timeframe {step.replace(' ', '')}"
    elif length_ms >= DAY_MS:
        advice = "they are days of another zone, which are no UTC days: import hourly candles instead"
    else:
        advice = "say the clocks' zone in the schema (`timezone: America/New_York`) where the times name none, or correct it"
    return Problem("ambiguous", text, advice, numbered(judged.off_lines))


def _sound(rows: pl.DataFrame, length_ms: int, judged: BarsJudged) -> pl.DataFrame:
    """The rows whose values can be true."""
    texts = (pl.when(rule.broken).then(pl.lit(f"{rule.column} {rule.text}")) for rule in RULES)
    told = rows.with_columns(pl.coalesce(*texts).alias("why"))
    bad = told.filter(pl.col("why").is_not_null() & pl.col("swapped").is_not_null())
    if bad.height:
        judged.broken += bad.height
        _collect(judged.broken_lines, bad)
        judged.broken_text = judged.broken_text or f"the first one's {bad['why'][0]}"
        text = "broken rows of the imported file left out"
        judged.findings += _findings("refused", "warning", bad, length_ms, text)
    return told.filter(pl.col("why").is_null()).drop("why")


def _single(rows: pl.DataFrame, request: ImportRequest, length_ms: int, judged: BarsJudged) -> pl.DataFrame:
    """One row a time. Rows that agree but for a rounded volume are one candle, the most exact one."""
    again = pl.col("ms").is_duplicated()
    if not rows.select(again.any()).item():
        return rows
    pairs = rows.filter(again)
    decimals = pl.lit(_MOST_DECIMALS)
    for places in reversed(range(_MOST_DECIMALS)):
        decimals = pl.when(pl.col("volume").round(places) == pl.col("volume")).then(places).otherwise(decimals)
    # Most decimals first; rows of equal exactness keep the file's order.
    pairs = pairs.with_columns(decimals.alias("decimals")).sort(["ms", "decimals", "line"], descending=[False, True, False])
    best = {name: pl.col(name).first().over("ms") for name in _NUMBERS}
    near = (pl.col("volume") - best["volume"]).abs() <= 0.5 * _ROUNDED * pl.lit(10.0).pow(-pl.col("decimals").cast(pl.Float64()))
    same = pl.all_horizontal(pl.col(name) == best[name] for name in PRICE_COLUMNS) & (near | (pl.col("volume") == best["volume"]))
    pairs = pairs.with_columns(same.alias("same")).with_columns(pl.col("same").all().over("ms").alias("agree"))
    agreeing, other = pairs.filter("agree"), pairs.filter(~pl.col("agree")).sort("ms", "line")
    one = agreeing.unique("ms", keep="first", maintain_order=True)
    judged.repeated += agreeing.height - one.height
    judged.rounded += agreeing.filter(pl.col("volume") != best["volume"]).height
    text = "bars were there more than once in the imported file; one of each kept"
    judged.findings += _findings("duplicate", "info", one, length_ms, text)
    chosen = _resolve(other, request, length_ms, judged)
    return pl.concat([rows.filter(~again), one.select(rows.columns), chosen.select(rows.columns)]).sort("ms")


def _resolve(other: pl.DataFrame, request: ImportRequest, length_ms: int, judged: BarsJudged) -> pl.DataFrame:
    """Of rows that contradict each other the one that the user chose; while nobody has, the first one."""
    first = other.unique("ms", keep="first", maintain_order=True)
    if first.is_empty():
        return other
    judged.conflicting += first.height
    prices = pl.any_horizontal(pl.col(name).n_unique().over("ms") > 1 for name in PRICE_COLUMNS)
    judged.other_prices += other.filter(prices)["ms"].n_unique()
    if not judged.conflict_lines:
        shown = other.filter(pl.col("ms") == other["ms"][0])
        judged.conflict_lines = shown["line"].head(5).to_list()
        judged.conflict_text = f"{format_utc(int(other['ms'][0]))} UTC in the lines {', '.join(map(str, judged.conflict_lines))}"
    if request.resolve is not None:
        done = "neither kept" if request.resolve == "drop" else f"the {request.resolve} in the file kept"
        text = f"bars were there with different content; {done}, as asked"
        judged.findings += _findings("resolved_duplicate", "warning", first, length_ms, text)
    if request.resolve == "drop":
        return first.head(0)
    return other.unique("ms", keep="last", maintain_order=True) if request.resolve == "last" else first


def _note_volumes(rows: pl.DataFrame, length_ms: int, judged: BarsJudged) -> None:
    unproved, swapped = rows.filter(pl.col("swapped").is_null()), rows.filter("swapped")
    judged.unproved += unproved.height
    _collect(judged.unproved_lines, unproved)
    judged.swapped += swapped.height
    text = "bars had base and quote volume swapped; swapped back"
    judged.findings += _findings("swapped_volume", "info", swapped, length_ms, text)


def _note_future(rows: pl.DataFrame, now_ms: int, judged: BarsJudged) -> None:
    late = rows.filter(pl.col("ms") > now_ms + DAY_MS)
    judged.future += late.height
    _collect(judged.future_lines, late)


def _note_off_grid(off: pl.DataFrame, judged: BarsJudged) -> None:
    judged.off_grid += off.height
    _collect(judged.off_lines, off)
    clock = pl.from_epoch("ms", "ms").dt.strftime("%H:%M:%S")
    for time, count in off.select(clock.alias("time"))["time"].value_counts().iter_rows():
        judged.off_times[time] = judged.off_times.get(time, 0) + count


def _note_steps(rows: pl.DataFrame, length_ms: int, judged: BarsJudged) -> None:
    if rows.is_empty():
        return
    times = rows["ms"].to_numpy()
    steps = np.diff(times if judged.last_ms is None else np.concatenate([[judged.last_ms], times]))
    if steps.size:
        judged.step_ms = int(np.gcd(judged.step_ms, np.gcd.reduce(steps)))
        for step, count in zip(*np.unique(steps[steps < length_ms], return_counts=True), strict=True):
            judged.short_steps[int(step)] = judged.short_steps.get(int(step), 0) + int(count)
        holes = steps[steps > length_ms]
        judged.gaps += int(holes.size)
        judged.missing += int((holes // length_ms - 1).sum())
    judged.first_ms = int(times[0]) if judged.first_ms is None else judged.first_ms
    judged.last_ms = int(times[-1])
    judged.last_volumes = [*judged.last_volumes, *rows["volume"].tail(_LAST_BARS + 1).to_list()][-_LAST_BARS - 1 :]


def _findings(kind: str, severity: Severity, rows: pl.DataFrame, length_ms: int, text: str) -> list[Finding]:
    """One finding for each unbroken run of bars; one for all where there are very many."""
    times = np.unique(rows["ms"].to_numpy())
    if not times.size:
        return []
    borders = np.flatnonzero(np.diff(times) > length_ms)
    if borders.size >= _MOST_RUNS:
        return [Finding(kind, severity, int(times[0]), int(times[-1]) + length_ms, f"{times.size} {text}")]
    starts, ends = np.concatenate([[0], borders + 1]), np.concatenate([borders, [times.size - 1]])
    return [
        Finding(kind, severity, int(times[start]), int(times[end]) + length_ms, f"{end - start + 1} {text}")
        for start, end in zip(starts, ends, strict=True)
    ]
