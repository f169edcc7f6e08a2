"""Bars of a finer timeframe inside the bars that are traded: which belong to which, and whether both tell one story.

With `--detail 1m` the order of stop and target inside a bar is taken from the minutes. That is only worth something where
the minutes add up to the bar: its open is the first one's, its high and low are their extremes, its close is the last one's.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.errors import UsageError
from candlewick.timeframes import floor_to_bar, timeframe_ms
from candlewick.validation import Finding

Offsets = npt.NDArray[np.int64]

_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True)
class DetailBars:
    """``detail`` in CANDLE_SCHEMA, those rows alone that belong to a coarse bar.

    ``offsets`` int64, shape (coarse bars + 1,): rows ``offsets[i]`` up to ``offsets[i + 1]`` are inside of coarse bar ``i``;
    none where the two are equal. ``findings`` in order of time, see ``align_detail``.
    """

    detail: pl.DataFrame
    offsets: Offsets
    findings: tuple[Finding, ...]

    @property
    def disagrees(self) -> bool:
        """Whether a coarse bar is not the aggregation of its detail bars."""
        return any(finding.kind == "detail_disagrees" for finding in self.findings)


def align_detail(coarse: pl.DataFrame, detail: pl.DataFrame, timeframe: str, detail_timeframe: str) -> DetailBars:
    """Put detail bars to their coarse bars, both validated, in CANDLE_SCHEMA.

    Findings: ``detail_disagrees`` (error) for each coarse bar whose open, high, low or close is not exactly the
    aggregation of its detail bars; ``detail_missing`` for each run of coarse bars with fewer detail bars than fit in (info
    where some are there: minutes without trades have no bar; warning where none is); ``detail_without_bar`` (warning) for detail
    bars outside of every coarse bar. Raises UsageError for a detail timeframe that does not divide the coarse one.
    """
    length_ms, detail_ms = timeframe_ms(timeframe), timeframe_ms(detail_timeframe)
    refuse_detail_timeframe(timeframe, detail_timeframe)
    opened, detail_opened = opened_at_ms(coarse), opened_at_ms(detail)
    start = np.searchsorted(detail_opened, opened)
    end = np.searchsorted(detail_opened, opened + length_ms)
    inside = np.zeros(detail.height + 1, dtype=np.int64)
    np.add.at(inside, start, 1)
    np.add.at(inside, end, -1)
    belongs = np.cumsum(inside)[:-1] > 0
    kept = detail.filter(pl.Series(belongs, dtype=pl.Boolean))
    counts = (end - start).astype(np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    findings = [
        *_disagreements(coarse, kept, offsets, length_ms),
        *_missing(opened, counts, length_ms, detail_ms),
        *_without_bar(detail_opened[~belongs], detail_ms),
    ]
    return DetailBars(kept, offsets, tuple(sorted(findings, key=lambda finding: finding.span_start_ms)))


def refuse_detail_timeframe(timeframe: str, detail_timeframe: str) -> None:
    """Raise UsageError for a detail timeframe that is not finer, or whose bars do not fill a coarse bar exactly."""
    length_ms, detail_ms = timeframe_ms(timeframe), timeframe_ms(detail_timeframe)
    if detail_ms >= length_ms:
        raise UsageError(f"detail {detail_timeframe} is not finer than the timeframe {timeframe}")
    shared_grid = floor_to_bar(0, timeframe) == floor_to_bar(floor_to_bar(0, timeframe), detail_timeframe)
    if length_ms % detail_ms or not shared_grid:
        raise UsageError(f"bars of {timeframe} are not made of whole bars of {detail_timeframe}: choose a detail that divides it")


def _disagreements(coarse: pl.DataFrame, detail: pl.DataFrame, offsets: Offsets, length_ms: int) -> list[Finding]:
    """One finding for each coarse bar that has detail bars and is not made of them."""
    full = np.flatnonzero(np.diff(offsets) > 0)
    if full.size == 0:
        return []
    first, last = offsets[full], offsets[full + 1] - 1
    made = {
        "open": detail["open"].to_numpy()[first],
        "high": np.maximum.reduceat(detail["high"].to_numpy(), first),
        "low": np.minimum.reduceat(detail["low"].to_numpy(), first),
        "close": detail["close"].to_numpy()[last],
    }
    told = {name: coarse[name].to_numpy()[full] for name in _PRICES}
    differs = {name: told[name] != made[name] for name in _PRICES}
    opened = opened_at_ms(coarse)[full]
    return [
        Finding("detail_disagrees", "error", int(opened[at]), int(opened[at]) + length_ms, _differences(told, made, differs, at))
        for at in np.flatnonzero(np.logical_or.reduce(list(differs.values()))).tolist()
    ]


def _differences(
    told: dict[str, npt.NDArray[np.float64]],
    made: dict[str, npt.NDArray[np.float64]],
    differs: dict[str, npt.NDArray[np.bool_]],
    at: int,
) -> str:
    parts = [f"{name} {told[name][at]} is {made[name][at]} in its detail bars" for name in _PRICES if differs[name][at]]
    return ", ".join(parts)


def _missing(opened: Offsets, counts: Offsets, length_ms: int, detail_ms: int) -> list[Finding]:
    """One finding for each run of neighbouring coarse bars that lack all, or lack some, of their detail bars."""
    whole = length_ms // detail_ms
    state = np.where(counts == 0, 2, np.where(counts < whole, 1, 0))
    borders = np.flatnonzero(np.diff(state)) + 1
    findings = []
    for run in np.split(np.arange(state.size), borders):
        if run.size == 0 or state[run[0]] == 0:
            continue
        absent = int(whole * run.size - counts[run].sum())
        span = int(opened[run[0]]), int(opened[run[-1]]) + length_ms
        said = f"{absent} of {whole * run.size} detail bars are missing in {run.size} bars"
        findings.append(Finding("detail_missing", "warning" if state[run[0]] == 2 else "info", *span, said))
    return findings


def _without_bar(orphans: Offsets, detail_ms: int) -> list[Finding]:
    if orphans.size == 0:
        return []
    said = f"{orphans.size} detail bars are inside of no bar and left out"
    return [Finding("detail_without_bar", "warning", int(orphans[0]), int(orphans[-1]) + detail_ms, said)]
