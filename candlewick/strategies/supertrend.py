"""Trend following with the SuperTrend line."""

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


class SuperTrend(Strategy):
    """Buys when the SuperTrend turns up, sells when it turns down.

    Every turn closes one side and opens the other: with `direction` both it is always in the market from the first turn on.
    """

    name: ClassVar[str] = "supertrend"
    period: int = Field(10, ge=1, le=2_000, description="bars of the average true range")
    multiple: float = Field(3.0, gt=0, le=100, description="distance of the bands from the bar's middle, in average true ranges")
    stop_loss_bps: StopLossBps = None
    take_profit_1_bps: TakeProfit1Bps = None
    trailing_stop_bps: TrailingStopBps = None
    trailing_stop_atr: TrailingStopAtr = None
    time_stop_bars: TimeStopBars = None

    @model_validator(mode="after")
    def _one_trailing_stop(self) -> Self:
        refuse_two_trailing_stops(self.trailing_stop_bps, self.trailing_stop_atr)
        return self

    @property
    def warmup(self) -> int:
        """One bar more than the line needs, because it turns between two known directions."""
        return self.period + 1

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY on the bar that turns the direction up, SELL on the bar that turns it down."""
        closes = prices(candles, "close")
        line, sides = self._decide(candles)
        reasons = {
            bar: f"SuperTrend({self.period}, {self.multiple:g}) turned {'up' if sides[bar] > 0 else 'down'} at close "
            f"{price_text(closes[bar])}; the line is now {price_text(line[bar])}"
            for bar in np.flatnonzero(sides).tolist()
        }
        legs: dict[str, Value] = {"entry": closes, **protection(self)}
        return decide(sides, reasons, legs, legs)

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions:
        """As `signals`."""
        return short_form(self._decide(candles)[1], protection(self))

    def _decide(self, candles: pl.DataFrame) -> tuple[FloatArray, SideArray]:
        """The line, and what is done at its turns, shape (bars,) each."""
        from candlewick.crossing import turns
        from candlewick.indicators_trend import supertrend

        high, low, close = (prices(candles, column) for column in ("high", "low", "close"))
        line, direction = supertrend(high, low, close, self.period, self.multiple)
        return line, turns(direction)
