"""Commands to a session that flow runs leave in the store."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.monitoring.rows import Control
from candlewick.store.sessions import SessionStore


@task(name="ask-session", task_run_name="{control.command} {control.name}", cache_policy=NO_CACHE, timeout_seconds=300)
def ask_session(store: SessionStore, control: Control) -> None:
    """Leave the command for the session; asked again with the same id it is there once. Raises LedgerError."""
    store.ask(control)
