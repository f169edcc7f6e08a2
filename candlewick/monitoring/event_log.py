"""What happens in a session, as lines of the log; each carries the correlation id of the bar that its story began with."""

import logging

from candlewick.amounts import plain
from candlewick.logs import bind_correlation_id
from candlewick.monitoring.bus import EventBus
from candlewick.monitoring.events import (
    DataFetchFailed,
    Event,
    OrderPlaced,
    RegimeChanged,
    RiskLimitBreached,
    RiskLimitLifted,
    SignalRejected,
    StageFailed,
    StateChanged,
    TradeExecuted,
    TradeFailed,
)

_LOG = logging.getLogger("candlewick.monitor")
_LEVELS: dict[type[Event], int] = {
    OrderPlaced: logging.INFO,
    TradeExecuted: logging.INFO,
    SignalRejected: logging.INFO,
    RegimeChanged: logging.DEBUG,
    StateChanged: logging.DEBUG,
    RiskLimitLifted: logging.INFO,
    DataFetchFailed: logging.WARNING,
    TradeFailed: logging.WARNING,
    StageFailed: logging.ERROR,
    RiskLimitBreached: logging.ERROR,
}


def log_events(bus: EventBus) -> None:
    """Subscribe the log to a bus."""
    for kind in _LEVELS:
        bus.subscribe(kind, log_event, "log")


def log_event(event: Event) -> None:
    """One line; `event_id`, `causation_id` and the session are among the fields of JSON lines."""
    level = _LEVELS[type(event)]
    if not _LOG.isEnabledFor(level):
        return
    extra = {"event_id": event.event_id, "causation_id": event.causation_id, "session_id": event.session_id, "kind": event.kind}
    with bind_correlation_id(event.correlation_id):
        _LOG.log(level, "%s", words(event), extra=extra)


def words(event: Event) -> str:
    """An event in a sentence."""
    symbol = event.symbol or "the desk"
    match event:
        case OrderPlaced():
            size = f"budget {plain(event.budget)}" if event.budget is not None else "its position"
            return f"{symbol}: {event.side} {event.leg} order {event.client_order_id}, {size}"
        case TradeExecuted():
            return f"{symbol}: {event.side} {event.leg} {plain(event.quantity)} at {plain(event.price)}, fee {plain(event.fee)}"
        case TradeFailed():
            return f"{symbol}: {event.error}"
        case SignalRejected():
            return f"{symbol}: {event.action} rejected by {event.rule}: {event.value} against {event.limit}"
        case RegimeChanged():
            return f"{symbol}: regime {event.before} -> {event.after}"
        case DataFetchFailed():
            return f"{symbol}: no bars, attempt {event.attempt}: {event.error}"
        case StageFailed():
            return f"{symbol}: {event.stage} failed: {event.error}"
        case StateChanged():
            return f"{symbol}: {event.stage or event.subject} {event.before} -> {event.after}: {event.reason}, {event.actor}"
        case RiskLimitBreached():
            return f"{event.rule} is {event.value}, limit {event.limit}: {event.action}"
        case RiskLimitLifted():
            return f"{event.rule} is lifted: {event.reason}, {event.actor}"
        case _:
            return f"{symbol}: {event.kind}"
