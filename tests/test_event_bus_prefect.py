"""Committed events reach Prefect's own API, once each, and a Prefect that is away delays nobody."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from blocks.event_bus import OutboxSender, RedisStream
from blocks.event_bus_prefect import PrefectEvents, open_prefect_events
from candlewick.errors import EventBusUnavailable
from tests.object_store import strange_server
from tests.prefect_server import api_client, free_port
from tests.redis_server import redis_server
from tests.test_event_bus import STREAM, events_of, eventually, ids_of

RUN = "3c6f4b0e-6a57-4f7e-8f4e-0d6f3f0a9a11"


def events_at(api: httpx.Client, desk: str) -> list[dict[str, object]]:
    """What the server has of a desk."""
    wanted = {"filter": {"resource": {"id": [f"candlewick.desk.{desk}"]}}, "limit": 50}
    answer = api.post("/events/filter", json=wanted)
    answer.raise_for_status()
    return list(answer.json()["events"])


@pytest.fixture
def away() -> Iterator[PrefectEvents]:
    """An API that does not answer."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: f"http://user:open-sesame@127.0.0.1:{free_port()}/api"}):
        events = open_prefect_events(timeout_s=2)
    assert events is not None
    yield events
    events.close()


def test_prefect_has_an_event_once_however_often_it_was_sent(prefect_server: str) -> None:
    events = [replace(one, name="outside") for one in events_of(3)]  # other tests' desks are on the same server
    for _ in range(2):
        sink = open_prefect_events(timeout_s=30, flow_run_id=RUN)
        assert sink is not None
        sender = OutboxSender(None, sink)
        sender.offer(events)
        delivered: list[str] = []

        def all_delivered(sender: OutboxSender = sender, delivered: list[str] = delivered) -> bool:
            delivered.extend(sender.take_delivered().get("prefect", ()))
            return len(delivered) == len(events)

        eventually(all_delivered)
        sender.close(5)
        assert delivered == ids_of(events)
    with api_client(prefect_server) as api:
        eventually(lambda: len(events_at(api, "outside")) >= 3)
        found = sorted(events_at(api, "outside"), key=lambda one: str(one["payload"]["sequence"]))  # type: ignore[index]
    assert [one["payload"]["event_id"] for one in found] == ids_of(events)  # type: ignore[index]
    first = found[0]
    assert first["event"] == "candlewick.fill"
    assert first["resource"] == {"prefect.resource.id": "candlewick.desk.outside", "prefect.resource.name": "outside"}
    assert first["related"] == [
        {"prefect.resource.id": "candlewick.account.desk.BTC-USDT", "prefect.resource.role": "account"},
        {"prefect.resource.id": "candlewick.symbol.BTC/USDT", "prefect.resource.role": "symbol"},
        {"prefect.resource.id": f"prefect.flow-run.{RUN}", "prefect.resource.role": "flow-run"},
    ]
    assert first["payload"]["at"] == "2026-01-01T00:01:00Z"  # type: ignore[index]


def test_a_prefect_that_is_away_is_told_without_a_secret(away: PrefectEvents) -> None:
    began = time.monotonic()
    with pytest.raises(EventBusUnavailable, match=rf"^Prefect's API at {away.address} took no event: ConnectError") as raised:
        away.send(events_of(1))
    assert "sesame" not in str(raised.value)
    assert time.monotonic() - began < 20, "the client's own retries are on"


def test_an_answer_that_is_not_2xx_confirms_nothing() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with strange_server(503, "busy") as (address, requests), temporary_settings({PREFECT_API_URL: address}):
        sink = open_prefect_events(timeout_s=2)
        assert sink is not None
        with pytest.raises(EventBusUnavailable, match="503"):
            sink.send(events_of(1))
        sink.close()
        assert len(requests) == 1


def test_redis_gets_its_events_while_prefect_is_away(away: PrefectEvents, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        sender = OutboxSender(RedisStream(redis.url, STREAM, 1000, timeout_s=5), away, backoff_s=(0.01, 0.05))
        sender.offer(events_of(5))
        eventually(lambda: sender.waiting["redis"] == 0 and "prefect" in sender.down_s)
        assert sender.waiting == {"redis": 0, "prefect": 5}
        assert sender.connected is True
        assert dict(sender.take_delivered()) == {"redis": tuple(ids_of(events_of(5)))}
        sender.close(5)


def test_without_an_api_that_is_said_and_nothing_is_started(caplog: pytest.LogCaptureFixture) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert open_prefect_events(timeout_s=1) is None
    assert "set PREFECT_API_URL" in caplog.text
