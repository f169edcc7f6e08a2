"""Commands and alerts of a desk that flow runs leave in the store or send."""

from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.monitoring.rows import AlertRow, Control
from candlewick.settings_monitoring import AlertSettings
from candlewick.store.session_writing import SessionWrite
from candlewick.store.sessions import SessionStore


@task(name="ask-session", task_run_name="{control.command} {control.name}", cache_policy=NO_CACHE, timeout_seconds=300)
def ask_session(store: SessionStore, control: Control) -> None:
    """Leave the command for the session; asked again with the same id it is there once. Raises LedgerError."""
    store.ask(control)


@task(name="send-alert", task_run_name="alert {row.title}", cache_policy=NO_CACHE, timeout_seconds=300)
def send_alert(settings: AlertSettings, row: AlertRow) -> AlertRow:
    """Send the alert to every channel of the settings; the row with what became of it. A channel is tried three times."""
    from blocks.alert_channel import AlertSender

    sender = AlertSender(settings.urls, settings.timeout_s)
    sender.offer(row)
    sender.close(10 * settings.timeout_s)
    return next(iter(sender.take_results()), row)


@task(name="keep-alert", task_run_name="keep {row.alert_id}", cache_policy=NO_CACHE, timeout_seconds=300)
def keep_alert(store: SessionStore, row: AlertRow) -> None:
    """Write the alert beside those of the sessions. Raises LedgerError."""
    store.commit(SessionWrite(name=row.name, at=datetime.now(UTC), alerts=(row,)))
