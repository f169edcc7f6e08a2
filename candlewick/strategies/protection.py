"""Optional parameters by which a built-in strategy protects its positions, the same for longs and shorts.

A strategy declares the ones it has as fields (``stop_loss_bps: StopLossBps = None``) and puts `protection` on BUY and on SELL.
"""

from typing import Annotated

from pydantic import Field

from candlewick.strategies.contract import Strategy

# A distance of 10,000 bps from the fill price is a price of 0.
StopLossBps = Annotated[
    float | None, Field(gt=0, lt=10_000, description="stop this far from the fill price, against the position; none: no stop")
]
TakeProfit1Bps = Annotated[
    float | None, Field(gt=0, le=100_000, description="first target this far from the fill price; none: no target")
]
TrailingStopBps = Annotated[
    float | None, Field(gt=0, lt=10_000, description="stop this far from the best price since the entry; none: no trailing stop")
]
TrailingStopAtr = Annotated[
    float | None, Field(gt=0, le=100, description="the same in ATR(14) at the decision; not together with trailing_stop_bps")
]
TimeStopBars = Annotated[
    int | None, Field(ge=1, le=100_000, description="bars after which a position is closed; none: no time stop")
]
_PARAMETERS = {"stop_loss_bps", "take_profit_1_bps", "trailing_stop_bps", "trailing_stop_atr", "time_stop_bars"}


def protection(strategy: Strategy) -> dict[str, float]:
    """The signal columns of the parameters above that the strategy has and that are set."""
    legs: dict[str, float] = strategy.model_dump(include=_PARAMETERS, exclude_none=True)
    return legs


def refuse_two_trailing_stops(trailing_stop_bps: float | None, trailing_stop_atr: float | None) -> None:
    """Raises ValueError, which pydantic reports, if both are set."""
    if trailing_stop_bps is not None and trailing_stop_atr is not None:
        raise ValueError(
            f"trailing_stop_bps is {trailing_stop_bps:g} and trailing_stop_atr is {trailing_stop_atr:g}; give one of them"
        )
