"""The status in the Prefect UI, through a real server."""

import asyncio
from uuid import UUID, uuid4

import httpx
from prefect import flow

from candlewick.monitoring.status import SessionStatus
from tasks.status_artifact import publish_status
from tests.session_samples import desk, symbol, troubled_desk


@flow(name="publish-often", persist_result=False)
async def publish_often(*statuses: SessionStatus) -> list[UUID]:
    """Each status over the one before; the ids that were answered."""
    ids: list[UUID] = []
    for status in statuses:
        ids.append(await publish_status(status, ids[-1] if ids else None))
    ids.append(await publish_status(statuses[-1], uuid4()))
    return ids


def test_a_desks_status_is_one_artifact_that_moves_on_and_comes_back_when_it_was_deleted(prefect_server: str) -> None:
    name = f"My.Desk {uuid4().hex[:6]}"
    first, second, anew = asyncio.run(publish_often(desk(symbol(), name=name), troubled_desk(name=name)))
    key = "monitor-" + name.lower().replace(".", "-").replace(" ", "-")
    body = {"artifacts": {"key": {"any_": [key]}}}
    found = httpx.post(f"{prefect_server}/artifacts/filter", json=body, trust_env=False).raise_for_status().json()
    assert first == second
    assert {UUID(row["id"]) for row in found} == {first, anew}
    kept = next(row for row in found if UUID(row["id"]) == first)
    assert "QUARANTINED 1000PEPE/USDT:USDT" in kept["data"]
    assert kept["description"].startswith("RUNNING  desk My.Desk")
    (latest,) = httpx.post(f"{prefect_server}/artifacts/latest/filter", json=body, trust_env=False).raise_for_status().json()
    assert UUID(latest["latest_id"]) == anew
    assert "QUARANTINED" in latest["data"]
