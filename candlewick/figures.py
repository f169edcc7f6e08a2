"""Figures: a backtest or an account summed up, from a few exact integers and one value a day.

``FigureInputs`` is what a fold keeps while it runs, so a year of minutes is summed up in microseconds. Annualised figures are
of daily returns (a bar belongs to the UTC day in which it opens; days without a bar are no days), 365 days a year, a risk-free
rate of 0, the sample deviation, and none below 30 days, as in candlewick/metrics.py.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np

from candlewick.amounts import from_units
from candlewick.metrics import DAYS_PER_YEAR, MIN_ANNUALISED_DAYS, Measure, divide, measure
from candlewick.timeframes import DAY_MS

UNIT_DECIMALS = 8
"""Amounts here are integers of 1e-8 in quote currency, the engine's cash grid."""

Unit = Literal["share", "ratio", "quote", "count", "days"]
Better = Literal["higher", "lower", "neither"]
Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Returns = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class FigureMeaning:
    """What a figure is called and how it is computed. Shares are fractions of 1; ``better`` is which way a search goes."""

    title: str
    unit: Unit
    formula: str
    source: str
    better: Better


_OWN = "Candlewick"
_DAILY = "r: returns from one day's last equity to the next"
FIGURES: Mapping[str, FigureMeaning] = {
    "final_equity": FigureMeaning("Final equity", "quote", "equity at the last bar's close", _OWN, "higher"),
    "total_return": FigureMeaning("Return", "share", "(final equity - initial cash) / initial cash", "Bacon 2008", "higher"),
    "benchmark_return": FigureMeaning(
        "Holding instead",
        "share",
        "mean over symbols of last close / first open - 1, before costs",
        "equal-weight buy and hold",
        "neither",
    ),
    "annualised_return": FigureMeaning(
        "Return a year",
        "share",
        "(final equity / initial cash) ^ (365 / days) - 1; days from the first open to the last close",
        "compound annual growth rate",
        "higher",
    ),
    "annualised_volatility": FigureMeaning(
        "Volatility a year", "share", f"sample deviation of r x sqrt(365); {_DAILY}", "Bacon 2008", "lower"
    ),
    "sharpe": FigureMeaning(
        "Sharpe ratio", "ratio", f"mean of r / sample deviation of r x sqrt(365); {_DAILY}", "Sharpe 1994, risk-free 0", "higher"
    ),
    "sortino": FigureMeaning(
        "Sortino ratio",
        "ratio",
        f"mean of r / sqrt(mean of min(r, 0)^2) x sqrt(365); {_DAILY}",
        "Sortino & Price 1994, target 0",
        "higher",
    ),
    "calmar": FigureMeaning("Calmar ratio", "ratio", "annualised_return / max_drawdown", "Young 1991, whole span", "higher"),
    "max_drawdown": FigureMeaning(
        "Max drawdown",
        "share",
        "largest (peak - equity) / peak over all bar closes; the initial cash is the first peak",
        "Magdon-Ismail & Atiya 2004",
        "lower",
    ),
    "max_drawdown_days": FigureMeaning(
        "Longest drawdown",
        "days",
        "longest time from a peak to the close at which equity is at it again, or to the last close",
        "Bacon 2008",
        "lower",
    ),
    "exposure": FigureMeaning("Exposure", "share", "bars at whose close a position was open / bars", _OWN, "neither"),
    "turnover": FigureMeaning("Turnover", "ratio", "notional of all fills / mean of the days' last equity", _OWN, "neither"),
    "annualised_turnover": FigureMeaning("Turnover a year", "ratio", "turnover x 365 / days", _OWN, "neither"),
    "trades": FigureMeaning("Trades", "count", "positions that were opened and closed again", _OWN, "neither"),
    "win_rate": FigureMeaning("Win rate", "share", "trades with pnl > 0 / trades", "Pardo 2008", "higher"),
    "profit_factor": FigureMeaning(
        "Profit factor", "ratio", "sum of pnl > 0 / -sum of pnl < 0, after fees and funding", "Pardo 2008", "higher"
    ),
    "expectancy": FigureMeaning("Expectancy", "quote", "mean pnl of a trade", "Tharp 1998, in money instead of R", "higher"),
    "average_trade": FigureMeaning(
        "Average trade", "share", "mean over trades of pnl / notional of the entries", "Pardo 2008", "higher"
    ),
    "fees": FigureMeaning("Fees", "quote", "sum of all fills' fees, paid", _OWN, "lower"),
    "funding": FigureMeaning("Funding", "quote", "funding received - funding paid", _OWN, "higher"),
}
"""Every figure by name, in the order a reader wants them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FigureInputs:
    """What the figures are computed from. Amounts are ints of 1e-8 in quote currency, times in milliseconds.

    ``day_equity`` int64 (days,): equity at the last bar close of each UTC day that has bars. ``span_ms``: first bar's open to
    last bar's close. ``drawdown_peak`` and ``drawdown_trough``: the equities of the deepest relative drawdown over all bar
    closes (0 and 0: none). ``longest_drawdown_ms`` counts one that has not recovered up to the last close. ``gains`` and
    ``losses``: sums of the closed trades' pnl above and below 0, both positive. ``return_sum``: sum of the closed trades' pnl /
    entry notional. ``funding``: received less paid. ``turnover``: all fills' notional. ``final_equity`` is the initial cash
    before any bar.
    """

    initial_cash: int
    final_equity: int
    day_equity: Integers
    span_ms: int
    bars: int
    bars_exposed: int
    drawdown_peak: int
    drawdown_trough: int
    longest_drawdown_ms: int
    trades: int
    wins: int
    gains: int
    losses: int
    return_sum: float
    fees: int
    funding: int
    turnover: int
    benchmark_return: float | None = None


class Figures(Mapping[str, Measure]):
    """The figures by their names in FIGURES, in that order; cannot be changed."""

    __slots__ = ("_measures",)

    def __init__(self, measures: Mapping[str, Measure]) -> None:
        self._measures = {name: measures[name] for name in FIGURES}

    def __getitem__(self, name: str) -> Measure:
        return self._measures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._measures)

    def __len__(self) -> int:
        return len(self._measures)

    def __repr__(self) -> str:
        return f"Figures({self._measures!r})"


_NO_BAR = Measure(None, "no bar was processed yet")
_NO_CASH = Measure(None, "the account started without cash")
_NO_TRADE = Measure(None, "no trade was closed yet")


def _amount(units: int) -> Measure:
    return Measure(from_units(units, UNIT_DECIMALS))


def _ratio(numerator: int, denominator: int) -> Measure:
    """An exact ratio of two integers, at the ledger's 18 decimals."""
    return Measure(divide(Decimal(int(numerator)), Decimal(int(denominator))))


def _annual_reason(inputs: FigureInputs) -> str | None:
    """Why there is no annualised figure, None where there is."""
    if not inputs.bars:
        return _NO_BAR.reason
    days = inputs.span_ms / DAY_MS
    if days < MIN_ANNUALISED_DAYS:
        return f"the span of {days:.0f} days is below {MIN_ANNUALISED_DAYS}"
    # A close at or below zero is the deepest drawdown, so its trough tells of every bar between the days' last closes.
    if inputs.day_equity.min() <= 0 or (inputs.drawdown_peak > 0 and inputs.drawdown_trough <= 0):
        return "equity fell to zero"
    return None


def _annualised_return(inputs: FigureInputs, reason: str | None) -> Measure:
    if reason is not None:
        return Measure(None, reason)
    if inputs.initial_cash <= 0:
        return _NO_CASH
    # 64-bit amounts over 30 days or more keep the exponent below 532, so this cannot overflow.
    years = inputs.span_ms / (DAYS_PER_YEAR * DAY_MS)
    return measure(math.expm1(math.log(inputs.final_equity / inputs.initial_cash) / years))


def daily_returns(day_equity: Integers) -> Returns:
    """Returns from each day's last equity to the next, float64 (days - 1,). Equity must be above 0."""
    values = day_equity.astype(np.float64)
    return values[1:] / values[:-1] - 1.0


def _daily_figures(inputs: FigureInputs, reason: str | None) -> dict[str, Measure]:
    """Volatility, Sharpe and Sortino ratio."""
    names = ("annualised_volatility", "sharpe", "sortino")
    if reason is None and len(inputs.day_equity) < 3:
        reason = "there are fewer than two daily returns"
    if reason is not None:
        return dict.fromkeys(names, Measure(None, reason))
    returns = daily_returns(inputs.day_equity)
    mean, year = float(returns.mean()), math.sqrt(DAYS_PER_YEAR)
    deviation = float(returns.std(ddof=1)) if returns.min() < returns.max() else 0.0
    losses = np.minimum(returns, 0.0)
    downside = math.sqrt(float((losses * losses).mean()))
    still = "equity did not move" if returns[0] == 0 else "every day returned the same"
    return {
        "annualised_volatility": measure(deviation * year),
        "sharpe": measure(mean / deviation * year) if deviation else Measure(None, still),
        "sortino": measure(mean / downside * year) if downside else Measure(None, "no day lost"),
    }


def _max_drawdown(inputs: FigureInputs) -> Measure:
    if not inputs.bars:
        return _NO_BAR
    if inputs.drawdown_peak <= 0:
        return Measure(Decimal(0))
    return _ratio(inputs.drawdown_peak - inputs.drawdown_trough, inputs.drawdown_peak)


def _calmar(annual: Measure, drawdown: Measure) -> Measure:
    if annual.value is None or drawdown.value is None:
        return Measure(None, annual.reason or drawdown.reason)
    if not drawdown.value:
        return Measure(None, "equity was never below an earlier peak")
    return measure(float(annual.value) / float(drawdown.value))


def _turnovers(inputs: FigureInputs, reason: str | None) -> dict[str, Measure]:
    if not inputs.bars:
        return {"turnover": _NO_BAR, "annualised_turnover": _NO_BAR}
    mean = float(inputs.day_equity.mean())
    if mean <= 0:
        lost = Measure(None, "equity was not above zero on average")
        return {"turnover": lost, "annualised_turnover": lost}
    turned = inputs.turnover / mean
    year = turned * DAYS_PER_YEAR * DAY_MS / inputs.span_ms if reason is None else 0.0
    return {"turnover": measure(turned), "annualised_turnover": Measure(None, reason) if reason is not None else measure(year)}


def _trade_figures(inputs: FigureInputs) -> dict[str, Measure]:
    count = {"trades": Measure(Decimal(int(inputs.trades)))}
    if not inputs.trades:
        return count | dict.fromkeys(("win_rate", "profit_factor", "expectancy", "average_trade"), _NO_TRADE)
    earned = from_units(inputs.gains - inputs.losses, UNIT_DECIMALS)
    return count | {
        "win_rate": _ratio(inputs.wins, inputs.trades),
        "profit_factor": _ratio(inputs.gains, inputs.losses) if inputs.losses else Measure(None, "no losing trade"),
        "expectancy": Measure(divide(earned, Decimal(int(inputs.trades)))),
        "average_trade": measure(inputs.return_sum / inputs.trades),
    }


def _benchmark(inputs: FigureInputs) -> Measure:
    return measure(inputs.benchmark_return) if inputs.benchmark_return is not None else Measure(None, "there are no candles")


def compute_figures(inputs: FigureInputs) -> Figures:
    """Every figure of FIGURES. One that is not defined is None with the reason, never infinite and never NaN."""
    reason = _annual_reason(inputs)
    annual, drawdown = _annualised_return(inputs, reason), _max_drawdown(inputs)
    returned = _ratio(inputs.final_equity - inputs.initial_cash, inputs.initial_cash) if inputs.initial_cash > 0 else _NO_CASH
    return Figures(
        {
            "final_equity": _amount(inputs.final_equity),
            "total_return": returned if inputs.bars else _NO_BAR,
            "benchmark_return": _benchmark(inputs),
            "annualised_return": annual,
            **_daily_figures(inputs, reason),
            "calmar": _calmar(annual, drawdown),
            "max_drawdown": drawdown,
            "max_drawdown_days": measure(inputs.longest_drawdown_ms / DAY_MS) if inputs.bars else _NO_BAR,
            "exposure": _ratio(inputs.bars_exposed, inputs.bars) if inputs.bars else _NO_BAR,
            **_turnovers(inputs, reason),
            **_trade_figures(inputs),
            "fees": _amount(inputs.fees),
            "funding": _amount(inputs.funding),
        }
    )
