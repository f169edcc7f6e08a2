"""Candlewick: the backtest and the sweep that its flows run, without Prefect and without a store."""

from decimal import Decimal

import numpy as np
import polars as pl

from candlewick.backtesting.simulation import backtest, lay_out_span
from candlewick.backtesting.sweep import Sweeper
from candlewick.candles import CANDLE_SCHEMA
from candlewick.engine.terms import Terms
from candlewick.figures import Figures as AllFigures
from candlewick.instruments import Instrument
from candlewick.rules import Rules
from candlewick.strategies.sma_cross import SmaCross
from tests.bench.contender import CASH, FAST, FEE, SLOW, STOP, TARGET, Figures
from tests.bench.markets import COLUMNS, MINUTE_MS, Market

VERSION = "this checkout"
_FEE_BPS = Decimal(str(FEE)) * 10_000
_CROSS = SmaCross(fast=FAST, slow=SLOW)
_BRACKETED = SmaCross(fast=FAST, slow=SLOW, stop_loss_bps=STOP * 10_000, take_profit_1_bps=TARGET * 10_000)


def table(market: Market) -> pl.DataFrame:
    """A candle frame."""
    times = pl.Series("opened_at", market.opened_at).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    columns = [pl.Series(name, getattr(market, name)) for name in COLUMNS]
    return pl.DataFrame([times, *columns, pl.Series("volume", market.volume)], schema=dict(CANDLE_SCHEMA))


def single(market: pl.DataFrame, brackets: bool) -> Figures:
    """One backtest with its fills, its equity curve and all of its figures."""
    strategy = _BRACKETED if brackets else _CROSS
    simulation = backtest(_terms(1, market), strategy, {"S0/USDT": market})
    return _figures(simulation.figures())


def symbols(markets: list[pl.DataFrame]) -> list[Figures]:
    """All symbols in one account that shares its cash: a fiftieth of it for each."""
    candles = {f"S{number}/USDT": market for number, market in enumerate(markets)}
    return [_figures(backtest(_terms(len(markets), markets[0]), _CROSS, candles).figures())]


def sweep(market: pl.DataFrame, sets: list[tuple[int, int]]) -> list[Figures]:
    """The sets share what they can, and run on all cores."""
    sweeper = Sweeper(lay_out_span(_terms(1, market), {"S0/USDT": market}, None, None), SmaCross)
    return [_figures(result.figures) for result in sweeper.results(SmaCross(fast=fast, slow=slow) for fast, slow in sets)]


def _terms(count: int, candles: pl.DataFrame) -> Terms:
    instruments = tuple(
        Instrument(
            f"S{number}/USDT",
            f"S{number}",
            "USDT",
            Decimal("0.01"),
            Decimal("1e-10"),
            maker_fee_bps=_FEE_BPS,
            taker_fee_bps=_FEE_BPS,
        )
        for number in range(count)
    )
    rules = Rules(
        slippage_bps=Decimal(0), max_position_share=Decimal(1) / count, max_open_positions=count, daily_loss_limit_share=None,
        max_drawdown_share=None, cooldown_bars=0, target_1_share=Decimal(1),
    )  # fmt: skip
    length_ms = int(np.diff(candles["opened_at"].head(2).to_numpy().astype("datetime64[ms]").astype(np.int64))[0])
    return Terms("1m" if length_ms == MINUTE_MS else "1h", Decimal(str(CASH)), instruments, rules)


def _figures(figures: AllFigures) -> Figures:
    trades, equity, drawdown = (figures[name].value for name in ("trades", "final_equity", "max_drawdown"))
    assert trades is not None
    assert equity is not None
    assert drawdown is not None
    return Figures(int(trades), float(equity), -float(drawdown))
