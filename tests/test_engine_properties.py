"""What holds whatever the market does: conservation, order, no peeking, and the same story however the bars are cut."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import cycle
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.amounts import from_units, plain
from candlewick.engine import run
from candlewick.engine.layout import EVENT, Kind, Leg, Outcome, Pending, Rule, Why
from candlewick.engine.run import Advance, advance_open
from candlewick.engine.state import EngineState
from candlewick.engine.terms import Terms, quantity_decimals
from candlewick.journal import Journal, Segment, opening_postings, write_journal
from candlewick.journal_events import LEG_NAMES, Event, units_text
from candlewick.rows import (
    EQUITY_ROW,
    EVENT_ROW,
    FILL_ROW,
    ORDER_ROW,
    POSITION_ROW,
    POSTING_ROW,
    SIGNAL_ROW,
    Value,
    frame,
)
from tests.engine_play import Market, joined, play, play_in_pieces, reference_story, story_of
from tests.random_markets import SEEDS, market_of, random_market, random_rules, roomy_market, some_market
from tests.reference_terms import Happening
from tests.scenario import START_MS

some = settings(deadline=None, max_examples=60)
PIECES = st.lists(st.integers(1, 9), min_size=1, max_size=6)
EARLY = st.lists(st.booleans(), min_size=1, max_size=5)


def journal_of(market: Market, moved: Advance, open_orders: pl.DataFrame, before: EngineState | None = None) -> Journal:
    segment = Segment("drawn", market.terms, market.signals, moved.events, moved.equity)
    return write_journal("demo", [segment], moved.state, open_orders, before)


def whole_journal(market: Market) -> Journal:
    return journal_of(market, play(market), frame([], ORDER_ROW))


def fills_with_bars(market: Market) -> list[tuple[Happening, tuple[float, ...]]]:
    moved = play(market)
    bars = {
        (symbol, time): prices
        for symbol, candles in market.candles.items()
        for time, prices in zip(
            candles["opened_at"].dt.epoch("ms").to_list(), candles.select("open", "high", "low", "close").rows(), strict=True
        )
    }
    story, _ = story_of(market.terms, moved.events, moved.equity)
    return [(one, bars[one.symbol, one.at]) for one in story if one.kind == "fill"]


@settings(deadline=None, max_examples=300)
@given(SEEDS)
def test_a_second_slow_engine_tells_the_same_story(seed: int) -> None:
    market = some_market(seed)
    moved = play(market)
    assert story_of(market.terms, moved.events, moved.equity) == reference_story(market)


@some
@given(SEEDS)
def test_cash_is_never_negative_and_with_the_positions_it_is_the_equity(seed: int) -> None:
    equity = play(random_market(seed)).equity
    assert (equity["cash"] >= 0).all()
    assert (equity["position_value"] >= 0).all()
    assert (equity["equity"] == equity["cash"] + equity["position_value"]).all()


@some
@given(SEEDS)
def test_no_fill_refers_to_a_price_outside_its_bar(seed: int) -> None:
    for fill, (_, high, low, _) in fills_with_bars(random_market(seed)):
        assert Fraction(round(low * 10**9), 10**9) <= fill.reference <= Fraction(round(high * 10**9), 10**9)


@some
@given(SEEDS)
def test_a_fill_is_worse_than_its_reference_by_slippage_and_less_than_a_tick_at_most(seed: int) -> None:
    market = random_market(seed)
    ticks = {instrument.symbol: Fraction(instrument.price_tick) for instrument in market.terms.instruments}
    for fill, (opened, *_) in fills_with_bars(market):
        slippage = fill.reference * Fraction(market.terms.rules.slippage_bps) / 10_000
        worse = fill.price - fill.reference if fill.leg == "entry" else fill.reference - fill.price
        paid = slippage if fill.leg in ("entry", "exit", "stop") else 0
        assert paid <= worse < paid + ticks[fill.symbol] or fill.price == ticks[fill.symbol]
        assert fill.price % ticks[fill.symbol] == 0
        assert fill.phase == "intrabar" or fill.reference == Fraction(round(opened * 10**9), 10**9)


@some
@given(SEEDS)
def test_events_are_numbered_from_one_without_holes(seed: int) -> None:
    moved = play(random_market(seed))
    assert moved.events["sequence"].tolist() == list(range(1, moved.state.sequence + 1))


@some
@given(SEEDS)
def test_postings_balance_and_sum_to_the_cash_and_the_quantities(seed: int) -> None:
    market = some_market(seed)
    moved, journal = play(market), whole_journal(market)
    deposit = opening_postings("demo", "USDT", market.terms.initial_cash, START_MS)
    postings = pl.concat([deposit, journal.postings])
    assert set(postings.group_by("transaction_id", "asset").agg(pl.col("amount").sum())["amount"]) == {Decimal(0)}
    totals = dict(
        postings.group_by("ledger_account", "asset")
        .agg(pl.col("amount").sum())
        .select(pl.concat_str("ledger_account", "asset", separator=" "), "amount")
        .rows()
    )
    assert totals["assets:cash USDT"] == from_units(int(moved.state.account["cash"][0]), 8)
    signed = pl.when(pl.col("side") == "short").then(-pl.col("quantity")).otherwise(pl.col("quantity"))
    held = dict(journal.positions.select("symbol", signed).rows())
    for symbol in market.terms.symbols:
        assert totals.get(f"assets:position {symbol}", Decimal(0)) == held.get(symbol, Decimal(0))
    fees = journal.fills["fee"].sum() if journal.fills.height else Decimal(0)
    assert totals.get("expenses:fees USDT", Decimal(0)) == fees
    assert totals.get("expenses:funding USDT", Decimal(0)) == -from_units(int(moved.tally["funding"][0]), 8)


@some
@given(SEEDS)
def test_profits_and_what_is_still_held_at_cost_explain_the_cash(seed: int) -> None:
    market = some_market(seed)
    moved, journal = play(market), whole_journal(market)
    realized = sum((pnl for pnl in journal.fills["realized_pnl"] if pnl is not None), Decimal(0))
    explained = market.terms.initial_cash + realized + from_units(int(moved.tally["funding"][0]), 8)
    for instrument, position in zip(market.terms.instruments, moved.state.positions, strict=True):
        entered = position["notional"] if instrument.kind != "spot" else 0  # on margin only the fee is paid at an entry
        explained -= from_units(int(position["side"] * (position["cost"] - entered)), 8)
    assert from_units(int(moved.state.account["cash"][0]), 8) == explained


@some
@given(SEEDS)
def test_every_order_has_its_signal_and_every_fill_its_order(seed: int) -> None:
    market = some_market(seed)
    journal = whole_journal(market)
    signals = set(journal.signals["signal_id"])
    orders = {row["client_order_id"]: row for row in journal.orders.iter_rows(named=True)}
    assert len(orders) == journal.orders.height
    assert {order["signal_id"] for order in orders.values()} <= signals
    assert journal.fills["fill_id"].is_unique().all()
    filled: dict[str, list[Decimal]] = {}
    for fill in journal.fills.iter_rows(named=True):
        order = orders[fill["client_order_id"]]
        filled.setdefault(fill["client_order_id"], []).append(fill["quantity"])
        assert (fill["symbol"], fill["side"], fill["leg"]) == (order["symbol"], order["side"], order["leg"])
    for order_id, order in orders.items():
        parts = filled.get(order_id, [])
        assert (order["filled_quantity"], order["fills"]) == (sum(parts, Decimal(0)), len(parts))
        assert not parts or order["filled_quantity"] <= order["quantity"]
        assert order["status"] != "filled" or order["filled_quantity"] == order["quantity"]
        assert (order["status"] == "open") == (order["closed_at"] is None)


@some
@given(SEEDS)
def test_a_spot_entry_never_spends_more_than_its_budget(seed: int) -> None:
    journal = whole_journal(random_market(seed))
    budgets = dict(journal.orders.select("client_order_id", "budget").rows())
    for fill in journal.fills.filter(pl.col("leg") == "entry").iter_rows(named=True):
        assert fill["notional"] + fill["fee"] <= budgets[fill["client_order_id"]]


@some
@given(SEEDS)
def test_open_orders_are_what_the_account_waits_with(seed: int) -> None:
    market = some_market(seed)
    state = play(market).state
    journal = whole_journal(market)
    waiting: dict[tuple[str, str], Decimal] = {}
    for order in journal.orders.filter(pl.col("status") == "open").iter_rows(named=True):
        assert (order["symbol"], order["leg"]) not in waiting
        waiting[order["symbol"], order["leg"]] = (order["quantity"] or Decimal(0)) - order["filled_quantity"]
    for instrument, position in zip(market.terms.instruments, state.positions, strict=True):
        mine = {leg: left for (symbol, leg), left in waiting.items() if symbol == instrument.symbol}
        held = from_units(int(position["quantity"]), quantity_decimals(instrument))
        levels = {leg for leg in ("stop", "target_1", "target_2") if position[leg]}
        exits = {LEG_NAMES[int(position["exit_leg"])]} if position["exit_leg"] else set()
        assert set(mine) == levels | exits | ({"entry"} if position["pending"] else set())
        assert "stop" not in mine or mine["stop"] == held
        if levels & {"target_1", "target_2"}:
            assert sum((mine.get(leg, Decimal(0)) for leg in ("target_1", "target_2")), Decimal(0)) == held


@some
@given(SEEDS)
def test_what_is_ordered_at_an_entry_never_exceeds_the_position(seed: int) -> None:
    market = random_market(seed)
    story, _ = story_of(market.terms, play(market).events, play(market).equity)
    bought = {(one.symbol, one.decided_at): one.quantity for one in story if one.kind == "fill" and one.leg == "entry"}
    for leg_names in (("stop",), ("target_1", "target_2")):
        asked: dict[tuple[str, int], Fraction] = {}
        for one in story:
            if one.kind == "order" and one.leg in leg_names:
                asked[one.symbol, one.decided_at] = asked.get((one.symbol, one.decided_at), Fraction(0)) + one.quantity
        assert all(quantity == bought[key] for key, quantity in asked.items())


@some
@given(SEEDS, PIECES, EARLY)
def test_any_cut_of_the_bars_with_stored_states_and_early_opens_tells_the_same(
    seed: int, lengths: list[int], early: list[bool]
) -> None:
    market = random_market(seed)
    whole, pieces = play(market), play_in_pieces(market, cycle(lengths), cycle(early))
    assert np.array_equal(joined(pieces, "events"), whole.events)
    assert np.array_equal(joined(pieces, "equity"), whole.equity)
    assert pieces[-1].state.to_document() == whole.state.to_document()


@some
@given(SEEDS, PIECES, EARLY)
def test_any_cut_of_the_bars_writes_the_same_journal(seed: int, lengths: list[int], early: list[bool]) -> None:
    market = some_market(seed)
    whole = whole_journal(market)
    parts: list[Journal] = []
    ledger: dict[str, dict[str, Value]] = {}
    before: EngineState | None = None
    for piece in play_in_pieces(market, cycle(lengths), cycle(early)):
        waiting = [row for row in ledger.values() if row["status"] == "open"]
        parts.append(journal_of(market, piece, pl.DataFrame(waiting, schema=dict(ORDER_ROW), orient="row"), before))
        before = piece.state
        ledger |= {row["client_order_id"]: row for row in parts[-1].orders.iter_rows(named=True)}
    for table in ("signals", "fills", "postings", "equity", "events"):
        assert pl.concat([getattr(part, table) for part in parts]).equals(getattr(whole, table)), table
    assert parts[-1].positions.equals(whole.positions)
    assert list(ledger.values()) == whole.orders.rows(named=True)


@some
@given(SEEDS, st.integers(1, 80))
def test_later_bars_change_nothing_that_was_decided_before(seed: int, hours: int) -> None:
    market = random_market(seed)
    known = pl.col("opened_at").dt.epoch("ms") < START_MS + hours * 3_600_000
    earlier = Market(
        market.terms,
        {symbol: candles.filter(known) for symbol, candles in market.candles.items()},
        {symbol: signals.filter(known) for symbol, signals in market.signals.items()},
    )
    whole, part = play(market), play(earlier)
    assert np.array_equal(whole.events[: len(part.events)], part.events)
    assert np.array_equal(whole.equity[: len(part.equity)], part.equity)
    assert (whole.events["at"][len(part.events) :] >= START_MS + hours * 3_600_000).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_size_of_the_event_buffer_does_not_matter(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    market = random_market(seed)
    whole = play(market)
    monkeypatch.setattr(run, "_BUFFER_EVENTS", 1)
    bit_by_bit = play(market)
    assert np.array_equal(bit_by_bit.events, whole.events)
    assert bit_by_bit.state.to_document() == whole.state.to_document()


@some
@given(SEEDS)
def test_doing_the_open_twice_does_it_once(seed: int) -> None:
    market = random_market(seed)
    bars = market.input()
    first = advance_open(play(market).state, market.terms, int(bars.times[-1]) + 3_600_000, bars.market.prices[:, -1, 3])
    again = advance_open(first.state, market.terms, int(bars.times[-1]) + 3_600_000, bars.market.prices[:, -1, 3])
    assert len(again.events) == 0
    assert again.state.to_document() == first.state.to_document()


@some
@given(SEEDS, st.permutations(range(4)))
def test_the_order_of_the_symbols_does_not_matter_where_cash_and_limits_do_not_bind(seed: int, order: list[int]) -> None:
    market = roomy_market(seed)
    moved_around = replace(market, terms=replace(market.terms, instruments=tuple(market.terms.instruments[i] for i in order)))
    stories = [story_of(one.terms, play(one).events, play(one).equity) for one in (market, moved_around)]
    for symbol in market.terms.symbols:
        mine, other = ([one for one in story if one.symbol == symbol] for story, _ in stories)
        assert mine == other
    assert stories[0][1] == stories[1][1]


@some
@given(SEEDS, st.sampled_from([10, 1000]))
def test_an_account_in_another_currency_unit_does_the_same(seed: int, factor: int) -> None:
    draw = Random(seed)
    rules = replace(random_rules(draw), capital="initial", slippage_bps=Decimal(10))
    small = random_market(seed).terms.instruments[0]
    small = replace(small, price_tick=Decimal("0.01"), quantity_step=Decimal("0.01"), taker_fee_bps=Decimal(10), quote_decimals=8)
    small = replace(small, maker_fee_bps=Decimal(2))
    market = market_of(draw, Terms("1h", Decimal(1000), (small,), rules), hours=60, gap_share=0.1)
    large = replace(
        small, price_tick=small.price_tick * factor, min_notional=small.min_notional * factor, quote_decimals=small.quote_decimals
    )
    scaled = Market(
        Terms("1h", Decimal(1000 * factor), (large,), rules),
        {
            symbol: candles.with_columns(pl.col("open", "high", "low", "close") * factor)
            for symbol, candles in market.candles.items()
        },
        {
            symbol: signals.with_columns(pl.col("stop_loss", "take_profit_1", "take_profit_2") * factor)
            for symbol, signals in market.signals.items()
        },
    )
    (before, curve), (after, scaled_curve) = (story_of(one.terms, play(one).events, play(one).equity) for one in (market, scaled))
    assert [(one.kind, one.at, one.leg, one.quantity, one.outcome) for one in before] == [
        (one.kind, one.at, one.leg, one.quantity, one.outcome) for one in after
    ]
    assert [one.price * factor for one in before] == [one.price for one in after]
    assert [one.equity * factor for one in curve] == [one.equity for one in scaled_curve]


@given(st.integers(-(2**63) + 1, 2**63 - 1), st.integers(0, 12))
def test_units_as_text_are_what_the_exact_decimal_says(units: int, decimals: int) -> None:
    assert units_text(units, decimals) == plain(from_units(units, decimals))


def test_journal_frames_have_the_columns_of_the_ledger() -> None:
    journal = whole_journal(random_market(3))
    schemas = {
        "signals": SIGNAL_ROW,
        "orders": ORDER_ROW,
        "fills": FILL_ROW,
        "postings": POSTING_ROW,
        "positions": POSITION_ROW,
        "equity": EQUITY_ROW,
        "events": EVENT_ROW,
    }
    for table, schema in schemas.items():
        assert getattr(journal, table).schema == pl.Schema(schema), table
    assert Event._fields == EVENT.names


def test_the_random_markets_reach_every_kind_of_event_and_every_rule() -> None:
    seen: set[str] = set()
    for seed in range(300):
        market = some_market(seed)
        moved = play(market)
        story, _ = story_of(market.terms, moved.events, moved.equity)
        for one in story:
            seen |= {f"{one.kind} {one.leg}", f"{one.kind} {one.phase} {one.entry_type}", f"{one.kind} {one.side}"}
            seen |= {f"rule {one.rule}", f"outcome {one.outcome}", f"why {one.why}", f"kind {one.kind}", f"leg {one.leg}"}
            seen |= {f"part {one.leg}"} if one.left else set()
    expected = {
        f"{kind.__name__.lower()} {one.name.lower()}" for kind in (Kind, Leg, Rule, Outcome, Why) for one in kind if one.value
    }
    expected |= {f"fill {phase} {kind.name.lower()}" for phase in ("open", "intrabar") for kind in (Pending.LIMIT, Pending.STOP)}
    expected |= {f"part {leg}" for leg in ("entry", "exit", "stop", "target_1", "target_2", "time_stop")}
    expected |= {f"refusal {leg}" for leg in ("entry", "exit", "stop")} | {
        f"{kind} {side}" for kind in ("fill", "order") for side in (1, -1)
    }
    assert expected - seen == set()
