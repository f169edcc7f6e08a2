"""How far the funding of perpetuals is known: an account moves up to there and waits for what is not published yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from candlewick.engine.grids import Integers
from candlewick.funding import FundingHole, funding_at_ms, funding_holes, require_funding
from candlewick.timeframes import DAY_MS, format_utc

PATIENCE_MS = 2 * DAY_MS
"""Funding that ends so long before the candles is no payment that is published late."""


@dataclass(frozen=True, slots=True)
class Funded:
    """``payments`` in FUNDING_SCHEMA by perpetual. All that are due before the close of the bar at ``until_ms`` are among them;
    None: nothing has to be known (there is no perpetual). ``waiting`` says in words what is not there yet, ``failures`` why it
    could not be asked for, by symbol.
    """

    payments: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    until_ms: int | None = None
    waiting: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


def funded_bar(symbol: str, known: pl.DataFrame, bars: Integers, length_ms: int, interval_h: int) -> int:
    """Open time of the last of ``bars`` up to whose close no payment is unknown; a time before all of them where there is none.

    ``known`` in FUNDING_SCHEMA, normalised, with rows before the first bar. ``bars``: open times in ms, ascending. Raises
    FundingMissing for a payment that is unknown although later ones are known, or the candles are more than two days further.
    """
    since_ms, until_ms = int(bars[0]), int(bars[-1]) + length_ms
    holes = funding_holes(known, since_ms, until_ms, interval_h)
    if not holes:
        return int(bars[-1])
    if len(holes) > 1 or not _is_late(holes[0], known, until_ms):
        require_funding(symbol, known, since_ms, until_ms, interval_h)
    first, end = 0, len(bars) - 1  # the payment is due in one of these: the first whose close comes after it
    while first < end:
        middle = (first + end) // 2
        if funding_holes(known, since_ms, int(bars[middle]) + length_ms, interval_h):
            end = middle
        else:
            first = middle + 1
    return int(bars[first - 1]) if first else since_ms - 1


def waiting_text(symbol: str, known: pl.DataFrame, bar_ms: int, length_ms: int) -> str:
    """What a notice says of an account that has moved to the bar at ``bar_ms`` only."""
    times = funding_at_ms(known)
    last = f"the last one known is of {format_utc(int(times[-1]))} UTC" if times.size else "none is known yet"
    after = format_utc(bar_ms + length_ms)
    return f"waiting for {symbol}: a funding payment that is due after {after} UTC is not published yet; {last}"


def _is_late(hole: FundingHole, known: pl.DataFrame, until_ms: int) -> bool:
    times = funding_at_ms(known)
    return not (times > hole.since_ms).any() and until_ms - hole.since_ms <= PATIENCE_MS
