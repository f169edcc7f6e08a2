"""An alert about a desk, as a flow: the second way for automations, beside the alerts that the session itself sends."""

from datetime import UTC, datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from candlewick.monitoring.alerts import Alert, AlertDesk, AlertRules
from candlewick.monitoring.events import Severity
from candlewick.monitoring.rows import AlertRow
from candlewick.settings import load_settings
from candlewick.store.database import Database
from candlewick.store.sessions import SessionStore
from flows.command import ending
from tasks.monitor_control import keep_alert, send_alert

_REMEMBERED = 200


def _alert_name() -> str:
    return str(flow_run.parameters["title"])


@flow(name="monitor-alert", flow_run_name=_alert_name, persist_result=False)
async def monitor_alert(
    title: str, body: str, severity: Severity = "warning", account: str | None = None, key: str | None = None
) -> State[AlertRow]:
    """Send an alert to the channels of `alerts.urls`, by the same rules as a session: severity, repeats, quiet hours.

    ``key`` tells repeats: where the session has sent the same already, this one is counted and not sent. Ends Completed, its name
    saying what became of it, or Failed where no channel took it; both carry the AlertRow, which the store keeps, too.
    """
    settings = load_settings()
    store = SessionStore(Database(settings.store.url, settings.store.lock_timeout_s))
    name = account or settings.monitoring.account
    desk = AlertDesk(name, None, AlertRules.of(settings.alerts, settings.desk_risk.time_zone))
    desk.remember(store.alerts(name, _REMEMBERED))
    row = desk.decide(Alert(severity=severity, title=title, body=body, key=key or title), datetime.now(UTC))
    if row.state == "waiting":
        row = send_alert(settings.alerts, row)
    keep_alert(store, row)
    if row.state == "failed":
        return ending(Failed(message=row.error, data=row))
    return ending(Completed(name=row.state.capitalize(), message=f"{title}: {row.state}", data=row))
