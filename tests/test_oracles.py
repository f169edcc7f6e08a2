"""The oracles themselves: each other engine plays exactly the rules that docs/agreement.md says it plays.

The rules are written out once more as a plain loop (tests/oracles/written_out.py). An engine that agrees with it on real candles
differs from Candlewick in the named switches and in nothing else.
"""

from dataclasses import replace

import pytest

from tests.oracles import goog
from tests.oracles.cases import BRACKETS, MARKETS, RULES, STOPS, play_of, theirs
from tests.oracles.markets import JUMPY
from tests.oracles.play import Comparison, Outcome, assert_same
from tests.oracles.signals import STRATEGIES
from tests.oracles.written_out import CANDLEWICK, run


@pytest.mark.parametrize("engine", RULES)
@pytest.mark.parametrize("market", MARKETS)
def test_another_engine_plays_the_rules_that_are_written_down_for_it(engine: str, market: str) -> None:
    for strategy in STRATEGIES:
        for brackets in BRACKETS:
            written = run(play_of(market, strategy, brackets), RULES[engine])
            assert_same(Comparison(written, theirs(engine, market, strategy, brackets)))


@pytest.mark.parametrize(
    "switch", ["protects_entry_bar", "gapped_target_fills_at_open", "exit_before_stop", "enters_again_before_exit_signal"]
)
def test_every_switch_matters_so_agreement_says_something(switch: str) -> None:
    other = replace(CANDLEWICK, **{switch: False})
    played = [play_of(JUMPY, strategy, STOPS) for strategy in STRATEGIES]
    assert any(Comparison(run(play), run(play, other)).differing for play in played)


def test_backtesting_py_gives_its_known_answer_on_goog() -> None:
    candles, known = goog.goog_candles(), goog.Answer()
    pytest.importorskip("backtesting")
    outcome, commissions, drawdown, win_rate = goog.played_by_backtesting(candles)
    assert_same(Comparison(Outcome(goog.goog_trades(), known.final_equity), outcome))
    assert len(outcome.trades) == known.trades
    assert commissions == pytest.approx(known.commissions, rel=1e-12)
    assert drawdown == pytest.approx(known.largest_drawdown, abs=1e-8)
    assert win_rate == pytest.approx(known.win_rate, abs=1e-8)


def test_its_sizing_rule_written_out_gives_the_known_answer_too() -> None:
    known = goog.Answer()
    outcome, commissions, equity = goog.written_out(goog.goog_candles())
    assert_same(Comparison(Outcome(goog.goog_trades(), known.final_equity), outcome))
    assert commissions == pytest.approx(known.commissions, rel=1e-12)
    assert outcome.final_equity / goog.CASH - 1.0 == pytest.approx(known.total_return, abs=1e-8)
    peaks = [max(equity[: bar + 1]) for bar in range(len(equity))]
    assert min(value / peak for value, peak in zip(equity, peaks, strict=True)) - 1.0 == pytest.approx(
        known.largest_drawdown, abs=1e-8
    )
