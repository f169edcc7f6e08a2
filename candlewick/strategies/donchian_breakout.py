"""Trend following with a channel of extremes."""

from typing import ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import MARKET, STOP, Actions, Shared, Strategy
from candlewick.strategies.decisions import SideArray, Value, becomes_true, decide, price_text, prices, short_form, sides_of
from candlewick.strategies.protection import (
    StopLossBps,
    TakeProfit1Bps,
    TimeStopBars,
    TrailingStopAtr,
    TrailingStopBps,
    protection,
    refuse_two_trailing_stops,
)


class DonchianBreakout(Strategy):
    """Buys when the close rises above the highest high of the bars before it, sells when it falls below their lowest low.

    Only the first close outside acts, and the next after one inside. With stop entries a breakout has to go on: the order waits
    at the high (for a sale: the low) of the bar that broke out.
    """

    name: ClassVar[str] = "donchian_breakout"
    channel_bars: int = Field(20, ge=1, le=5_000, description="bars of the channel, the deciding bar not counted")
    entry_type: Literal["market", "stop"] = Field(
        "market", description="market: enter at the next open; stop: beyond the high or low of the bar that broke out"
    )
    expiry_bars: int = Field(1, ge=1, le=10_000, description="bars for which a stop entry stays live; not used for market")
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
        """One bar more than the channel before the deciding bar needs, because a breakout is an event between two bars."""
        return self.channel_bars + 1

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY on the bar of an upper breakout, SELL on the bar of a lower one."""
        sides = self._decide(candles)
        closes, highs, lows = (prices(candles, column) for column in ("close", "high", "low"))
        reasons = {
            bar: f"close {price_text(closes[bar])} "
            + (
                f"above the highest high {price_text(highs[bar - self.channel_bars : bar].max())}"
                if sides[bar] > 0
                else f"below the lowest low {price_text(lows[bar - self.channel_bars : bar].min())}"
            )
            + f" of {self.channel_bars} bars"
            for bar in np.flatnonzero(sides).tolist()
        }
        legs = protection(self)
        if self.entry_type == MARKET:
            return decide(sides, reasons, {"entry": closes, **legs}, {"entry": closes, **legs})
        waiting: dict[str, Value] = {"entry_type": STOP, "expiry_bars": self.expiry_bars, **legs}
        return decide(sides, reasons, {"entry": highs, **waiting}, {"entry": lows, **waiting})

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions | None:
        """As `signals`; None with stop entries, whose prices differ from bar to bar."""
        return short_form(self._decide(candles), protection(self)) if self.entry_type == MARKET else None

    def _decide(self, candles: pl.DataFrame) -> SideArray:
        from candlewick.indicators_bands import donchian

        closes = prices(candles, "close")
        upper, _, lower = donchian(prices(candles, "high"), prices(candles, "low"), self.channel_bars)
        above, below = np.zeros(closes.size, dtype=np.bool_), np.zeros(closes.size, dtype=np.bool_)
        above[1:], below[1:] = closes[1:] > upper[:-1], closes[1:] < lower[:-1]
        return sides_of(becomes_true(above), becomes_true(below), self.warmup)
