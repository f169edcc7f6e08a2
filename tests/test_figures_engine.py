"""The figures of the engine's own sums are those of the ledger's frames that the same run writes."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings

from candlewick.engine.bars import Beside, lay_out
from candlewick.engine.run import advance
from candlewick.engine.state import open_state
from candlewick.engine.terms import Terms
from candlewick.figures import FigureInputs
from candlewick.funding import FUNDING_SCHEMA
from candlewick.journal import Journal, Segment, write_journal
from candlewick.periods import inputs_from_frames
from candlewick.rows import ORDER_ROW, frame
from candlewick.trades import funding_payments, pair_trades
from tests.engine_play import Market
from tests.random_markets import SEEDS, market_of, random_instrument, random_market, random_rules
from tests.scenario import HOUR_MS, START_MS

SUMS = (
    *("initial_cash", "final_equity", "span_ms", "bars", "bars_exposed", "trades", "wins", "gains", "losses"),
    *("fees", "funding", "turnover", "longest_drawdown_ms"),
)


def perpetual_market(seed: int) -> Market:
    """Longs and shorts on margin, pyramiding and reversing, some of them to their liquidation."""
    draw = Random(seed)
    instruments = tuple(
        replace(random_instrument(draw, symbol), kind="perpetual", max_leverage=Decimal(50)) for symbol in ("BTC", "ETH")
    )
    rules = replace(random_rules(draw), direction="both", leverage=Decimal(draw.choice([1, 5, 40])), max_entries=3)
    rules = replace(rules, daily_loss_limit_share=None, max_drawdown_share=None, reverse=draw.random() < 0.7)
    return market_of(draw, Terms("1h", Decimal(10_000), instruments, rules), hours=90, gap_share=draw.choice([0, 0.1]))


def funding_of(market: Market) -> dict[str, pl.DataFrame]:
    """A rate every eight hours that is paid by either side."""
    start = datetime.fromtimestamp(START_MS / 1000, UTC)
    due = [start + timedelta(hours=8 * place) for place in range(13)]
    rates = [0.001 if place % 3 else -0.002 for place in range(13)]
    rows = pl.DataFrame({"funding_at": due, "rate": rates, "noted_at": due}, schema=dict(FUNDING_SCHEMA))
    return dict.fromkeys(market.terms.symbols, rows)


def both_ways(market: Market, funding: Mapping[str, pl.DataFrame]) -> tuple[FigureInputs, FigureInputs, Journal]:
    """What the engine kept, what its frames give, and these frames."""
    terms = market.terms
    laid = lay_out(terms, market.candles, None, 10**15, Beside(funding))
    moved = advance(open_state(terms.initial_cash, len(terms.symbols)), terms, laid.with_decisions(market.signals))
    segment = Segment("drawn", terms, market.signals, moved.events, moved.equity)
    journal = write_journal("demo", [segment], moved.state, frame([], ORDER_ROW))
    trades = pair_trades(journal.fills, funding_payments(journal.events))
    account, tally = moved.state.account[0], moved.tally[0]
    closed_ms = int(moved.equity["at"][-1])
    below = int(account["equity"]) < int(account["peak_equity"])
    kept = FigureInputs(
        initial_cash=int(terms.initial_cash * 10**8),
        final_equity=int(account["equity"]),
        day_equity=moved.day_equity,
        span_ms=closed_ms - int(laid.market.times[0]),
        longest_drawdown_ms=max(int(tally["longest_drawdown_ms"]), closed_ms - int(account["peak_at"]) if below else 0),
        return_sum=float(tally["return_sum"]),
        **{name: int(tally[name]) for name in ("bars", "bars_exposed", "drawdown_peak", "drawdown_trough")},
        **{name: int(account[name]) for name in ("trades", "wins", "gains", "losses")},
        **{name: int(tally[name]) for name in ("fees", "funding", "turnover")},
    )
    return kept, inputs_from_frames(journal.equity, journal.fills, trades, terms.initial_cash, HOUR_MS), journal


def assert_equal(kept: FigureInputs, found: FigureInputs) -> None:
    assert {name: getattr(found, name) for name in SUMS} == {name: getattr(kept, name) for name in SUMS}
    assert found.day_equity.tolist() == kept.day_equity.tolist()
    assert found.drawdown_peak * kept.drawdown_trough == found.drawdown_trough * kept.drawdown_peak
    assert (found.drawdown_peak == 0) == (kept.drawdown_peak == 0)
    assert found.return_sum == pytest.approx(kept.return_sum, rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(SEEDS)
def test_a_spot_accounts_frames_give_the_engines_sums(seed: int) -> None:
    kept, found, _ = both_ways(random_market(seed), {})
    assert_equal(kept, found)


@settings(deadline=None, max_examples=100)
@given(SEEDS)
def test_frames_of_longs_and_shorts_on_margin_with_funding_give_the_engines_sums(seed: int) -> None:
    market = perpetual_market(seed)
    kept, found, _ = both_ways(market, funding_of(market))
    assert_equal(kept, found)


def test_these_markets_reach_shorts_additions_reversals_funding_and_liquidations() -> None:
    legs: set[str] = set()
    sides: set[str] = set()
    added = funded = 0
    for seed in range(40):
        market = perpetual_market(seed)
        kept, _, journal = both_ways(market, funding_of(market))
        trades = pair_trades(journal.fills, funding_payments(journal.events))
        legs |= set(journal.fills["leg"])
        sides |= set(trades["side"])
        added += journal.fills.filter(pl.col("leg") == "entry").height - trades.height
        funded += kept.funding != 0
    assert {"entry", "exit", "stop", "target_1", "target_2", "liquidation"} <= legs
    assert sides == {"long", "short"}
    assert added > 0
    assert funded > 0
