"""Candlewick beside other engines on real candles: the same trades, and the same final equity to 1e-9, under equal rules.

Under unequal rules Candlewick agrees with the loop in tests/oracles/written_out.py, and that loop with the other engine once the
loop's rules are switched (tests/test_oracles.py): the switches are the whole difference. docs/agreement.md shows these figures.
"""

import pytest

from tests.oracles import agreement_page, goog, with_candlewick
from tests.oracles.cases import BRACKETS, MARKETS, NO_STOPS, RULES, STOPS, ours, play_of, theirs
from tests.oracles.markets import JUMPY
from tests.oracles.play import Comparison, Outcome, assert_same
from tests.oracles.signals import STRATEGIES
from tests.oracles.written_out import CANDLEWICK, run


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("brackets", BRACKETS)
def test_candlewick_trades_as_its_contract_says_in_plain_words(market: str, brackets: str) -> None:
    for strategy in STRATEGIES:
        written = run(play_of(market, strategy, brackets), CANDLEWICK)
        assert_same(Comparison(ours(market, strategy, brackets), written))


@pytest.mark.parametrize("engine", RULES)
@pytest.mark.parametrize("market", MARKETS)
def test_candlewick_agrees_with_every_other_engine_where_there_are_no_stops(engine: str, market: str) -> None:
    for strategy in STRATEGIES:
        assert_same(Comparison(ours(market, strategy, NO_STOPS), theirs(engine, market, strategy, NO_STOPS)))


@pytest.mark.parametrize("market", MARKETS)
def test_candlewick_agrees_with_backtesting_py_on_stops_and_targets_too(market: str) -> None:
    for strategy in STRATEGIES:
        assert_same(Comparison(ours(market, strategy, STOPS), theirs("backtesting", market, strategy, STOPS)))


@pytest.mark.parametrize("market", [market for market in MARKETS if market != JUMPY])
@pytest.mark.parametrize("strategy", ["sma_cross", "macd"])
def test_candlewick_agrees_with_raptorbt_on_stops_and_targets_where_no_target_is_gapped(market: str, strategy: str) -> None:
    """Of crosses each entry is followed by an exit signal before the next, so raptorbt's rule about that does not show."""
    assert_same(Comparison(ours(market, strategy, STOPS), theirs("raptorbt", market, strategy, STOPS)))


def test_candlewick_gives_the_known_answer_on_goog_to_the_cent() -> None:
    candles, known = goog.goog_candles(), goog.Answer()
    outcome, commissions, drawdown = with_candlewick.run_goog(candles)
    assert_same(Comparison(Outcome(goog.goog_trades(), known.final_equity), outcome))
    assert len(outcome.trades) == known.trades
    assert round(outcome.final_equity, 5) == known.final_equity
    assert round(commissions, 5) == known.commissions
    assert -drawdown == pytest.approx(known.largest_drawdown, abs=1e-8)
    assert sum(trade.pnl > 0 for trade in outcome.trades) / known.trades == pytest.approx(known.win_rate, abs=1e-8)


def test_the_page_shows_the_figures_of_now() -> None:
    """`make agreement` writes them."""
    assert agreement_page.figures_on_page() == agreement_page.figures()
