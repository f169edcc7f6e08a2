"""Trend following with the MACD and its signal line."""

from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import Actions, Shared, Strategy
from candlewick.strategies.decisions import FloatArray, SideArray, Value, decide, price_text, prices, short_form
from candlewick.strategies.protection import (
    StopLossBps,
    TakeProfit1Bps,
    TimeStopBars,
    TrailingStopAtr,
    TrailingStopBps,
    protection,
    refuse_two_trailing_stops,
)


class MacdTrend(Strategy):
    """Buys when the MACD line crosses above its signal line, sells when it crosses below.

    Lines that touch and part again on the same side have not crossed.
    """

    name: ClassVar[str] = "macd_trend"
    fast: int = Field(12, ge=1, le=2_000, description="bars of the fast exponential average")
    slow: int = Field(26, ge=2, le=2_000, description="bars of the slow exponential average; more than fast")
    signal: int = Field(9, ge=2, le=2_000, description="bars of the signal line, the exponential average of the MACD line")
    stop_loss_bps: StopLossBps = None
    take_profit_1_bps: TakeProfit1Bps = None
    trailing_stop_bps: TrailingStopBps = None
    trailing_stop_atr: TrailingStopAtr = None
    time_stop_bars: TimeStopBars = None

    @model_validator(mode="after")
    def _fast_is_faster(self) -> Self:
        if self.fast >= self.slow:
            raise ValueError(f"fast is {self.fast} and slow is {self.slow}; fast must be below slow")
        refuse_two_trailing_stops(self.trailing_stop_bps, self.trailing_stop_atr)
        return self

    @property
    def warmup(self) -> int:
        """One bar more than the signal line needs, because lines cross between two known values."""
        return self.slow + self.signal - 1

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY on the bar of a cross up, SELL on the bar of a cross down."""
        histogram, sides = self._decide(candles)
        reasons = {
            bar: f"MACD({self.fast}, {self.slow}) crossed {'above' if sides[bar] > 0 else 'below'} its signal({self.signal}) "
            f"by {price_text(abs(histogram[bar]))}"
            for bar in np.flatnonzero(sides).tolist()
        }
        legs: dict[str, Value] = {"entry": prices(candles, "close"), **protection(self)}
        return decide(sides, reasons, legs, legs)

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions:
        """As `signals`."""
        return short_form(self._decide(candles)[1], protection(self))

    def _decide(self, candles: pl.DataFrame) -> tuple[FloatArray, SideArray]:
        """The histogram, and what is done about it, shape (bars,) each."""
        from candlewick.crossing import turns
        from candlewick.indicators_trend import macd

        _, _, histogram = macd(prices(candles, "close"), self.fast, self.slow, self.signal)
        return histogram, turns(np.sign(np.nan_to_num(histogram)).astype(np.int8))
