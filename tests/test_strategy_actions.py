"""A strategy's short form says the same as its signals."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.strategies.bollinger_reversion import BollingerReversion
from candlewick.strategies.buy_and_hold import BuyAndHold
from candlewick.strategies.contract import SIDES, SIGNAL_SCHEMA, Actions, Strategy, complete_signals
from candlewick.strategies.donchian_breakout import DonchianBreakout
from candlewick.strategies.fibonacci_golden_zone import FibonacciGoldenZone
from candlewick.strategies.macd_trend import MacdTrend
from candlewick.strategies.rsi_reversion import RsiReversion
from candlewick.strategies.sma_cross import SmaCross
from candlewick.strategies.supertrend import SuperTrend
from tests.shared_data import real_candles
from tests.test_strategies import BUILT_IN, candles

SHORT = [strategy for strategy in BUILT_IN if strategy.actions(candles([100.0])) is not None]


def assert_says_the_same(strategy: Strategy, frame: pl.DataFrame) -> Actions:
    actions = strategy.actions(frame)
    assert actions is not None
    assert (actions.rows.dtype, actions.sides.dtype) == (np.int64, np.int8)
    signals = complete_signals(strategy, frame)
    sides = signals["action"].replace_strict(SIDES, return_dtype=pl.Int8).to_numpy()
    rows = np.flatnonzero(sides)
    assert actions.rows.tolist() == rows.tolist()
    assert actions.sides.tolist() == sides[rows].tolist()
    entering = signals.filter(pl.col("action").is_in(["BUY", "SELL"]))
    for column in SIGNAL_SCHEMA.keys() - {"opened_at", "action", "reason", "entry"}:
        expected = [actions.constants.get(column)] * entering.height
        assert entering[column].to_list() == expected, column
    return actions


@pytest.mark.parametrize("strategy", SHORT, ids=repr)
@pytest.mark.parametrize("market", ["binance_BTCUSDT_1h", "binanceusdm_XLMUSDT_1m", "bitstamp_BTCUSD_1d"])
def test_actions_are_the_acting_rows_of_the_signals_on_real_candles(strategy: Strategy, market: str) -> None:
    actions = assert_says_the_same(strategy, real_candles(market).head(20_000))
    assert actions.rows.size > (0 if isinstance(strategy, BuyAndHold) else 5)


@given(ticks=st.lists(st.integers(1, 8), max_size=50), strategy=st.sampled_from(SHORT))
@settings(deadline=None, max_examples=200)
def test_actions_are_the_acting_rows_of_the_signals_where_prices_tie(ticks: list[int], strategy: Strategy) -> None:
    frame = candles([tick / 10 for tick in ticks], spread=0.05) if ticks else candles([1.0]).head(0)
    assert_says_the_same(strategy, frame)


def test_actions_hold_when_prices_leave_the_exact_grid() -> None:
    prices = [1e-8, 2e-8, 1e-8, 3e-8, 1e7, 2e7, 1e7, 3e7, 1.0, 2.0, 1.0, 3.0]
    assert assert_says_the_same(SmaCross(fast=1, slow=2), candles(prices)).rows.tolist() == [2, 3, 6, 7, 8, 9, 10, 11]


def test_actions_do_not_depend_on_how_the_candles_lie_in_memory() -> None:
    whole = real_candles("binance_ETHUSDT_4h").head(2_000)
    chunked = pl.concat([whole.head(700), whole.tail(1_300)], rechunk=False)
    strategy = SmaCross(fast=3, slow=8)
    assert strategy.actions(chunked).rows.tolist() == strategy.actions(whole).rows.tolist()


def test_every_built_in_with_market_entries_and_plain_legs_has_a_short_form() -> None:
    kinds = {type(strategy) for strategy in SHORT}
    assert kinds == {SmaCross, RsiReversion, DonchianBreakout, MacdTrend, BollingerReversion, SuperTrend, BuyAndHold}
    frame = candles([1.0, 2.0, 1.0])
    assert DonchianBreakout(entry_type="stop").actions(frame) is None
    assert BollingerReversion(entry_type="limit").actions(frame) is None
    assert FibonacciGoldenZone().actions(frame) is None
