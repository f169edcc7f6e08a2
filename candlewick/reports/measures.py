"""How each figure of a backtest is called and written."""

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite

from candlewick.figures import FIGURES
from candlewick.metrics import Measure
from candlewick.reports.numbers import MISSING, format_money, format_ratio, format_share, rounded

Cell = str | int | float | bool | Decimal | None

_SIGNED = ("total_return", "benchmark_return", "annualised_return", "expectancy", "average_trade", "funding")
_UNITS = {"quote": "money"}
TITLES: Mapping[str, tuple[str, str]] = {
    "efficiency": ("Efficiency", "ratio"),
    **{
        name: (one.title, ("signed " if name in _SIGNED else "") + _UNITS.get(one.unit, one.unit))
        for name, one in FIGURES.items()
    },
    "pnl": ("P&L", "signed money"),
    "return_share": ("Return", "signed share"),
}
"""Title and unit by name, in the order a reader wants them; "signed" where a gain is to be told from a loss."""
MEANINGS: Mapping[str, str] = {
    "efficiency": "return a year, out of sample over in sample",
    "benchmark_return": "all symbols in equal shares, no costs",
    "annualised_return": "compounded from this span",
    "annualised_volatility": "of daily returns",
    "sharpe": "daily returns, annualised, risk-free 0",
    "sortino": "as Sharpe, downside deviation only",
    "calmar": "return a year over max drawdown",
    "max_drawdown": "below the highest equity before",
    "max_drawdown_days": "from a peak until it is reached again",
    "exposure": "of bars with a position open",
    "turnover": "notional of all fills over mean equity",
    "win_rate": "of closed trades, after fees",
    "profit_factor": "gains over losses, after fees",
    "expectancy": "a closed trade",
    "average_trade": "of a trade's cost",
    "fees": "paid",
    "funding": "received less paid",
}
"""What stands below a figure, where the title does not say it all."""


def kind_title(kind: str) -> str:
    """What a reader calls a run of that kind."""
    return {"run": "backtest", "optimize": "search", "walk-forward": "walk-forward"}.get(kind, kind.replace("_", " "))


def figure_title(name: str) -> str:
    """``max_drawdown`` as a reader's words; an unknown name with its underscores as spaces."""
    return TITLES[name][0] if name in TITLES else name.replace("_", " ").capitalize()


def figure_unit(name: str) -> str:
    """One of: money, share, signed money, signed share, ratio, count, days, or empty for an unknown name."""
    return TITLES[name][1] if name in TITLES else ("signed share" if name.endswith("_share") else "")


def as_decimal(value: Cell) -> Decimal | None:
    """A number as decimal; None for what is no finite number."""
    if value is None or isinstance(value, str | bool):
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if isinstance(value, Decimal) else Decimal(repr(value))


def figure_value(name: str, value: Decimal | None, quote: str) -> str:
    """A figure in its own unit, without the currency's name."""
    unit = figure_unit(name)
    if value is None:
        return MISSING
    if unit.endswith("money"):
        return format_money(value, quote, sign=unit.startswith("signed"))
    if unit.endswith("share"):
        return format_share(value, sign=unit.startswith("signed"))
    if unit == "count":
        return format(rounded(value, 0), ",f")
    if unit == "days":
        return f"{format(rounded(value, 1).normalize(), ',f')} d"
    return format_ratio(value)


def cell_text(name: str, value: Cell, quote: str) -> str:
    """A table's cell under a column name: a figure in its unit, another number as short as it is exact, text as it is."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    number = as_decimal(value)
    if number is None or figure_unit(name):
        return figure_value(name, number, quote)
    if isinstance(value, int):
        return f"{value:,}"
    return format(rounded(number, 4).normalize(), ",f")


def measure_text(name: str, measure: Measure, quote: str) -> str:
    """A figure with its currency's or its reason's words, for a line of text: ``— (no losing trade)``."""
    if measure.value is None:
        return f"{MISSING} ({measure.reason})" if measure.reason else MISSING
    money = f" {quote}" if figure_unit(name).endswith("money") else ""
    return figure_value(name, measure.value, quote) + money


def ordered(figures: Mapping[str, Measure]) -> list[tuple[str, Measure]]:
    """Figures in the order of TITLES, unknown ones last."""
    known = [(name, figures[name]) for name in TITLES if name in figures]
    return known + [(name, measure) for name, measure in figures.items() if name not in TITLES]
