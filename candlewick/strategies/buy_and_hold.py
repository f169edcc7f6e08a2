"""Buy once and keep: what every other strategy has to beat."""

from typing import ClassVar

import numpy as np
import polars as pl
from pydantic import Field

from candlewick.strategies.contract import BUY, SIDES, Actions, Shared, Strategy
from candlewick.strategies.decisions import SideArray, decide, prices, short_form


class BuyAndHold(Strategy):
    """Buys at the first bar and keeps the position, without stop or target."""

    name: ClassVar[str] = "buy_and_hold"
    target_weight: float | None = Field(None, gt=0, le=1, description="share of the capital to buy for; none: an equal share")

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        """BUY in the first row, HOLD in all others."""
        reasons = {0: "first bar: buy and hold"} if candles.height else {}
        return decide(_first(candles), reasons, {"entry": prices(candles, "close"), **self._weight()}, {})

    def actions(self, candles: pl.DataFrame, shared: Shared | None = None) -> Actions:
        """As `signals`."""
        return short_form(_first(candles), self._weight())

    def _weight(self) -> dict[str, float]:
        return {} if self.target_weight is None else {"target_weight": self.target_weight}


def _first(candles: pl.DataFrame) -> SideArray:
    sides = np.zeros(candles.height, dtype=np.int8)
    sides[:1] = SIDES[BUY]
    return sides
