"""What is compared with whom: markets by strategies by brackets, each engine's answers computed once a session."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module

import pytest

from tests.oracles import with_candlewick
from tests.oracles.markets import JUMPY, REAL, jumpy_candles
from tests.oracles.play import Outcome, Play
from tests.oracles.signals import STRATEGIES
from tests.oracles.written_out import BACKTESTING, RAPTORBT, VECTORBT, FillRules
from tests.shared_data import real_candles

MARKETS = (*REAL, JUMPY)
NO_STOPS, STOPS = "no stops", "stop 2 %, target 4 %"
BRACKETS: Mapping[str, tuple[float | None, float | None]] = {NO_STOPS: (None, None), STOPS: (0.02, 0.04)}
RULES: Mapping[str, FillRules] = {"backtesting": BACKTESTING, "raptorbt": RAPTORBT, "vectorbt": VECTORBT}
"""The other engines, by the name of their package, and the rules each plays by."""


@cache
def play_of(market: str, strategy: str, brackets: str) -> Play:
    """Skips the test where the market is a real one and is not beside the checkout."""
    candles = jumpy_candles() if market == JUMPY else real_candles(market)
    stop, target = BRACKETS[brackets]
    return Play(candles, STRATEGIES[strategy](candles), stop, target)


@cache
def ours(market: str, strategy: str, brackets: str) -> Outcome:
    """What Candlewick makes of it."""
    return with_candlewick.run(play_of(market, strategy, brackets))


@cache
def theirs(engine: str, market: str, strategy: str, brackets: str) -> Outcome:
    """What ``engine`` makes of it; skips the test where it is not installed (raptorbt has no wheels for the newest Pythons)."""
    play = play_of(market, strategy, brackets)
    pytest.importorskip(engine)
    outcome: Outcome = import_module(f"tests.oracles.with_{engine}").run(play)
    return outcome
