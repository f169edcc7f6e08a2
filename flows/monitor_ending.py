"""How a session ends: in order, standing aside for another one, or in failure."""

import asyncio
import logging
from datetime import UTC, datetime

import httpx
from prefect.exceptions import PrefectException

from candlewick.announcing import announce
from candlewick.errors import LedgerError
from candlewick.monitoring.desk import stop_all
from candlewick.monitoring.desk_status import quantile
from candlewick.monitoring.results import SessionEnd, SessionResult
from candlewick.store.session_writing import SessionWrite
from flows.monitor_commits import beat, flush_some
from flows.monitor_session import Session
from tasks.status_artifact import publish_status

_LOG = logging.getLogger("candlewick.monitor")
_OUTSIDE_S = 5.0


async def close(session: Session, reason: str) -> None:
    """Stop everything and say the end. The next session, where it waits, has the desk before the outside is seen to.

    What the store keeps goes into the lake, unless the next session goes on from it.
    """
    announce(f"ending session {session.session_id}: {reason}")
    desk = session.desk
    desk.now = datetime.now(UTC)
    if session.successor is None:
        await flush_some(session, 1, len(desk.watched))
        await _close_outside(session)
    stop_all(desk, reason, session.stop_reason[1] if session.stop_reason is not None else "session")
    session.end_with(reason)
    await beat(session)
    session.release()
    if session.successor is not None:
        await _close_outside(session)
    await _show_end(session)


async def _close_outside(session: Session) -> None:
    """Send what waits, for a moment; what is not confirmed is sent again by the next session."""
    if session.sender is not None:
        await asyncio.to_thread(session.sender.close, _OUTSIDE_S)
    await asyncio.to_thread(session.alerts.close)


async def _show_end(session: Session) -> None:
    """The last status in the Prefect UI; a server that is away does not turn the end into a failure."""
    try:
        if session.showing is not None:
            session.artifact_id = await session.showing
        await publish_status(session.status(), session.artifact_id)
    except (PrefectException, httpx.HTTPError) as problem:
        _LOG.info("the status artifact of %s could not be refreshed: %s", session.session_id, problem)


def result_of_session(session: Session, status: SessionEnd, reason: str, error: str | None = None) -> SessionResult:
    """What became of the session."""
    shown = session.status()
    watermarks = [one.last_bar_at for one in shown.symbols]
    lags = sorted(session.lags_s)
    return SessionResult(
        status=status, session_id=session.session_id, name=session.name, reason=reason, symbols=len(shown.symbols),
        bars=shown.bars, signals=shown.signals, rejections=shown.rejections, orders=shown.orders, fills=shown.fills,
        errors=shown.errors, restarts=shown.restarts,
        quarantined=tuple(one.symbol for one in shown.symbols if one.quarantined),
        watermark_at=None if None in watermarks else min(at for at in watermarks if at is not None),
        started_at=session.started_at, ended_at=datetime.now(UTC), lag_p50_s=quantile(lags, 0.5), lag_p99_s=quantile(lags, 0.99),
        error=error,
    )  # fmt: skip


async def stood_aside(session: Session, why: str) -> SessionResult:
    """Another session has the desk: this one has nothing to do."""
    await _write_end(session, why)
    return _empty_result(session, "stood_aside", why, None)


async def failed_result(session: Session, error: str) -> SessionResult:
    """The session could not go on; its row says so, if the store takes it."""
    try:
        await _write_end(session, error)
    except LedgerError as problem:
        _LOG.warning("the end of session %s is not in the store: %s", session.session_id, problem)
    return _empty_result(session, "failure", error, error)


async def _write_end(session: Session, reason: str) -> None:
    at = datetime.now(UTC)
    row = session.row("STOPPED", session.last_document, at, reason)
    await asyncio.to_thread(session.store.commit, SessionWrite(name=session.name, at=at, session=row))


def _empty_result(session: Session, status: SessionEnd, reason: str, error: str | None) -> SessionResult:
    return SessionResult(
        status=status, session_id=session.session_id, name=session.name, reason=reason, symbols=len(session.request.symbols),
        bars=0, signals=0, rejections=0, orders=0, fills=0, errors=0, restarts=0, quarantined=(), watermark_at=None,
        started_at=session.started_at, ended_at=datetime.now(UTC), lag_p50_s=None, lag_p99_s=None, error=error,
    )  # fmt: skip
