"""What a cycle leaves to look at: the HTML report, artifacts in Prefect, events that automations can act on."""

import re
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from candlewick.reports.html import write_report
from candlewick.reports.summary import fill_rows, position_rows, summary_markdown
from candlewick.reports.view import AccountView
from candlewick.results import CycleResult

_MOST_EVENTS = 50


@task(name="write-report", task_run_name="report {view.account}", cache_policy=NO_CACHE, timeout_seconds=300)
def write_account_report(view: AccountView, directory: Path) -> Path:
    """The account's self-contained HTML report."""
    return write_report(view, directory, datetime.now(UTC))


def artifact_key(account: str) -> str:
    """What the keys of an account's artifacts begin with: lower-case letters, digits and dashes, which is all Prefect allows."""
    return re.sub(r"[^a-z0-9]+", "-", account.lower()).strip("-") or "account"


@task(name="publish-artifacts", task_run_name="publish artifacts", cache_policy=NO_CACHE, timeout_seconds=120)
async def publish_artifacts(account: str, result: CycleResult) -> None:
    """Summary, positions and fills in the Prefect UI; keys are `<account>-summary`, `-positions`, `-fills`."""
    key = artifact_key(account)
    await acreate_markdown_artifact(summary_markdown(result), key=f"{key}-summary", description=f"Last cycle of {account}")
    positions, fills = position_rows(result), fill_rows(result)
    if positions:
        await acreate_table_artifact(positions, key=f"{key}-positions", description=f"Open positions of {account}")
    if fills:
        await acreate_table_artifact(fills, key=f"{key}-fills", description=f"Last fills of {account}")


def emit_cycle_events(account: str, result: CycleResult) -> None:
    """`candlewick.cycle.<status>`, and `candlewick.order.<status>` for what became of each order of this cycle."""
    resource = {"prefect.resource.id": f"candlewick.account.{account}", "prefect.resource.name": account}
    ids = {"run_id": result.metadata.run_id, "correlation_id": result.metadata.correlation_id}
    figures: dict[str, str] = {} if result.error is None else {"error": result.error}
    if result.data is not None:
        counts = {name: str(count) for name, count in result.data.counts.items()}
        figures |= {"equity": str(result.data.equity), **counts}
    emit_event(f"candlewick.cycle.{result.status}", resource, payload={**ids, **figures})
    for order in result.data.orders[-_MOST_EVENTS:] if result.data else ():
        emit_event(f"candlewick.order.{order.status}", resource, payload={**ids, **order.model_dump(mode="json")})
