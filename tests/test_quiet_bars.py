"""Whatever the market does, in every market the engine knows: skipping quiet bars is stepping, and money is conserved."""

from itertools import cycle
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.engine.layout import Kind, Leg, Pending
from candlewick.engine.run import Advance, advance
from candlewick.engine.terms import Records
from tests.engine_play import Market, joined, play, play_in_pieces
from tests.random_markets import SEEDS, any_market, quiet_market

some = settings(deadline=None, max_examples=100)
PIECES = st.lists(st.integers(1, 9), min_size=1, max_size=6)
EARLY = st.lists(st.booleans(), min_size=1, max_size=5)


def assert_same(one: Advance, other: Advance) -> None:
    assert one.state.to_document() == other.state.to_document()
    for name in ("events", "equity", "tally", "day_equity"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def skipped_and_stepped(market: Market, draw: Random) -> tuple[Advance, Advance]:
    """Both with the same, randomly thinned equity curve."""
    bars = market.input()
    kept = np.flatnonzero([draw.random() < 0.2 for _ in bars.times])
    skipped, stepped = (advance(market.opened(), market.terms, bars, kept, skips=skips) for skips in (True, False))
    return skipped, stepped


@settings(deadline=None, max_examples=300)
@given(SEEDS)
def test_skipping_quiet_bars_is_stepping_through_them_to_the_last_bit(seed: int) -> None:
    for market in (any_market(seed), quiet_market(seed)):
        assert_same(*skipped_and_stepped(market, Random(seed)))


@some
@given(SEEDS, PIECES, EARLY)
def test_any_cut_of_the_bars_tells_the_same_in_every_market(seed: int, lengths: list[int], early: list[bool]) -> None:
    market = any_market(seed)
    whole, pieces = play(market), play_in_pieces(market, cycle(lengths), cycle(early))
    assert joined(pieces, "events").tobytes() == whole.events.tobytes()
    assert joined(pieces, "equity").tobytes() == whole.equity.tobytes()
    assert pieces[-1].state.to_document() == whole.state.to_document()


@some
@given(SEEDS)
def test_cash_is_what_was_settled_less_fees_and_margin_is_that_of_the_positions(seed: int) -> None:
    market = any_market(seed)
    moved = play(market)
    account, positions, events = moved.state.account[0], moved.state.positions, moved.events
    initial = int(market.terms.initial_cash * 10**8)
    assert account["cash"] == initial + events["settled"].sum() - events["fee"].sum()
    assert account["margin"] == positions["margin"].sum()
    assert account["cash"] >= account["margin"]
    assert (moved.equity["cash"] >= 0).all()


@some
@given(SEEDS)
def test_what_is_held_is_what_was_filled(seed: int) -> None:
    moved = play(any_market(seed))
    fills = moved.events[moved.events["kind"] == Kind.FILL]
    for number, position in enumerate(moved.state.positions):
        mine = fills[fills["symbol"] == number]
        assert (mine["side"] * mine["quantity"]).sum() == position["side"] * position["quantity"]
        assert (position["side"] == 0) == (position["quantity"] == 0)
        assert position["quantity"] > 0 or not any(position[name] for name in ("entries", "margin", "notional", "cost"))


@some
@given(SEEDS)
def test_a_close_on_margin_never_costs_more_than_the_margin_it_frees(seed: int) -> None:
    market = any_market(seed)
    leverage = int(market.terms.rules.leverage * 10**8)
    margins, held = [0] * 4, [0] * 4
    for fill in fills_of(play(market)):
        symbol, quantity = int(fill["symbol"]), int(fill["quantity"])
        if market.terms.instruments[symbol].kind == "spot":
            continue
        if fill["leg"] == Leg.ENTRY:
            margins[symbol] += -(-int(fill["notional"]) * 10**8 // leverage)
            held[symbol] += quantity
            continue
        freed = margins[symbol] if quantity == held[symbol] else margins[symbol] * quantity // held[symbol]
        assert fill["settled"] - fill["fee"] >= -freed
        margins[symbol] -= freed
        held[symbol] -= quantity


@some
@given(SEEDS)
def test_equity_is_never_negative(seed: int) -> None:
    assert (play(any_market(seed)).equity["equity"] >= 0).all()


@some
@given(SEEDS)
def test_entries_add_to_their_side_and_nothing_leaves_that_is_not_held(seed: int) -> None:
    held = [0] * 4
    for fill in fills_of(play(any_market(seed))):
        symbol, side = int(fill["symbol"]), int(fill["side"])
        before = held[symbol]
        held[symbol] += side * int(fill["quantity"])
        if fill["leg"] == Leg.ENTRY:
            assert side == fill["position_side"]
            assert before * side >= 0
        else:
            assert side == -fill["position_side"]
            assert before * side < 0
            assert held[symbol] * side <= 0


@some
@given(SEEDS)
def test_no_fill_refers_to_a_price_outside_its_bar_but_for_the_spread(seed: int) -> None:
    market = any_market(seed)
    bars = market.input().market
    row_at = {int(at): row for row, at in enumerate(bars.times)}
    half = market.terms.rules.spread_bps / 20_000
    for fill in fills_of(play(market)):
        row, symbol = row_at[int(fill["at"])], int(fill["symbol"])
        _, high, low, _ = bars.prices[symbol, row].tolist()
        price = int(fill["reference_price"])
        # A limit order rests at what the other side of the spread has to come to.
        rests = fill["leg"] in (Leg.TARGET_1, Leg.TARGET_2) or fill["entry_type"] == Pending.LIMIT
        assert low * (1 - (half if rests else 0)) <= price <= high * (1 + (half if rests else 0)) + 1


def fills_of(moved: Advance) -> Records:
    fills: Records = moved.events[moved.events["kind"] == Kind.FILL]
    return fills
