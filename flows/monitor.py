"""A session of a desk: many symbols watched bar by bar until its time is over, then handed over to the next one."""

from decimal import Decimal, InvalidOperation

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.announcing import announce
from candlewick.errors import CandlewickError, UsageError
from candlewick.logs import bind_correlation_id
from candlewick.monitoring.request import SessionOptions, read_session_request
from candlewick.monitoring.results import SessionEnd, SessionResult
from flows.command import ending
from flows.monitor_ending import close, failed_result, result_of_session, stood_aside
from flows.monitor_opening import as_known, open_desk, prepare, take_turn
from flows.monitor_session import Session
from flows.monitor_ticks import watch


def _run_name() -> str:
    given = flow_run.parameters
    return f"{given.get('account') or 'desk'} for {given.get('duration') or 'its time'}"


@flow(name="monitor", flow_run_name=_run_name, persist_result=False)
async def monitor(
    account: str | None = None,
    market: str | None = None,
    symbols: list[str] | None = None,
    timeframe: str | None = None,
    strategy: str | None = None,
    parameters: dict[str, str | int | float | bool] | None = None,
    cash: str | int | float | None = None,
    since: str | None = None,
    duration: str | None = None,
    rules: dict[str, str | int | float | bool] | None = None,
    allow_peeking: bool = False,
) -> State[SessionResult]:
    """One session of a desk; a parameter that is not given comes from the settings, or from the desk's accounts.

    Ends Completed (its name says how: ended, handed over, stopped, stood aside) or Failed, each with a SessionResult. Bad input
    raises before anything is written.
    """
    options = SessionOptions(
        account, market, tuple(symbols) if symbols else None, timeframe, strategy, parameters, read_cash(cash), since, duration,
        rules, allow_peeking,
    )  # fmt: skip
    session = Session(await as_known(read_session_request(options)))
    # One connection for all synchronous tasks; without it each makes its own.
    with SyncClientContext.get_or_create(), bind_correlation_id(session.session_id):
        return await run_session(session)


async def run_session(session: Session) -> State[SessionResult]:
    """The session's table of contents."""
    try:
        await prepare(session)
        busy = await take_turn(session)
        if busy is not None:
            return _completed(await stood_aside(session, busy))
        await open_desk(session)
        session.open_outside()
        announce(f"watching {len(session.desk.watched)} symbols of {session.name} until {session.ends_at:%H:%M:%S} UTC")
        reason = await watch(session)
        await close(session, reason)
        return _completed(result_of_session(session, _end_of(session), reason))
    except UsageError as refused:
        await failed_result(session, f"refused: {refused}")
        raise
    except CandlewickError as error:
        return ending(Failed(message=str(error), data=await failed_result(session, str(error))))
    except Exception as error:
        await failed_result(session, f"{type(error).__name__}: {error}")
        raise
    finally:
        await session.let_go()


def _end_of(session: Session) -> SessionEnd:
    if session.stop_reason is not None:
        return "stopped"
    return "handed_over" if session.successor is not None else "ended"


def _completed(result: SessionResult) -> State[SessionResult]:
    return ending(Completed(message=result.reason, name=result.status.replace("_", " ").capitalize(), data=result))


def read_cash(cash: str | int | float | None) -> Decimal | None:
    """An amount as the command line, a deployment or JSON writes it. Raises UsageError."""
    try:
        return None if cash is None else Decimal(str(cash))
    except InvalidOperation:
        raise UsageError(f"--cash {cash!r} is not a number; write it in quote currency, such as 10000") from None
