"""What is registered on a Prefect server is registered once, and the automations do what they say: events come, runs follow."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from blocks.event_bus_prefect import prefect_event
from candlewick.json_text import Json
from candlewick.monitoring.rows import OutboxEvent
from candlewick.settings import load_settings
from tests.prefect_server import api_client
from tests.serve_fixture import CHECKOUT, wait_for

LIMIT_S = 30.0
NAMES = ("monitor", "monitor-control", "monitor-alert")


@pytest.fixture
def server(prefect_server: str) -> Iterator[httpx.Client]:
    """A client of the server; the deployments that automations run, and the automations, are gone afterwards."""
    with api_client(prefect_server) as client:
        yield client
        for deployment in client.post("/deployments/filter", json={"deployments": {"name": {"any_": list(NAMES)}}}).json():
            client.delete(f"/deployments/{deployment['id']}").raise_for_status()
        for automation in client.post("/automations/filter", json={}).json():
            client.delete(f"/automations/{automation['id']}").raise_for_status()


def deploy(server: httpx.Client, *names: str) -> dict[str, str]:
    """Deployments without a worker: their runs stay scheduled. Ids by name."""
    ids = {}
    for name in names:
        flow = server.post("/flows/", json={"name": name}).raise_for_status().json()
        body = {"name": name, "flow_id": flow["id"], "enforce_parameter_schema": False}
        ids[name] = str(server.post("/deployments/", json=body).raise_for_status().json()["id"])
    return ids


def ensure() -> list[str]:
    from prefect.client.orchestration import get_client

    from deployments.automations import ensure_automations

    async def ensured() -> list[str]:
        async with get_client() as client:
            return await ensure_automations(client)

    return asyncio.run(ensured())


def automations(server: httpx.Client) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in server.post("/automations/filter", json={}).raise_for_status().json()}


def send(server: httpx.Client, kind: str, symbol: str | None, document: dict[str, Json]) -> None:
    """An event as a session sends it."""
    event = OutboxEvent(
        event_id=f"{kind}-{uuid4()}", name="desk", sequence=1, kind=kind, account=None, symbol=symbol, at=datetime.now(UTC),
        correlation_id="c", causation_id=None, session_id="s", document=document,
    )  # fmt: skip
    server.post("/events", json=[prefect_event(event, None)]).raise_for_status()


def tell_stale(server: httpx.Client, symbol: str) -> None:
    """What a session tells of a symbol whose data are old."""
    send(server, "data.stale", symbol, {"age_s": 301.5, "limit_s": 300})


def crashes(server: httpx.Client) -> int:
    """How many crashes of runs the server has been told of."""
    asked = {"filter": {"event": {"name": ["prefect.flow-run.Crashed"]}}}
    return int(server.post("/events/filter", json=asked).raise_for_status().json()["total"])


def runs_of(server: httpx.Client, deployment_id: str) -> list[dict[str, Any]]:
    body = {"deployments": {"id": {"any_": [deployment_id]}}}
    return list(server.post("/flow_runs/filter", json=body).raise_for_status().json())


def told_runs(server: httpx.Client, deployment_id: str, tell: Callable[[], None], more_than: int = 0) -> list[dict[str, Any]]:
    """All runs of a deployment after an event has made one, newest first.

    It is told again while nothing comes of it: the server takes a moment to know an automation that was just made.
    """
    tells = 0

    def came() -> bool:
        nonlocal tells
        if tells % 8 == 0:
            tell()
        tells += 1
        return len(runs_of(server, deployment_id)) > more_than

    wait_for(came, LIMIT_S, lambda: "the automation made no run")
    return sorted(runs_of(server, deployment_id), key=lambda run: str(run["created"]), reverse=True)


def test_registering_twice_makes_everything_once(server: httpx.Client) -> None:
    from prefect.client.orchestration import get_client

    from deployments.automations import CRASHED, RUNNING_DEPLOYMENTS
    from deployments.register import register

    settings = load_settings({"exchanges.kraken.timeout_s": 7}, environment={}, directory=CHECKOUT)

    async def twice() -> list[list[str]]:
        async with get_client() as client:
            return [await register(client, settings, CHECKOUT) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert [line.split(" (")[0] for line in first] == [line.split(" (")[0] for line in second]
    assert "work pool candlewick (was there)" in second
    assert f"automation {CRASHED!r} (was there)" in second
    waiting = [f"automation {name!r} (waits for the deployment {where})" for name, (where, _) in RUNNING_DEPLOYMENTS.items()]
    assert second[-3:] == waiting, "what runs a deployment is made when that is there"
    assert "block candlewick-exchange/kraken" in second
    assert set(automations(server)) == {CRASHED}
    documents = server.post("/block_documents/filter", json={"include_secrets": False}).json()
    assert [document["data"]["timeout_s"] for document in documents if document["name"] == "kraken"] == [7]


def test_an_automation_that_the_user_paused_stays_paused_and_follows_a_deployment_that_was_made_again(
    server: httpx.Client,
) -> None:
    from deployments.automations import STALE

    before = deploy(server, *NAMES)
    assert [line.rpartition(" ")[2] for line in ensure()] == ["(made)"] * 4
    paused = automations(server)[STALE]
    server.patch(f"/automations/{paused['id']}", json={"enabled": False}).raise_for_status()
    assert [line.partition("(")[2] for line in ensure()] == ["was there)"] * 4

    server.delete(f"/deployments/{before['monitor-control']}").raise_for_status()
    after = deploy(server, "monitor-control")
    assert "led to the deployment as it is now" in "\n".join(ensure())
    found = automations(server)[STALE]
    assert found["id"] == paused["id"]
    assert found["enabled"] is False
    assert found["actions"][0]["deployment_id"] == after["monitor-control"] != before["monitor-control"]


def test_an_event_of_stale_data_asks_for_a_pause_of_its_symbol_and_a_repeat_for_nothing(server: httpx.Client) -> None:
    ids = deploy(server, *NAMES)
    ensure()
    control = ids["monitor-control"]

    (run,) = told_runs(server, control, lambda: tell_stale(server, "ETH/USDT"))
    assert run["parameters"] == {
        "command": "pause",
        "account": "desk",
        "symbol": "ETH/USDT",
        "reason": "stale data: the last bar is 301.5 s old",
    }
    tell_stale(server, "ETH/USDT")
    runs = told_runs(server, control, lambda: tell_stale(server, "BTC/USDT"), more_than=1)
    assert [one["parameters"]["symbol"] for one in runs] == ["BTC/USDT", "ETH/USDT"]
    assert runs_of(server, ids["monitor"]) == runs_of(server, ids["monitor-alert"]) == []


def test_a_broken_limit_raises_an_alert_that_says_which_and_how_far(server: httpx.Client) -> None:
    ids = deploy(server, *NAMES)
    ensure()
    document: dict[str, Json] = {"rule": "daily_loss", "limit": "0.02", "value": "0.0213", "action": "block_entries"}
    runs = told_runs(server, ids["monitor-alert"], lambda: send(server, "risk.breached", None, document))
    given = runs[0]["parameters"]
    assert given["title"] == "desk: daily_loss is broken"
    assert given["body"].startswith("0.0213 is beyond 0.02; what follows: block_entries.")
    assert (given["severity"], given["account"], given["key"]) == ("critical", "desk", "risk:daily_loss")


def test_a_session_that_nobody_follows_is_followed_by_a_new_one_but_not_by_one_after_another(server: httpx.Client) -> None:
    ids = deploy(server, *NAMES)
    ensure()
    known = crashes(server)
    told_runs(server, ids["monitor-control"], lambda: tell_stale(server, "BTC/USDT"))  # the server knows the automations

    def end(kind: str, name: str) -> None:
        run = server.post(f"/deployments/{ids['monitor']}/create_flow_run", json={}).raise_for_status().json()
        for state in ({"type": "PENDING"}, {"type": "RUNNING"}, {"type": kind, "name": name}):
            server.post(f"/flow_runs/{run['id']}/set_state", json={"state": state}).raise_for_status()

    def states() -> list[str]:
        return sorted(str(run["state_name"]) for run in runs_of(server, ids["monitor"]))

    for left_alone in ("Handed over", "Stopped", "Stood aside"):
        end("COMPLETED", left_alone)
    end("COMPLETED", "Ended")
    wait_for(lambda: "Scheduled" in states(), LIMIT_S, lambda: "the automation made no run")
    end("CRASHED", "Crashed")
    wait_for(lambda: crashes(server) > known, LIMIT_S, lambda: "the server knows of no crash")
    # An event of another kind that comes later shows that the server is through with the crash.
    told_runs(server, ids["monitor-control"], lambda: tell_stale(server, "ETH/USDT"), more_than=1)
    assert states() == ["Crashed", "Ended", "Handed over", "Scheduled", "Stood aside", "Stopped"]
    from deployments.automations import next_session_automation

    trigger = next_session_automation(uuid4()).trigger
    assert trigger.expect == {"prefect.flow-run.Crashed", "prefect.flow-run.Ended"}
