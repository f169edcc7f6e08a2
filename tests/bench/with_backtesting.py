"""backtesting.py: one pass of its event loop with its statistics. A sweep is that many passes."""

import warnings
from importlib.metadata import version

import pandas as pd
from backtesting import Strategy
from backtesting.lib import FractionalBacktest

from tests.bench.contender import CASH, FAST, FEE, SLOW, STOP, TARGET, Figures, cross_flags
from tests.bench.markets import Market

VERSION = version("backtesting")
_UNIT = 1e-12
warnings.simplefilter("ignore")


def table(market: Market) -> pd.DataFrame:
    """A frame with the columns it wants."""
    columns = {name: getattr(market, name.lower()) for name in ("Open", "High", "Low", "Close", "Volume")}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(market.opened_at * 1_000_000))


def single(market: pd.DataFrame, brackets: bool) -> Figures:
    """One run."""
    return _run(market, FAST, SLOW, brackets)


def symbols(markets: list[pd.DataFrame]) -> list[Figures]:
    """Symbol by symbol, each with cash of its own."""
    return [_run(market, FAST, SLOW, False) for market in markets]


def sweep(market: pd.DataFrame, sets: list[tuple[int, int]]) -> list[Figures]:
    """Set by set."""
    return [_run(market, fast, slow, False) for fast, slow in sets]


def _run(market: pd.DataFrame, fast: int, slow: int, brackets: bool) -> Figures:
    opens = market["Open"].to_numpy()

    class Cross(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            closes = market["Close"]
            self.entries, self.exits = cross_flags(closes.rolling(fast).mean().to_numpy(), closes.rolling(slow).mean().to_numpy())

        def next(self) -> None:
            bar = len(self.data) - 1
            if self.exits[bar]:
                self.position.close()
            elif self.entries[bar] and bar + 1 < len(market):
                order = self.buy(size=1.0 - 1e-12)
                if brackets:
                    fill = opens[bar + 1] * _UNIT
                    order._replace(sl_price=fill * (1.0 - STOP), tp_price=fill * (1.0 + TARGET))

    stats = FractionalBacktest(market, Cross, fractional_unit=_UNIT, cash=CASH, commission=FEE, finalize_trades=False).run()
    return Figures(int(stats["# Trades"]), float(stats["Equity Final [$]"]), float(stats["Max. Drawdown [%]"]) / 100)
