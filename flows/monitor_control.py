"""A command to a monitored session, as a flow: for automations, for the Prefect UI, for schedules.

`python -m flows.monitoring pause` and its like do the same from a terminal.
"""

from datetime import UTC, datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from candlewick.errors import UsageError
from candlewick.monitoring.rows import Command, Control
from candlewick.settings import load_settings
from candlewick.store.database import Database
from candlewick.store.sessions import SessionStore
from flows.command import ending
from tasks.monitor_control import ask_session


def _control_name() -> str:
    given = flow_run.parameters
    return " ".join(str(part) for part in (given["command"], given.get("symbol") or given.get("account") or "") if part)


@flow(name="monitor-control", flow_run_name=_control_name, persist_result=False)
async def monitor_control(
    command: Command,
    symbol: str | None = None,
    reason: str | None = None,
    account: str | None = None,
    argument: str | None = None,
) -> State[Control]:
    """Leave a command in the store for the session of a desk (``account``, or the settings' one).

    ``argument``: the rule of a `lift`. Ends Completed with the Control; the session carries it out within one poll interval and
    writes what came of it beside it. The same flow run asks once, however often it is tried. Raises UsageError.
    """
    settings = load_settings()
    if command == "restart" and not symbol:
        raise UsageError("restart needs a symbol: write --symbol, such as BTC/USDT")
    if command == "lift" and not argument:
        raise UsageError("lift needs the rule of a limit as its argument, such as daily_loss or kill_switch")
    control = Control(
        control_id=f"control-{flow_run.id}",
        name=account or settings.monitoring.account,
        command=command,
        symbol=symbol or None,
        argument=argument,
        reason=reason,
        requested_by=f"flow run {flow_run.name}",
        requested_at=datetime.now(UTC),
    )
    ask_session(SessionStore(Database(settings.store.url, settings.store.lock_timeout_s)), control)
    told = f"{command} is asked of {control.name}" + (f", {symbol}" if symbol else "")
    return ending(Completed(message=told, data=control))
