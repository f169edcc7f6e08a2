"""The end of a series: bars that are not closed, bars cut off while they formed, and a series that has stopped."""

import polars as pl

from candlewick.candles import opened_at_ms
from candlewick.quality.limits import CheckContext
from candlewick.quality.runs import places_of, plural
from candlewick.timeframes import format_duration, format_utc
from candlewick.validation import Finding

HOUR_MS = 3_600_000
SAME_OPEN = 0.001
"""How far the open of a bar that was cut off may be from the whole one's: some collectors take the close before for it."""


def check_recency(bars: pl.DataFrame, context: CheckContext) -> list[Finding]:
    """`unclosed`, `future` and `stale`, by ``now_ms``. ``bars`` are sorted, not empty."""
    if context.now_ms is None:
        return []
    times, now_ms, length = opened_at_ms(bars), context.now_ms, context.length_ms
    findings = []
    forming, future = times[(times <= now_ms) & (times + length > now_ms)], times[times > now_ms]
    if forming.size:
        text = f"{plural(forming.size)} not closed at {format_utc(now_ms)}"
        findings.append(Finding("unclosed", "info", int(forming[0]), int(forming[-1]) + length, text))
    if future.size:
        text = f"{plural(future.size)} opening after {format_utc(now_ms)}: a clock or a unit is wrong"
        findings.append(Finding("future", "warning", int(future[0]), int(future[-1]) + length, text))
    closed_ms = int(times[-1]) + length
    patience_ms = max(context.limits.stale_bars * length, HOUR_MS)
    if (
        _asked_until(context, now_ms) - closed_ms > patience_ms
    ):  # Its words do not hang on the clock: the same silence is one finding for ever.
        text = f"the last bar closed at {format_utc(closed_ms)}; none came for more than {format_duration(patience_ms)}"
        findings.append(Finding("stale", "warning", closed_ms, closed_ms + patience_ms, text))
    return findings


def _asked_until(context: CheckContext, now_ms: int) -> int:
    """Until when the market was asked: a series that nobody asked for any longer is not downloaded, and has not stopped."""
    spans = context.coverage.spans if context.coverage is not None else ()
    return min(now_ms, spans[-1].until_ms) if spans else now_ms


def check_partial(bars: pl.DataFrame, context: CheckContext, same_exchange: frozenset[str]) -> list[Finding]:
    """`partial_candle`: the last bar, where another collector of the exchange continues it: the same open, a range inside of
    the other's, and less volume. It was stored before it closed. ``bars`` are sound."""
    times, ours = opened_at_ms(bars[-1:]), bars.row(-1, named=True)
    for name in sorted(same_exchange):
        places, there = places_of(times, opened_at_ms(context.others[name]))
        if not there[0]:
            continue
        whole = context.others[name].row(int(places[0]), named=True)
        less = ours["volume"] < whole["volume"] * (1 - context.limits.partial_share)
        inside = ours["high"] <= whole["high"] and ours["low"] >= whole["low"]
        if less and inside and abs(ours["open"] / whole["open"] - 1) <= SAME_OPEN:
            told = f"volume {ours['volume']} and close {ours['close']} where {name} has {whole['volume']} and {whole['close']}"
            text = f"the last bar was stored before it closed: {told}"
            return [Finding("partial_candle", "warning", int(times[0]), int(times[0]) + context.length_ms, text)]
    return []
