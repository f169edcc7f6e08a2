"""Mean reversion with Bollinger bands."""

from typing import ClassVar, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from candlewick.strategies.contract import BUY, EXIT, LIMIT, MARKET, SELL, SIDES, Actions, Shared, Strategy
from candlewick.strategies.decisions import (
    FloatArray,
    SideArray,
    Value,
    becomes_true,
    decide,
    price_text,
    prices,
    short_form,
    sides_of,
)
from candlewick.strategies.protection import (
    StopLossBps,
    TakeProfit1Bps,
    TimeStopBars,
    TrailingStopAtr,
    TrailingStopBps,
    protection,
    refuse_two_trailing_stops,
)

Bands = tuple[FloatArray, FloatArray, FloatArray]


class BollingerReversion(Strategy):
    """Buys when the close falls below the lower Bollinger band, sells when it rises above the upper one.

    With `exit_at` middle a position is also left when the close comes to the middle of the bands, or passes it.
    """

    name: ClassVar[str] = "bollinger_reversion"
    period: int = Field(20, ge=2, le=5_000, description="bars of the mean and of the standard deviation")
    deviations: float = Field(2.0, gt=0, le=20, description="standard deviations between the middle and each band")
    exit_at: Literal["opposite", "middle"] = Field(
        "opposite", description="where a position is left: at the opposite band, or already at the middle"
    )
    entry_type: Literal["market", "limit"] = Field(
        "market", description="market: enter at the next open; limit: at the deciding bar's close or better"
    )
    expiry_bars: int = Field(1, ge=1, le=10_000, description="bars for which a limit entry stays live; not used for market")
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
        """One bar more than the bands need, because a band is crossed between two known values."""
        return self.period

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY on the bar that falls below the lower band, SELL above the upper one, EXIT at the middle if asked for."""
        closes = prices(candles, "close")
        (upper, middle, lower), sides = self._decide(closes)
        band = {
            SIDES[BUY]: ("below", "lower", lower),
            SIDES[SELL]: ("above", "upper", upper),
            SIDES[EXIT]: ("at", "middle", middle),
        }
        reasons = {}
        for bar in np.flatnonzero(sides).tolist():
            place, name, line = band[int(sides[bar])]
            text = f"close {price_text(closes[bar])} {place} the {name} Bollinger({self.period}, {self.deviations:g}) band"
            reasons[bar] = f"{text} {price_text(line[bar])}"
        columns: dict[str, Value] = {"entry": closes, **protection(self)}
        if self.entry_type == LIMIT:
            columns |= {"entry_type": LIMIT, "expiry_bars": self.expiry_bars}
        return decide(sides, reasons, columns, columns)

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions | None:
        """As `signals`; None with limit entries, whose prices differ from bar to bar."""
        return short_form(self._decide(prices(candles, "close"))[1], protection(self)) if self.entry_type == MARKET else None

    def _decide(self, closes: FloatArray) -> tuple[Bands, SideArray]:
        """Upper band, middle and lower band, and what is done about them, shape (bars,) each."""
        from candlewick.indicators_bands import bollinger

        upper, middle, lower = bollinger(closes, self.period, self.deviations)
        leave = becomes_true(closes >= middle) | becomes_true(closes <= middle) if self.exit_at == "middle" else None
        sides = sides_of(becomes_true(closes < lower), becomes_true(closes > upper), self.warmup, leave)
        return (upper, middle, lower), sides
