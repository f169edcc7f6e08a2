"""Buying the golden zone of a Fibonacci retracement in an up-swing."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import Strategy
from candlewick.strategies.decisions import BoolArray, FloatArray, becomes_true, decide, price_text, prices

Confirmation = Literal["close_up", "rejection", "none"]


class FibonacciGoldenZone(Strategy):
    """Buys a pullback into the 0.5-0.618 retracement of an up-swing, with a stop beyond 0.786 and targets at and above the high.

    The swing is the highest high and the lowest low of the last `lookback_bars` bars, this one included; it is an up-swing
    when the low came before the high. A retracement r is the price high - r x (high - low), an extension e the price
    low + e x (high - low).
    """

    name: ClassVar[str] = "fibonacci_golden_zone"
    lookback_bars: int = Field(48, ge=3, le=5_000, description="bars in which the swing's high and low are looked for")
    min_swing_bps: float = Field(300.0, ge=0, le=100_000, description="height of the smallest swing traded, in bps of its low")
    zone_upper: float = Field(0.5, gt=0, lt=1, description="retracement at which the golden zone begins")
    zone_lower: float = Field(0.618, gt=0, lt=1, description="retracement at which the golden zone ends; beyond zone_upper")
    confirmation: Confirmation = Field(
        "close_up",
        description="what the close in the zone needs besides: close_up (above the bar's open and the previous close), "
        "rejection (above the open, after the bar's low was below the zone), none",
    )
    stop_retracement: float = Field(0.786, gt=0, le=1, description="retracement beyond which the stop lies; beyond zone_lower")
    stop_buffer_bps: float = Field(10.0, ge=0, le=5_000, description="how far below stop_retracement the stop lies, in bps of it")
    target_2_extension: float = Field(
        1.618,
        gt=1,
        le=10,
        description="extension of the swing at which the second target lies: 1.272, 1.618, ... (the first is the high)",
    )
    one_entry_per_swing: bool = Field(True, description="whether one swing high is bought once at most; if not, each time anew")

    @model_validator(mode="after")
    def _retracements_in_order(self) -> Self:
        if not self.zone_upper < self.zone_lower < self.stop_retracement:
            raise ValueError(
                f"zone_upper is {self.zone_upper}, zone_lower is {self.zone_lower} and stop_retracement is "
                f"{self.stop_retracement}; each must be below the next"
            )
        return self

    @property
    def warmup(self) -> int:
        """``lookback_bars``: one bar more than the first swing needs, because an entry is an event between two bars."""
        return self.lookback_bars

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY on the bar whose close is the first in the zone, confirmed; the stop and the targets are absolute prices."""
        swings = _find_swings(candles, self.lookback_bars)
        height = swings.high - swings.low
        upper, lower = swings.high - self.zone_upper * height, swings.high - self.zone_lower * height
        closes = prices(candles, "close")
        ready = swings.rising & (height * 10_000 >= self.min_swing_bps * swings.low) & (lower <= closes) & (closes <= upper)
        ready &= self._confirmed(candles, lower)
        buy = becomes_true(ready)
        buy[: self.warmup] = False
        if self.one_entry_per_swing:
            buy = _first_of_each(buy, swings.high_bar)
        levels = {
            "entry": closes,
            "stop_loss": (swings.high - self.stop_retracement * height) * (1 - self.stop_buffer_bps / 10_000),
            "take_profit_1": swings.high,
            "take_profit_2": swings.low + self.target_2_extension * height,
        }
        reasons = {
            bar: f"close {price_text(closes[bar])} inside golden zone {price_text(lower[bar])}-{price_text(upper[bar])} "
            f"of swing {price_text(swings.low[bar])}→{price_text(swings.high[bar])}{self._confirmation_text()}"
            for bar in np.flatnonzero(buy).tolist()
        }
        return decide(buy.astype(np.int8), reasons, levels, {})

    def _confirmed(self, candles: pl.DataFrame, lower: FloatArray) -> BoolArray:
        opens, closes = prices(candles, "open"), prices(candles, "close")
        if self.confirmation == "none":
            return np.ones(closes.size, dtype=np.bool_)
        rising = closes > opens
        if self.confirmation == "rejection":
            return rising & (prices(candles, "low") < lower)
        rising[1:] &= closes[1:] > closes[:-1]
        return rising

    def _confirmation_text(self) -> str:
        return {
            "close_up": ", closing above its open and the previous close",
            "rejection": ", back from below the zone",
            "none": "",
        }[self.confirmation]


@dataclass(frozen=True, slots=True)
class _Swings:
    """The swing as of each bar, shape (bars,): NaN, -1 and False until the lookback is full."""

    high: FloatArray
    low: FloatArray
    high_bar: np.ndarray[tuple[int], np.dtype[np.int64]]
    rising: BoolArray


def _find_swings(candles: pl.DataFrame, lookback_bars: int) -> _Swings:
    from candlewick.indicators import highest, lowest

    high, high_bar = highest(prices(candles, "high"), lookback_bars)
    low, low_bar = lowest(prices(candles, "low"), lookback_bars)
    return _Swings(high, low, high_bar, low_bar < high_bar)


def _first_of_each(buy: BoolArray, high_bar: np.ndarray[tuple[int], np.dtype[np.int64]]) -> BoolArray:
    """Only the first entry below each swing high."""
    bars = np.flatnonzero(buy)
    _, first = np.unique(high_bar[bars], return_index=True)
    kept = np.zeros_like(buy)
    kept[bars[first]] = True
    return kept
