"""The automations: runs without a heartbeat have crashed, a session that nobody follows is followed by a new one, stale data
pause their symbol, a broken limit alerts. What runs a deployment is made once that is there: `make serve` calls this again after
deploying.

python -m deployments.automations             # on the server that PREFECT_API_URL names
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from candlewick.errors import CandlewickError, UsageError

CRASHED = "candlewick: runs without a heartbeat have crashed"
NEXT_SESSION = "candlewick: a session that nobody follows is followed by a new one"
STALE = "candlewick: stale data pause their symbol"
BREACHED = "candlewick: a risk limit that is broken alerts"
# A run has missed three heartbeats, give or take one, before it is called dead.
_MISSED_HEARTBEATS = 3
_DEFAULT_HEARTBEAT_S = 180
# A session that crashes as soon as it starts is not started more often than this.
_BETWEEN_RESTARTS = timedelta(minutes=1)
_BETWEEN_REPEATS = timedelta(minutes=5)
# As blocks/event_bus_prefect.py names the resource of an event.
_DESK = "{{ event.resource['prefect.resource.name'] }}"


def crash_automation() -> AutomationCore:
    """The automation of Prefect's guide "detect zombie flows", for runs with our tag.

    A run that beat and then neither beats nor ends within three heartbeats is marked Crashed: its process was killed.
    """
    frequency_s = get_current_settings().flows.heartbeat_frequency or _DEFAULT_HEARTBEAT_S
    ends = ("Completed", "Failed", "Cancelled", "Crashed")
    return AutomationCore(
        name=CRASHED,
        description="A flow run whose process was killed cannot say so; Prefect sees that its heartbeats stopped.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ends)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": ["prefect.tag.candlewick"], "prefect.resource.role": ["tag"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_MISSED_HEARTBEATS * frequency_s),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="No heartbeat and no end: the run's process is gone.")],
    )


def next_session_automation(monitor: UUID) -> AutomationCore:
    """A run of the deployment ``monitor`` that crashed, or whose time was over before another was there → another one, at once.

    Such as ended by handing over, or because somebody asked for it, are left alone. A session that is started again in the middle
    of an hour lives longer than the next scheduled one waits: without the second case the desk would be alone after it.
    """
    return AutomationCore(
        name=NEXT_SESSION,
        description="The desk is not left alone until the next full hour; the new session goes on where the ledger stands.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed", "prefect.flow-run.Ended"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.deployment.{monitor}"], "prefect.resource.role": ["deployment"]}
            ),
            posture=Posture.Reactive,
            threshold=1,
            within=_BETWEEN_RESTARTS,
        ),
        actions=[RunDeployment(deployment_id=monitor)],
    )


def stale_automation(control: UUID) -> AutomationCore:
    """`candlewick.data.stale` → the deployment ``control`` with `pause` of the event's symbol, once in five minutes."""
    parameters = {
        "command": "pause",
        "account": _DESK,
        "symbol": "{{ event.payload['symbol'] }}",
        "reason": "stale data: the last bar is {{ event.payload['document']['age_s'] }} s old",
    }
    return AutomationCore(
        name=STALE,
        description="No entries on prices that are old. The symbol goes on with `python -m flows.monitoring resume --symbol`.",
        trigger=EventTrigger(
            expect={"candlewick.data.stale"},
            for_each={"related:symbol:prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=_BETWEEN_REPEATS,
        ),
        actions=[RunDeployment(deployment_id=control, parameters=parameters)],
    )


def breach_automation(alert: UUID) -> AutomationCore:
    """`candlewick.risk.breached` → the deployment ``alert`` with what the event says."""
    parameters = {
        "title": f"{_DESK}: {{{{ event.payload['document']['rule'] }}}} is broken",
        "body": "{{ event.payload['document']['value'] }} is beyond {{ event.payload['document']['limit'] }}; "
        "what follows: {{ event.payload['document']['action'] }}. Event {{ event.payload['event_id'] }}.",
        "severity": "critical",
        "account": _DESK,
        # As candlewick/monitoring/alert_texts.py names it: what the session has sent is not sent again.
        "key": "risk:{{ event.payload['document']['rule'] }}"
        "{{ ':' ~ event.payload['symbol'] if event.payload['symbol'] else '' }}",
    }
    return AutomationCore(
        name=BREACHED,
        description="A second way for the alert: it comes also where the session itself cannot send one.",
        trigger=EventTrigger(expect={"candlewick.risk.breached"}, posture=Posture.Reactive, threshold=1, within=timedelta(0)),
        actions=[RunDeployment(deployment_id=alert, parameters=parameters)],
    )


RUNNING_DEPLOYMENTS: Mapping[str, tuple[str, Callable[[UUID], AutomationCore]]] = {
    NEXT_SESSION: ("monitor/monitor", next_session_automation),
    STALE: ("monitor-control/monitor-control", stale_automation),
    BREACHED: ("monitor-alert/monitor-alert", breach_automation),
}
"""Automations that run a deployment: its flow and name, and the automation for its id."""


async def ensure_automations(client: PrefectClient) -> list[str]:
    """Make what is missing; returns what there is now, a line each.

    One of the same name may have been paused or changed by the user: it stays as it is, but is led to the deployment as it is
    now where that was deleted and deployed again. What runs a deployment that is not there is left for later.
    """
    lines = [f"automation {CRASHED!r} ({await _ensure(client, crash_automation())})"]
    for name, (deployment, definition) in RUNNING_DEPLOYMENTS.items():
        try:
            found = await client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            lines.append(f"automation {name!r} (waits for the deployment {deployment})")
            continue
        lines.append(f"automation {name!r} ({await _ensure(client, definition(found.id))})")
    return lines


async def _ensure(client: PrefectClient, wanted: AutomationCore) -> str:
    found = await client.read_automations_by_name(wanted.name)
    if not found:
        await client.create_automation(wanted)
        return "made"
    if _runs(found[0]) == _runs(wanted):
        return "was there"
    await client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
    return "led to the deployment as it is now"


def _runs(automation: AutomationCore | Automation) -> list[UUID | None]:
    """The deployments that its actions run."""
    return [action.deployment_id for action in automation.actions if isinstance(action, RunDeployment)]


async def _ensure_here() -> None:
    async with get_client() as client:
        for line in await ensure_automations(client):
            sys.stdout.write(f"{line}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the automations on the server that PREFECT_API_URL (or the active profile) names."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.automations", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.parse_args(arguments)
    try:
        if get_current_settings().api.url is None:
            raise UsageError("PREFECT_API_URL is not set: name the server, such as http://127.0.0.1:4200/api")
        asyncio.run(_ensure_here())
    except CandlewickError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
