"""Events of a made-up session, for tests of what is built on them."""

from datetime import UTC, datetime

from candlewick.monitoring.events import DataFetchFailed, IndicatorsUpdated, NewCandle, SignalGenerated

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def candle(number: int = 0, symbol: str = "BTC/USDT") -> NewCandle:
    return NewCandle(
        event_id=f"candle.new-{number}",
        correlation_id=f"bar-{number}",
        causation_id=None,
        at=NOON,
        session_id="s1",
        symbol=symbol,
        opened_at=NOON,
        close=float(number),
        bars=1,
    )


def indicators(cause: NewCandle) -> IndicatorsUpdated:
    return IndicatorsUpdated(
        event_id=f"indicators.updated-{cause.event_id}",
        correlation_id=cause.correlation_id,
        causation_id=cause.event_id,
        at=cause.at,
        session_id=cause.session_id,
        symbol=cause.symbol,
        opened_at=cause.opened_at,
        adx=None,
        volatility=None,
        slope_bps=None,
        regime="unknown",
    )


def signal(cause: IndicatorsUpdated) -> SignalGenerated:
    return SignalGenerated(
        event_id=f"signal.generated-{cause.event_id}",
        correlation_id=cause.correlation_id,
        causation_id=cause.event_id,
        at=cause.at,
        session_id=cause.session_id,
        symbol=cause.symbol,
        opened_at=cause.opened_at,
        action="BUY",
        reason=None,
    )


def fetch_failed() -> DataFetchFailed:
    return DataFetchFailed(
        event_id="data.failed-1",
        correlation_id="s1",
        causation_id=None,
        at=NOON,
        session_id="s1",
        symbol="BTC/USDT",
        error="no answer",
        attempt=1,
    )
