"""A year of real candles: the engine against the slow reference engine, and against ten lines of floats."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from candlewick.engine.terms import Terms
from candlewick.instruments import Instrument
from candlewick.rules import Rules
from candlewick.strategies.contract import Strategy, complete_signals
from candlewick.strategies.fibonacci_golden_zone import FibonacciGoldenZone
from candlewick.strategies.sma_cross import SmaCross
from tests.engine_play import Market, play, reference_story, story_of
from tests.shared_data import real_candles

YEAR = 8760
FREE = Rules(
    slippage_bps=Decimal(0), daily_loss_limit_share=None, max_drawdown_share=None, cooldown_bars=0, max_position_share=Decimal(1)
)


def real_market(strategy: Strategy, bases: tuple[str, ...], rules: Rules, fee_bps: Decimal = Decimal(10)) -> Market:
    candles = {f"{base}/USDT": real_candles(f"binance_{base}USDT_1h").tail(YEAR) for base in bases}
    fees = {"maker_fee_bps": fee_bps, "taker_fee_bps": fee_bps}
    instruments = [
        Instrument(f"{base}/USDT", base, "USDT", Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"), Decimal(5), **fees)
        for base in bases
    ]
    signals = {symbol: complete_signals(strategy, frame) for symbol, frame in candles.items()}
    return Market(Terms("1h", Decimal(10_000), tuple(instruments), rules), candles, signals)


@pytest.mark.parametrize("strategy", [SmaCross(), FibonacciGoldenZone()], ids=["sma_cross", "fibonacci_golden_zone"])
def test_a_real_year_of_three_symbols_is_told_alike_by_the_reference_engine(strategy: Strategy) -> None:
    market = real_market(strategy, ("BTC", "ETH", "SOL"), Rules(max_drawdown_share=None))
    moved = play(market)
    story, curve = story_of(market.terms, moved.events, moved.equity)
    told, reference_curve = reference_story(market)
    assert len(story) > 200
    assert story == told
    assert curve == reference_curve


@pytest.mark.parametrize("base", ["BTC", "ETH", "SOL"])
@pytest.mark.parametrize(("fast", "slow"), [(10, 30), (24, 168)])
def test_a_real_year_of_a_moving_average_cross_equals_ten_lines_of_floats(base: str, fast: int, slow: int) -> None:
    market = real_market(SmaCross(fast=fast, slow=slow), (base,), FREE)
    fine = replace(
        market.terms.instruments[0], price_tick=Decimal("1e-8"), quantity_step=Decimal("1e-8"), min_notional=Decimal(0)
    )
    rich = Terms("1h", Decimal(10_000_000), (fine,), FREE)  # so that a step of 1e-8 is nothing to it
    equity = play(replace(market, terms=rich)).equity["equity"] / 1e8
    assert equity == pytest.approx(float_curve(market, fast, slow, 10_000_000.0), rel=1e-9)


def float_curve(market: Market, fast: int, slow: int, cash: float) -> list[float]:
    """All in at the next open after the fast average crossed above the slow one, out after it crossed below; 0.1 % a side."""
    opens, closes = next(iter(market.candles.values())).select("open", "close").to_numpy().T
    sums = np.cumsum(np.rint(np.insert(closes, 0, 0) * 100)).astype(np.int64)  # in cents, so that ties are ties
    quantity, wanted, above, curve = 0.0, False, None, []
    for bar in range(len(closes)):
        if wanted != (quantity > 0):
            cash, quantity = (0.0, cash / (opens[bar] * 1.001)) if wanted else (quantity * opens[bar] * 0.999, 0.0)
        curve.append(cash + quantity * closes[bar])
        if bar + 1 >= slow:
            difference = (sums[bar + 1] - sums[bar + 1 - fast]) * slow - (sums[bar + 1] - sums[bar + 1 - slow]) * fast
            if difference:
                wanted, above = (difference > 0) if above is not None and above != (difference > 0) else wanted, difference > 0
    return curve
