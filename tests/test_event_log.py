"""The log of a session: a line an event, each with the correlation id of its bar."""

import json
import logging
from datetime import UTC, datetime
from io import StringIO

from candlewick.logs import JsonLines
from candlewick.monitoring.bus import EventBus
from candlewick.monitoring.event_log import log_events
from candlewick.monitoring.events import NewCandle, SignalRejected, StageFailed

AT = datetime(2026, 1, 31, 12, 31, tzinfo=UTC)
BAR = "binance:BTC/USDT:1m:2026-01-31T12:30Z"


def test_what_a_trader_asks_about_later_is_a_line_with_the_ids_of_its_bar_and_its_cause() -> None:
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("candlewick.monitor")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        bus = EventBus()
        log_events(bus)
        shared = {"correlation_id": BAR, "at": AT, "session_id": "desk-1", "symbol": "BTC/USDT"}
        bus.publish(NewCandle(event_id="a", causation_id=None, opened_at=AT, close=1.0, bars=1, **shared))
        bus.publish(
            SignalRejected(
                event_id="b",
                causation_id="a",
                opened_at=AT,
                action="BUY",
                rule="cooldown",
                limit="5 bars",
                value="2 bars",
                **shared,
            )
        )
        bus.publish(StageFailed(event_id="c", causation_id="b", stage="strategy", error="division by zero", **shared))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    rejected, failed = (json.loads(line) for line in text.getvalue().splitlines())
    assert rejected["message"] == "BTC/USDT: BUY rejected by cooldown: 2 bars against 5 bars"
    assert (rejected["correlation_id"], rejected["event_id"], rejected["causation_id"]) == (BAR, "b", "a")
    assert (failed["level"], failed["message"]) == ("ERROR", "BTC/USDT: strategy failed: division by zero")
