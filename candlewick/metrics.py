"""Metrics: what an equity curve and a list of trades amount to. Pure functions; an undefined figure is None with a reason.

Shares are fractions of 1, amounts are in quote currency. Sums, returns and drawdowns are exact decimals; the annualised
figures are statistics and are computed in floats.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)
_LEDGER_UNIT = Decimal("1E-18")

TRADE_SCHEMA: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "opened_at": pl.Datetime("us", "UTC"),
    "closed_at": pl.Datetime("us", "UTC"),
    "holding_time": pl.Duration("us"),
    "quantity": AMOUNT,
    "open_quantity": AMOUNT,
    "entry_price": AMOUNT,
    "exit_price": AMOUNT,
    "cost": AMOUNT,
    "fees": AMOUNT,
    "pnl": AMOUNT,
    "return_share": AMOUNT,
    "entry_order": pl.String(),
    "entry_reason": pl.String(),
    "exit_legs": pl.List(pl.String()),
    "exit_reasons": pl.List(pl.String()),
    "fill_ids": pl.List(pl.String()),
}


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


def _measure(value: float) -> Measure:
    return Measure(Decimal(repr(value))) if math.isfinite(value) else Measure(None, "the figure is beyond the range of numbers")


def _divide(numerator: Decimal, denominator: Decimal) -> Decimal:
    """A ratio at the ledger's 18 decimals, half-even."""
    return _WIDE.divide(numerator, denominator).quantize(_LEDGER_UNIT, context=_WIDE)


# ------------------------------------------------------------------------------------------------- equity


def total_return(equity: pl.DataFrame, initial_cash: Decimal) -> Measure:
    """(last equity - initial cash) / initial cash. ``equity`` has the ledger's columns, ordered by ``at``."""
    if equity.is_empty():
        return Measure(None, "no bar was processed yet")
    if initial_cash <= 0:
        return Measure(None, "the account started without cash")
    last: Decimal = equity["equity"][-1]
    return Measure(_divide(last - initial_cash, initial_cash))


def max_drawdown(equity: pl.DataFrame, initial_cash: Decimal) -> Drawdown:
    """The deepest drawdown; the initial cash counts as the first peak."""
    peak, peak_at, worst = initial_cash, None, Drawdown(ZERO, None, None, None)
    depth, depth_peak = ZERO, initial_cash  # of the deepest so far; shares are compared crosswise, without a division
    with localcontext(_WIDE):
        for at, value in zip(equity["at"].to_list(), equity["equity"].to_list(), strict=True):
            if worst.trough_at is not None and worst.recovered_at is None and value >= depth_peak:
                worst = Drawdown(worst.share, worst.started_at, worst.trough_at, at)
            if value >= peak:
                peak, peak_at = value, at
            elif (peak - value) * depth_peak > depth * peak:
                depth, depth_peak = peak - value, peak
                worst = Drawdown(_divide(depth, peak), peak_at, at, None)
    return worst


def current_drawdown_share(equity: pl.DataFrame, initial_cash: Decimal) -> Decimal:
    """How far the last equity lies below the highest equity (or initial cash) before it."""
    if equity.is_empty():
        return ZERO
    values: list[Decimal] = equity["equity"].to_list()
    peak = max(initial_cash, *values)
    return _divide(peak - values[-1], peak) if peak > 0 else ZERO


def exposure(equity: pl.DataFrame) -> Measure:
    """Share of bars at whose close a position was open."""
    if equity.is_empty():
        return Measure(None, "no bar was processed yet")
    return Measure(_divide(Decimal(int((equity["open_positions"] > 0).sum())), Decimal(equity.height)))


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
    return _measure(math.expm1(exponent)) if exponent < 700 else Measure(None, "the figure is beyond the range of numbers")


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
    return _measure(_mean_and_deviation(returns)[1] * math.sqrt(DAYS_PER_YEAR))


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
    return _measure(mean / deviation * math.sqrt(DAYS_PER_YEAR))


def held_return(candles: Iterable[pl.DataFrame]) -> Measure:
    """What holding every symbol in equal shares from its first open to its last close would have returned, before costs."""
    returns = [float(frame["close"][-1]) / float(frame["open"][0]) - 1 for frame in candles if frame.height]
    return _measure(math.fsum(returns) / len(returns)) if returns else Measure(None, "there are no candles")


# ------------------------------------------------------------------------------------------------- trades


@dataclass(slots=True)
class _Opened:
    """A position while its fills are being read."""

    symbol: str
    opened_at: datetime
    entry_order: str
    entry_reason: str
    closed_at: datetime | None = None
    entered: Decimal = ZERO
    left: Decimal = ZERO
    cost: Decimal = ZERO
    proceeds: Decimal = ZERO
    fees: Decimal = ZERO
    exit_legs: tuple[str, ...] = ()
    exit_reasons: tuple[str, ...] = ()
    fill_ids: tuple[str, ...] = ()

    def row(self) -> dict[str, object]:
        exited = self.entered - self.left
        closed = self.closed_at is not None
        pnl = self.proceeds - self.cost - self.fees if closed else None
        return {
            "symbol": self.symbol,
            "opened_at": self.opened_at,
            "closed_at": self.closed_at,
            "holding_time": self.closed_at - self.opened_at if self.closed_at is not None else None,
            "quantity": self.entered,
            "open_quantity": self.left,
            "entry_price": _divide(self.cost, self.entered),
            "exit_price": _divide(self.proceeds, exited) if exited else None,
            "cost": self.cost,
            "fees": self.fees,
            "pnl": pnl,
            "return_share": _divide(pnl, self.cost) if pnl is not None and self.cost else None,
            "entry_order": self.entry_order,
            "entry_reason": self.entry_reason,
            "exit_legs": list(self.exit_legs),
            "exit_reasons": list(self.exit_reasons),
            "fill_ids": list(self.fill_ids),
        }


def pair_trades(fills: pl.DataFrame) -> pl.DataFrame:
    """Every trade in TRADE_SCHEMA, in the order of their entries: open ones have no ``closed_at``, ``pnl``, ``return_share``.

    A trade runs from the fill that opens a position of a symbol to the fill that closes the last of it; ``pnl`` is
    proceeds - cost - all fees, ``return_share`` is pnl / cost, prices are averages over quantity. Long only: a sell
    beyond what is held is an error in the fills and raises ValueError.
    """
    columns = ["fill_id", "symbol", "client_order_id", "leg", "side", "bar_opened_at", "quantity", "notional", "fee", "reason"]
    trades: list[_Opened] = []
    held: dict[str, _Opened] = {}
    with localcontext(_WIDE):
        for fill_id, symbol, order, leg, side, at, quantity, notional, fee, reason in (
            fills.sort("sequence").select(columns).iter_rows() if fills.height else ()
        ):
            trade = held.get(symbol)
            if str(side).lower() == "buy":
                if trade is None:
                    trade = held[symbol] = _Opened(symbol, at, order, reason)
                    trades.append(trade)
                trade.entered, trade.left, trade.cost = trade.entered + quantity, trade.left + quantity, trade.cost + notional
            else:
                if trade is None or quantity > trade.left:
                    raise ValueError(f"fill of {order}: sells {quantity} {symbol}, {trade.left if trade else 0} are held")
                trade.left, trade.proceeds = trade.left - quantity, trade.proceeds + notional
                trade.exit_legs, trade.exit_reasons = (*trade.exit_legs, leg), (*trade.exit_reasons, reason)
            trade.fees, trade.fill_ids = trade.fees + fee, (*trade.fill_ids, fill_id)
            if not trade.left:
                trade.closed_at = at
                del held[symbol]
        return pl.DataFrame([trade.row() for trade in trades], schema=dict(TRADE_SCHEMA))


def closed_trades(fills: pl.DataFrame) -> pl.DataFrame:
    """The trades of ``pair_trades`` that are over, in the order of their exits."""
    return pair_trades(fills).filter(pl.col("closed_at").is_not_null()).sort("closed_at", maintain_order=True)


def _of_pnl(trades: pl.DataFrame, figure: Callable[[list[Decimal]], Measure]) -> Measure:
    """``figure`` of the closed trades' pnl, or that there are none."""
    pnl: list[Decimal] = trades["pnl"].drop_nulls().to_list()
    return figure(pnl) if pnl else Measure(None, "no trade was closed yet")


def win_rate(trades: pl.DataFrame) -> Measure:
    """Share of closed trades with a pnl above 0; a trade that came out even is no win."""
    return _of_pnl(trades, lambda pnl: Measure(_divide(Decimal(sum(value > 0 for value in pnl)), Decimal(len(pnl)))))


def profit_factor(trades: pl.DataFrame) -> Measure:
    """Sum of gains over sum of losses, after fees."""

    def factor(pnl: list[Decimal]) -> Measure:
        gains = sum((value for value in pnl if value > 0), ZERO)
        losses = -sum((value for value in pnl if value < 0), ZERO)
        return Measure(_divide(gains, losses)) if losses else Measure(None, "no losing trade")

    return _of_pnl(trades, factor)


def expectancy(trades: pl.DataFrame) -> Measure:
    """Mean pnl of a closed trade in quote currency: win rate x mean gain - loss rate x mean loss."""
    return _of_pnl(trades, lambda pnl: Measure(_divide(sum(pnl, ZERO), Decimal(len(pnl)))))


def average_trade(trades: pl.DataFrame) -> Measure:
    """Mean return of a closed trade as a share of its cost."""
    shares: list[Decimal] = trades["return_share"].drop_nulls().to_list()
    return Measure(_divide(sum(shares, ZERO), Decimal(len(shares)))) if shares else Measure(None, "no trade was closed yet")


def fees_paid(fills: pl.DataFrame) -> Decimal:
    """Sum of all fees in quote currency."""
    with localcontext(_WIDE):
        return sum(fills["fee"].to_list(), ZERO) if fills.height else ZERO
