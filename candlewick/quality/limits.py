"""What the checks of one series go by: everything that is known beside its candles, and the limits of each rule.

The limits were set on the real candles of five exchanges, clean and broken, so that crashes and flash crashes (2020-03-12,
2021-05-19, 2025-10-10) are no findings and the errors published with them are. docs/data.md says them, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from candlewick.candles import Series
from candlewick.market_data.coverage import Coverage
from candlewick.timeframes import timeframe_ms


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """Limits of the rules. Bars are counted in the timeframe of the series, moves are log returns (0.1 is about 10 %)."""

    quiet_bars: int = 144
    """How far on either side of a hole other silences are looked for; a silence that is longer than this is not believed."""
    quiet_others: int = 3
    """So many other silences near a hole, half of them of a single bar, make a market in which bars without trades are usual:
    large exchanges had two outages in twelve days at the most."""
    spike_z: float = 40.0
    """A spike is so many times the median range (log of high over low) of the bars around: real ones came to 33."""
    spike_move: float = 0.1
    """Below this a spike is none, however calm the bars around it are."""
    window_bars: int = 101
    """Bars, half of them on either side, that a bar's usual range and volume are taken from."""
    rush_factor: float = 3.0
    """From so many times the usual volume on, a spike is taken for real: flash crashes came with 4 to 150 times."""
    other_z: float = 20.0
    """Robust z of the log price ratio to another source from which on a price may be wrong."""
    same_exchange_move: float = 0.03
    """How far a price may be off that of another collector of the same exchange. Some take the close before for the open, which
    came to 0.023 on a young market; what differs at all is for `validate --against`."""
    other_exchange_move: float = 0.1
    """How far a price may be off that of another exchange; single flash crashes came to 0.11, with a rush of volume."""
    same_exchange_share: float = 0.5
    """A source that has the same close in so many of the common bars is the same exchange, told by somebody else."""
    missing_share: float = 0.01
    """A coarser bar saw trades that are not in ours when they are this share of its volume: collectors round, and some lose a
    trade."""
    partial_share: float = 0.02
    """The last bar was stored before it closed when this share of its volume is missing at least."""
    stale_bars: int = 3
    """A series is stale when its last bar closed more than so many bars ago, and an hour at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """The series, and what else is known. All frames in CANDLE_SCHEMA, validated; none is needed.

    ``now_ms`` is the market's clock (None: the past is looked at, nothing is open or stale). ``coverage`` is what was asked for
    and answered (None: nobody noted it). ``coarser`` and ``finer`` are other timeframes of the same market and symbol, by
    timeframe; ``others`` is the same instrument in the same timeframe as somebody else tells it, by that source's name.
    """

    series: Series
    now_ms: int | None = None
    coverage: Coverage | None = None
    coarser: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    finer: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    others: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    limits: CheckLimits = field(default_factory=CheckLimits)

    @property
    def length_ms(self) -> int:
        """Length of a bar in milliseconds."""
        return timeframe_ms(self.series.timeframe)
