"""Metrics: what an equity curve and a list of trades amount to. Pure functions; an undefined figure is None with a reason.

Shares are fractions of 1, amounts are in quote currency. Sums, returns and drawdowns are exact decimals; the annualised
figures are statistics and are computed in floats.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise

import polars as pl

ZERO = Decimal(0)
DAYS_PER_YEAR = 365
"""Crypto markets trade every day; an annual figure counts all of them."""
MIN_ANNUALISED_DAYS = 30
"""Below a month an annual figure is a month's luck to the twelfth power, so none is given."""
AMOUNT = pl.Decimal(38, 18)
WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""Wide enough that sums and products of amounts are exact."""
_LEDGER_UNIT = Decimal("1E-18")


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. ``value`` is None where it is not defined, and then ``reason`` says why; never infinite, never NaN."""

    value: Decimal | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall of equity below its earlier peak.

    ``share`` is (peak - trough) / peak. ``started_at`` is the peak's time (None: the initial cash was the peak),
    ``recovered_at`` the first time equity was at the peak again (None: not yet). A share of 0 has no times.
    """

    share: Decimal
    started_at: datetime | None
    trough_at: datetime | None
    recovered_at: datetime | None


def measure(value: float) -> Measure:
    """A float as a figure; what no number can hold is None with a reason."""
    return (
        Measure(Decimal(repr(float(value))))
        if math.isfinite(value)
        else Measure(None, "the figure is beyond the range of numbers")
    )


def divide(numerator: Decimal, denominator: Decimal) -> Decimal:
    """A ratio at the ledger's 18 decimals, half-even."""
    return WIDE.divide(numerator, denominator).quantize(_LEDGER_UNIT, context=WIDE)


# ------------------------------------------------------------------------------------------------- equity


def total_return(equity: pl.DataFrame, initial_cash: Decimal) -> Measure:
    """(last equity - initial cash) / initial cash. ``equity`` has the ledger's columns, ordered by ``at``."""
    if equity.is_empty():
        return Measure(None, "no bar was processed yet")
    if initial_cash <= 0:
        return Measure(None, "the account started without cash")
    last: Decimal = equity["equity"][-1]
    return Measure(divide(last - initial_cash, initial_cash))


def max_drawdown(equity: pl.DataFrame, initial_cash: Decimal) -> Drawdown:
    """The deepest drawdown; the initial cash counts as the first peak."""
    peak, peak_at, worst = initial_cash, None, Drawdown(ZERO, None, None, None)
    depth, depth_peak = ZERO, initial_cash  # of the deepest so far; shares are compared crosswise, without a division
    with localcontext(WIDE):
        for at, value in zip(equity["at"].to_list(), equity["equity"].to_list(), strict=True):
            if worst.trough_at is not None and worst.recovered_at is None and value >= depth_peak:
                worst = Drawdown(worst.share, worst.started_at, worst.trough_at, at)
            if value >= peak:
                peak, peak_at = value, at
            elif (peak - value) * depth_peak > depth * peak:
                depth, depth_peak = peak - value, peak
                worst = Drawdown(divide(depth, peak), peak_at, at, None)
    return worst


def current_drawdown_share(equity: pl.DataFrame, initial_cash: Decimal) -> Decimal:
    """How far the last equity lies below the highest equity (or initial cash) before it."""
    if equity.is_empty():
        return ZERO
    values: list[Decimal] = equity["equity"].to_list()
    peak = max(initial_cash, *values)
    return divide(peak - values[-1], peak) if peak > 0 else ZERO


def exposure(equity: pl.DataFrame) -> Measure:
    """Share of bars at whose close a position was open."""
    if equity.is_empty():
        return Measure(None, "no bar was processed yet")
    return Measure(divide(Decimal(int((equity["open_positions"] > 0).sum())), Decimal(equity.height)))


def _daily_equity(equity: pl.DataFrame) -> tuple[list[float], float]:
    """Equity at the end of each UTC day (a bar that closes at midnight belongs to the day before), and the span in days."""
    daily = (
        equity.select(pl.col("at"), pl.col("equity").cast(pl.Float64))
        .group_by((pl.col("at") - timedelta(microseconds=1)).dt.truncate("1d").alias("day"), maintain_order=True)
        .agg(pl.col("equity").last())
    )
    span: timedelta = equity["at"][-1] - equity["at"][0]
    return daily["equity"].to_list(), span / timedelta(days=1)


def _span_reason(equity: pl.DataFrame) -> str | None:
    span_days = (equity["at"][-1] - equity["at"][0]) / timedelta(days=1) if equity.height else 0.0
    if span_days < MIN_ANNUALISED_DAYS:
        return f"the span of {span_days:.0f} days is below {MIN_ANNUALISED_DAYS}"
    if float(equity["equity"].min() or 0) <= 0:  # type: ignore[arg-type]
        return "equity fell to zero"
    return None


def annualised_return(equity: pl.DataFrame, initial_cash: Decimal) -> Measure:
    """Compound annual growth: (last / initial) ^ (365 / days) - 1. None below 30 days."""
    if (reason := _span_reason(equity)) is not None:
        return Measure(None, reason)
    if initial_cash <= 0:
        return Measure(None, "the account started without cash")
    values, span_days = _daily_equity(equity)
    exponent = DAYS_PER_YEAR / span_days * math.log(values[-1] / float(initial_cash))
    return measure(math.expm1(exponent)) if exponent < 700 else Measure(None, "the figure is beyond the range of numbers")


def _daily_returns(equity: pl.DataFrame) -> list[float]:
    values, _ = _daily_equity(equity)
    return [later / earlier - 1 for earlier, later in pairwise(values)]


def _mean_and_deviation(returns: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(returns) / len(returns)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in returns) / (len(returns) - 1))


def annualised_volatility(equity: pl.DataFrame) -> Measure:
    """Sample standard deviation of daily returns times the square root of 365. None below 30 days."""
    if (reason := _span_reason(equity)) is not None:
        return Measure(None, reason)
    returns = _daily_returns(equity)
    if len(returns) < 2:
        return Measure(None, "there are fewer than two daily returns")
    return measure(_mean_and_deviation(returns)[1] * math.sqrt(DAYS_PER_YEAR))


def sharpe_ratio(equity: pl.DataFrame) -> Measure:
    """Mean over deviation of daily returns, times the square root of 365, at a risk-free rate of 0 (Sharpe 1994)."""
    if (reason := _span_reason(equity)) is not None:
        return Measure(None, reason)
    returns = _daily_returns(equity)
    if len(returns) < 2:
        return Measure(None, "there are fewer than two daily returns")
    mean, deviation = _mean_and_deviation(returns)
    if deviation == 0:
        return Measure(None, "equity did not move")
    return measure(mean / deviation * math.sqrt(DAYS_PER_YEAR))


def held_return(candles: Iterable[pl.DataFrame]) -> Measure:
    """What holding every symbol in equal shares from its first open to its last close would have returned, before costs."""
    returns = [float(frame["close"][-1]) / float(frame["open"][0]) - 1 for frame in candles if frame.height]
    return measure(math.fsum(returns) / len(returns)) if returns else Measure(None, "there are no candles")


# ------------------------------------------------------------------------------------------------- trades


def _of_pnl(trades: pl.DataFrame, figure: Callable[[list[Decimal]], Measure]) -> Measure:
    """``figure`` of the closed trades' pnl, or that there are none."""
    pnl: list[Decimal] = trades["pnl"].drop_nulls().to_list()
    with localcontext(WIDE):
        return figure(pnl) if pnl else Measure(None, "no trade was closed yet")


def win_rate(trades: pl.DataFrame) -> Measure:
    """Share of closed trades with a pnl above 0; a trade that came out even is no win."""
    return _of_pnl(trades, lambda pnl: Measure(divide(Decimal(sum(value > 0 for value in pnl)), Decimal(len(pnl)))))


def profit_factor(trades: pl.DataFrame) -> Measure:
    """Sum of gains over sum of losses, after fees."""

    def factor(pnl: list[Decimal]) -> Measure:
        gains = sum((value for value in pnl if value > 0), ZERO)
        losses = -sum((value for value in pnl if value < 0), ZERO)
        return Measure(divide(gains, losses)) if losses else Measure(None, "no losing trade")

    return _of_pnl(trades, factor)


def expectancy(trades: pl.DataFrame) -> Measure:
    """Mean pnl of a closed trade in quote currency: win rate x mean gain - loss rate x mean loss."""
    return _of_pnl(trades, lambda pnl: Measure(divide(sum(pnl, ZERO), Decimal(len(pnl)))))


def average_trade(trades: pl.DataFrame) -> Measure:
    """Mean return of a closed trade as a share of its cost."""
    shares: list[Decimal] = trades["return_share"].drop_nulls().to_list()
    return Measure(divide(sum(shares, ZERO), Decimal(len(shares)))) if shares else Measure(None, "no trade was closed yet")


def fees_paid(fills: pl.DataFrame) -> Decimal:
    """Sum of all fees in quote currency."""
    with localcontext(WIDE):
        return sum(fills["fee"].to_list(), ZERO) if fills.height else ZERO
