"""The journal's words: what the ledger says about orders, fills and events of one small account."""

import json
from decimal import Decimal

import polars as pl

from candlewick.engine.layout import Kind, Leg, Pending, Rule, Why
from candlewick.journal import Journal, Segment, write_journal
from candlewick.journal_events import KIND_NAMES
from candlewick.journal_orders import CANCELLED, ENTRY_KINDS, MOVED, ORDER_KINDS, REFUSAL_TEXTS
from candlewick.rows import ORDER_ROW, frame
from candlewick.timeframes import format_utc
from tests.engine_play import play
from tests.scenario import parse

STORY = """
rules slippage_bps=5 stop_to_entry_after_target_1=yes max_open_positions=1
symbol BTC tick=0.01 step=0.001 taker_fee_bps=10
symbol ETH tick=0.01 step=0.001
00 BTC 100 101 99 100 BUY stop_loss=95 take_profit_1=105 take_profit_2=110 target_weight=0.5
00 ETH 10 10 10 10
01 BTC 100 105 99 104
01 ETH 10 10 10 10 BUY stop_loss=9.5
02 BTC 99 100 98 99
02 ETH 10 10 10 10
"""


def journal_of(text: str) -> Journal:
    market = parse(text)
    moved = play(market)
    segment = Segment("drawn", market.terms, market.signals, moved.events, moved.equity)
    return write_journal("demo", [segment], moved.state, frame([], ORDER_ROW))


def test_every_order_says_what_became_of_it_and_why() -> None:
    orders = journal_of(STORY).orders
    told = [
        (row["symbol"], row["leg"], row["kind"], row["status"], row["reason"])
        for row in orders.select("symbol", "leg", "kind", "status", "reason").iter_rows(named=True)
    ]
    assert told == [
        ("BTC", "entry", "market", "filled", "buy signal of 2026-01-01 01:00: filled at the next open 100, slippage 5 bps"),
        ("BTC", "stop", "stop", "filled", "the bar opened at 99, at or beyond the stop: filled at the open, slippage 5 bps"),
        ("BTC", "target_1", "limit", "filled", "price touched the first target 105"),
        ("BTC", "target_2", "limit", "cancelled", "the position is closed"),
        ("ETH", "entry", "market", "refused", "ETH: 1 positions are open or ordered; the limit is 1"),
    ]
    stop = orders.row(1, named=True)
    assert (stop["price"], stop["quantity"]) == (Decimal("100.05"), Decimal("2.496"))
    refused = orders.row(4, named=True)
    assert (refused["rule"], refused["rule_limit"], refused["rule_value"]) == ("max_open_positions", 1, 1)


def test_a_fill_is_five_postings() -> None:
    journal = journal_of(STORY)
    first = journal.fills.row(0, named=True)
    assert format_utc(int(first["bar_opened_at"].timestamp() * 1000)) == "2026-01-01 01:00"
    postings = journal.postings.filter(pl.col("transaction_id") == first["fill_id"]).select("ledger_account", "asset", "amount")
    notional = Decimal("4.992") * Decimal("100.05")
    assert first["quantity"] == Decimal("4.992")
    assert first["fee"] == Decimal("0.4994496")
    assert postings.rows() == [
        ("assets:position", "BTC", Decimal("4.992")),
        ("market", "BTC", Decimal("-4.992")),
        ("assets:cash", "USDT", -notional - first["fee"]),
        ("market", "USDT", notional),
        ("expenses:fees", "USDT", first["fee"]),
    ]


def test_a_signal_keeps_the_strategys_own_numbers_and_what_became_of_it() -> None:
    signals = journal_of(STORY).signals
    assert signals.select("symbol", "action", "stop_loss", "take_profit_2", "target_weight", "outcome").rows() == [
        ("BTC", "BUY", Decimal(95), Decimal(110), Decimal("0.5"), "entry_ordered"),
        ("ETH", "BUY", Decimal("9.5"), None, None, "refused"),
    ]


def test_an_events_document_names_its_order_its_amounts_and_the_rule() -> None:
    journal = journal_of(STORY)
    documents = [json.loads(text) for text in journal.events["document"]]
    kinds = journal.events["kind"].to_list()
    order, fill, refusal = (documents[kinds.index(kind)] for kind in ("order", "fill", "refusal"))
    entry = journal.orders["client_order_id"][0]
    assert order == {"client_order_id": entry, "budget": "500"}
    assert fill == {
        "client_order_id": entry,
        "price": "100.05",
        "reference_price": "100",
        "quantity": "4.992",
        "notional": "499.4496",
        "fee": "0.4994496",
    }
    assert (refusal["rule"], refusal["limit"], refusal["value"]) == ("max_open_positions", "1", "1")


def test_limits_of_the_account_are_events_without_a_symbol() -> None:
    journal = journal_of("""
    rules max_drawdown_share=0.1
    symbol BTC
    00 BTC 100 101 99 100 BUY
    01 BTC 100 101 49 50
    """)
    halt = journal.events.filter(pl.col("kind") == "halt").row(0, named=True)
    assert halt["symbol"] is None
    assert json.loads(halt["document"]) == {"rule": "max_drawdown", "limit": "0.1", "value": "0.5"}


def test_every_rule_and_every_leg_has_its_words() -> None:
    assert set(REFUSAL_TEXTS) == set(Rule) - {Rule.NONE}
    assert set(ORDER_KINDS) == set(Leg) - {Leg.NONE, Leg.ENTRY}  # an entry's kind is what the strategy asked for
    assert set(ENTRY_KINDS) == set(Pending) - {Pending.NONE}
    assert set(CANCELLED) | set(MOVED) == set(Why) - {Why.NONE}
    assert set(KIND_NAMES.values()) == {kind.name.lower() for kind in Kind}
