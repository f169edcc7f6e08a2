"""What the outside is told of a cycle: every order, fill and position, once, with the same ids however often it is told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import cycle, repeat
from pathlib import Path
from random import Random

import pytest

from candlewick.identity import signal_id
from candlewick.monitoring.events import RiskLimitBreached, event_id
from candlewick.monitoring.outbox import EXTERNAL_KINDS, risk_event
from candlewick.monitoring.rows import OutboxEvent
from tests.engine_play import play, play_in_pieces
from tests.outbox_play import ACCOUNT, decided_pieces, told_of
from tests.random_markets import any_market
from tests.scenario import HOUR_MS, parse

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


@pytest.fixture
def story() -> list[OutboxEvent]:
    market = parse(STORY)
    return told_of(market, [play(market)])


def line(event: OutboxEvent) -> str:
    names = ("leg", "status", "quantity", "price")
    return " ".join([event.kind, str(event.symbol), *(str(event.document[name]) for name in names if name in event.document)])


def test_a_position_is_told_from_its_order_to_its_stop(story: list[OutboxEvent]) -> None:
    assert [line(event) for event in story] == [
        "order.placed BTC entry open None None",
        "fill BTC entry 4.992 100.05",
        "order.changed BTC entry filled 4.992 None",
        "position.opened BTC entry 4.992 100.05",
        "order.placed BTC stop open 4.992 95",
        "order.placed BTC target_1 open 2.496 105",
        "order.placed BTC target_2 open 2.496 110",
        "fill BTC target_1 2.496 105",
        "order.changed BTC target_1 filled 2.496 105",
        "order.changed BTC stop open 2.496 95",
        "position.modified BTC target_1 2.496 105",
        "order.changed BTC stop open 2.496 100.05",
        "order.placed ETH entry open None None",
        "order.changed ETH entry refused None None",
        "fill BTC stop 2.496 98.95",
        "order.changed BTC stop filled 2.496 100.05",
        "position.closed BTC stop 0 98.95",
        "stop.hit BTC 2.496 98.95",
        "order.changed BTC target_2 cancelled 2.496 110",
    ]


def test_sequences_have_no_holes_and_continue_where_they_are_told_to(story: list[OutboxEvent]) -> None:
    assert [event.sequence for event in story] == list(range(1, len(story) + 1))


def test_every_event_says_which_bar_it_began_with_and_what_caused_it(story: list[OutboxEvent]) -> None:
    assert {event.correlation_id for event in story if event.symbol == "BTC"} == {"sample:BTC:1h:2026-01-01T00:00Z"}
    assert {event.correlation_id for event in story if event.symbol == "ETH"} == {"sample:ETH:1h:2026-01-01T01:00Z"}
    by_id = {event.event_id: event for event in story}
    for event in story:
        cause = by_id.get(str(event.causation_id))
        if event.kind == "order.placed":
            assert event.causation_id == event.document["signal_id"]
        elif event.kind == "fill":
            assert cause is not None
            assert (cause.kind, cause.document["client_order_id"]) == ("order.placed", event.document["client_order_id"])
        elif event.kind.startswith("position.") or event.kind == "stop.hit":
            assert cause is not None
            assert (cause.kind, cause.document["fill_id"]) == ("fill", event.document["fill_id"])
        else:
            assert cause is not None
            assert cause.sequence < event.sequence


def test_a_refused_order_says_rule_limit_and_value(story: list[OutboxEvent]) -> None:
    refused = next(event for event in story if event.document.get("status") == "refused")
    assert [refused.document[name] for name in ("rule", "limit", "value")] == ["max_open_positions", "1", "1"]
    assert refused.document["closed_at"] == "2026-01-01T02:00:00Z"


def test_documents_hold_amounts_as_text_and_fit_into_json(story: list[OutboxEvent]) -> None:
    fill = next(event for event in story if event.kind == "fill")
    assert json.loads(json.dumps(dict(fill.document))) == fill.document
    assert (fill.document["price"], fill.document["fee"]) == ("100.05", "0.4994496")
    assert fill.document["bar_opened_at"] == "2026-01-01T01:00:00Z"
    assert fill.at == datetime(2026, 1, 1, 1, tzinfo=UTC)


def test_another_session_tells_the_same_happenings_with_the_same_ids(story: list[OutboxEvent]) -> None:
    market = parse(STORY)
    again = told_of(market, [play(market)], "session-2")
    assert [replace(event, session_id="session-1") for event in again] == story


def _pieces(seed: int) -> tuple[Iterator[int], Iterator[bool]]:
    draw = Random(seed)
    return cycle([draw.randint(1, 30) for _ in range(4)]), cycle([draw.random() < 0.5 for _ in range(3)])


@pytest.mark.parametrize("seed", range(200, 214))
def test_any_market_is_told_alike_in_one_cycle_and_in_many(seed: int) -> None:
    market = any_market(seed)
    whole = told_of(market, [play(market)])
    assert told_of(market, play_in_pieces(market, *_pieces(seed))) == whole
    assert told_of(market, play_in_pieces(market, repeat(1), repeat(False))) == whole
    assert len({event.event_id for event in whole}) == len(whole)
    assert {event.kind for event in whole} <= set(EXTERNAL_KINDS)
    for event in whole:
        if event.kind == "order.placed":
            bar = datetime.strptime(event.correlation_id[-17:], "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)
            closed_ms = int(bar.timestamp() * 1000) + HOUR_MS
            assert event.document["signal_id"] == signal_id(ACCOUNT, str(event.symbol), closed_ms)


@pytest.mark.parametrize("seed", range(206, 214))
def test_what_is_told_of_any_market_adds_up_to_its_ledger(seed: int) -> None:
    """A reader that follows the events alone ends with the ledger's orders, fills and positions."""
    market = any_market(seed)
    journal = decided_pieces(market, [play(market)])[0].journal
    orders: dict[object, tuple[object, Decimal]] = {}
    held: dict[object, tuple[object, Decimal]] = {}
    fills = []
    for event in told_of(market, [play(market)]):
        document = event.document
        if event.kind.startswith("order."):
            orders[document["client_order_id"]] = (document["status"], Decimal(str(document["filled_quantity"])))
        elif event.kind == "fill":
            fills.append((document["fill_id"], Decimal(str(document["quantity"]))))
        elif event.kind.startswith("position."):
            held[event.symbol] = (document["side"], Decimal(str(document["quantity"])))
    rows = journal.orders.iter_rows(named=True)
    assert orders == {row["client_order_id"]: (row["status"], row["filled_quantity"]) for row in rows}
    assert fills == list(journal.fills.select("fill_id", "quantity").iter_rows())
    kept = {row["symbol"]: (row["side"], row["quantity"]) for row in journal.positions.iter_rows(named=True)}
    assert {symbol: position for symbol, position in held.items() if position[1]} == kept


def test_the_documentation_names_every_kind_with_its_meaning() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert [kind for kind, meaning in EXTERNAL_KINDS.items() if f"| `{kind}` | {meaning} |" not in page] == []


def test_a_breach_goes_out_with_the_id_it_has_inside() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    inside = RiskLimitBreached(
        event_id=event_id("risk.breached", "desk", "daily_loss", 1), correlation_id="bar", causation_id=None, at=at,
        session_id="session-1", rule="daily_loss", limit="0.02", value="0.031", action="block_entries",
    )  # fmt: skip
    told = risk_event("desk", inside, 7)
    assert (told.event_id, told.kind, told.sequence, told.symbol) == (inside.event_id, "risk.breached", 7, None)
    assert told.document == {"rule": "daily_loss", "limit": "0.02", "value": "0.031", "action": "block_entries"}
