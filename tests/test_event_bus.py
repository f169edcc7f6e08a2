"""Committed events reach Redis, each at least once and in order, whatever dies meanwhile."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.event_bus import OutboxSender, RedisStream
from candlewick.errors import EventBusUnavailable, SettingsError
from candlewick.monitoring.events import event_id
from candlewick.monitoring.rows import OutboxEvent
from tests.prefect_server import free_port
from tests.redis_server import RedisServer, redis_server

DOCS = Path(__file__).resolve().parents[1] / "docs" / "monitoring.md"
STREAM = "candlewick:events"
_LIMIT_S = 30.0


def events_of(count: int, first: int = 1) -> list[OutboxEvent]:
    """Fills with sequences from ``first`` on."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        OutboxEvent(
            event_id=event_id("fill", f"cw-entry-{number}.1"), name="desk", sequence=number, kind="fill",
            account="desk.BTC-USDT", symbol="BTC/USDT", at=began + timedelta(minutes=number),
            correlation_id=f"sample:BTC/USDT:1m:{number}", causation_id=None, session_id="session-1",
            document={"fill_id": f"cw-entry-{number}.1", "price": "100.05"},
        )
        for number in range(first, first + count)
    ]  # fmt: skip


def ids_of(events: Sequence[OutboxEvent]) -> list[str]:
    return [event.event_id for event in events]


def eventually(happens: Callable[[], bool]) -> None:
    """Wait until it happens, or fail."""
    until = time.monotonic() + _LIMIT_S
    while not happens():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def stream_of(server: RedisServer, max_length: int = 100_000) -> RedisStream:
    return RedisStream(server.url, STREAM, max_length, timeout_s=5)


@contextmanager
def sender_of(stream: RedisStream, limit: int = 10_000) -> Iterator[OutboxSender]:
    sender = OutboxSender(stream, None, limit=limit, backoff_s=(0.01, 0.05))
    try:
        yield sender
    finally:
        sender.close(5)


def kept(server: RedisServer) -> list[dict[str, str]]:
    """All entries of the stream, oldest first."""
    return [fields for _, fields in server.client.xrange(STREAM)]


def collect(sender: OutboxSender, found: list[str], count: int) -> None:
    """Add what is delivered to ``found`` until there are that many."""

    def enough() -> bool:
        found.extend(sender.take_delivered().get("redis", ()))
        return len(found) >= count

    eventually(enough)


def test_an_entry_of_the_stream_has_every_field_as_text(redis: RedisServer) -> None:
    event = events_of(1)[0]
    assert stream_of(redis).send([event]) == (event.event_id,)
    entry = kept(redis)[0]
    assert json.loads(entry.pop("document")) == {"fill_id": "cw-entry-1.1", "price": "100.05"}
    assert entry == {
        "event_id": event.event_id, "kind": "fill", "name": "desk", "sequence": "1", "account": "desk.BTC-USDT",
        "symbol": "BTC/USDT", "at": "2026-01-01T00:01:00Z", "correlation_id": "sample:BTC/USDT:1m:1", "causation_id": "",
        "session_id": "session-1",
    }  # fmt: skip


def test_nothing_is_lost_when_redis_is_killed_in_the_middle_and_comes_back(redis: RedisServer) -> None:
    events, delivered = events_of(6000), list[str]()
    with sender_of(stream_of(redis)) as sender:
        sender.offer(events[:3000])
        collect(sender, delivered, 500)
        redis.kill()
        sender.offer(events[3000:])
        eventually(lambda: sender.connected is False)
        assert sender.waiting["redis"] > 0
        assert "redis" in sender.down_s
        redis.start()
        collect(sender, delivered, len(events))
        assert (sender.connected, sender.waiting, dict(sender.down_s)) == (True, {"redis": 0}, {})
    assert delivered == ids_of(events)
    entries = kept(redis)
    assert list(dict.fromkeys(entry["event_id"] for entry in entries)) == ids_of(events)
    assert len({tuple(entry.items()) for entry in entries}) == len(events), "a repeat is not what it repeats"


def test_a_session_that_died_before_it_noted_the_delivery_sends_the_same_ids_again(redis: RedisServer) -> None:
    events = events_of(20)
    for _ in range(2):  # the second one is offered what the store still has as undelivered
        with sender_of(stream_of(redis)) as sender:
            sender.offer(events)
            collect(sender, [], 20)
    found = [entry["event_id"] for entry in kept(redis)]
    assert found == ids_of(events) * 2


@contextmanager
def cut_after(server: RedisServer, answers: int) -> Iterator[int]:
    """A port that leads to the server and hangs up for good behind so many confirmed entries."""
    listener = socket.create_server(("127.0.0.1", 0))
    confirmed = re.compile(rb"\$\d+\r\n\d+-\d+\r\n")

    def serve() -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", server.port)) as upstream:
            threading.Thread(target=_pump, args=(client, upstream), daemon=True).start()
            seen = b""
            while chunk := upstream.recv(65536):
                before, seen = len(seen), seen + chunk
                ends = [found.end() for found in confirmed.finditer(seen)]
                if len(ends) >= answers:
                    client.sendall(seen[before : ends[answers - 1]])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(chunk)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(5)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
    except OSError:
        return


def test_a_pipeline_that_dies_half_way_confirms_what_was_confirmed(redis: RedisServer) -> None:
    events = events_of(10)
    with cut_after(redis, answers=4) as port:
        stream = RedisStream(SecretStr(f"redis://127.0.0.1:{port}"), STREAM, 1000, timeout_s=5)
        assert stream.send(events) == tuple(ids_of(events)[:4])
    with pytest.raises(EventBusUnavailable, match="took no event"):
        stream.send(events[4:])


def test_the_stream_keeps_about_as_many_events_as_it_may(redis: RedisServer) -> None:
    stream = stream_of(redis, max_length=300)
    stream.send(events_of(5000))
    assert 300 <= redis.client.xlen(STREAM) <= 500


def test_offering_waits_for_nobody_and_takes_no_more_memory_than_allowed(redis: RedisServer) -> None:
    events = events_of(100)
    redis.kill()
    with sender_of(stream_of(redis), limit=30) as sender:
        for event in events:
            sender.offer([event])
        assert sender.waiting == {"redis": 100}
        assert sender.behind() == {}, "there is no room yet"
        redis.start()
        delivered: list[str] = []
        collect(sender, delivered, 30)
        assert sender.behind() == {"redis": 31}
        sender.offer_again("redis", events[30:50])
        collect(sender, delivered, 50)
        assert sender.waiting == {"redis": 50}
        assert sender.behind() == {"redis": 51}
        sender.offer(events_of(1, first=101))
        sender.offer_again("redis", [*events[50:70], *events_of(1, first=101)])
        collect(sender, delivered, 71)
        assert (sender.behind(), sender.waiting) == ({}, {"redis": 0})
    assert delivered == ids_of([*events[:70], *events_of(1, first=101)])


def test_what_a_dead_session_left_undelivered_goes_out_before_what_is_new(redis: RedisServer) -> None:
    """Of 40 events the store says that 4 to 9 and 20 to 40 are not delivered; 41 is committed before that is read."""
    events = events_of(41)
    left = [*events[3:9], *events[19:40]]
    sender = OutboxSender(stream_of(redis), None, last_sequence=40)
    sender.offer(events[40:])
    assert sender.behind() == {"redis": 1}
    sender.offer_again("redis", left[:10])
    assert sender.behind() == {"redis": 24}
    sender.offer_again("redis", [*left[5:], events[40]])
    assert sender.behind() == {}
    collect(sender, [], 28)
    sender.close(5)
    assert [entry["event_id"] for entry in kept(redis)] == ids_of([*left, events[40]])


def test_where_nothing_was_left_undelivered_only_what_is_new_goes_out(redis: RedisServer) -> None:
    sender = OutboxSender(stream_of(redis), None, last_sequence=40)
    sender.offer_again("redis", [])
    assert (sender.behind(), sender.waiting) == ({}, {"redis": 0})
    sender.offer(events_of(2, first=41))
    sender.close(5)
    assert [entry["event_id"] for entry in kept(redis)] == ids_of(events_of(2, first=41))


def test_a_number_that_was_left_out_is_asked_for(redis: RedisServer) -> None:
    with sender_of(stream_of(redis)) as sender:
        sender.offer(events_of(3))
        sender.offer(events_of(3, first=6))
        assert sender.behind() == {"redis": 4}
        sender.offer_again("redis", events_of(5, first=4))
    assert [entry["event_id"] for entry in kept(redis)] == ids_of(events_of(8))


def test_events_that_are_offered_twice_are_sent_once(redis: RedisServer) -> None:
    events = events_of(10)
    with sender_of(stream_of(redis)) as sender:
        sender.offer(events)
        sender.offer(events)
        collect(sender, [], 10)
    assert [entry["event_id"] for entry in kept(redis)] == ids_of(events)


def test_closing_sends_what_waits(redis: RedisServer) -> None:
    with sender_of(stream_of(redis)) as sender:
        sender.offer(events_of(2000))
    assert len(kept(redis)) == 2000


def test_a_redis_that_is_not_there_is_told_without_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    url = SecretStr(f"redis://desk:open-sesame@127.0.0.1:{free_port()}/3")
    stream = RedisStream(url, STREAM, 1000, timeout_s=1)
    with pytest.raises(EventBusUnavailable, match=rf"^Redis at {stream.address} took no event: ConnectionError") as raised:
        stream.send(events_of(1))
    with sender_of(stream) as sender:
        eventually(lambda: sender.connected is False)
        assert stream.address in sender.errors["redis"]
        assert "open-sesame" not in "".join([str(raised.value), repr(raised.value), sender.errors["redis"], caplog.text])


def test_a_wrong_password_is_told_without_it(tmp_path: Path) -> None:
    with redis_server(tmp_path, password="open-sesame") as server:
        wrong = RedisStream(SecretStr(f"redis://:closed-sesame@127.0.0.1:{server.port}"), STREAM, 1000, timeout_s=5)
        with pytest.raises(EventBusUnavailable, match="AuthenticationError") as raised:
            wrong.check()
        assert "sesame" not in str(raised.value)
        right = RedisStream(server.url, STREAM, 1000, timeout_s=5)
        assert len(right.send(events_of(3))) == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:6379", "redis://127.0.0.1:open-sesame"])
def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(SettingsError, match=r"events\.redis_url") as raised:
        RedisStream(SecretStr(url), STREAM, 1000, timeout_s=1)
    assert url not in str(raised.value)


def test_a_name_that_holds_something_else_than_a_stream_is_said(redis: RedisServer) -> None:
    redis.client.set(STREAM, "taken")
    with pytest.raises(EventBusUnavailable, match="WRONGTYPE"):
        stream_of(redis).send(events_of(2))


def test_a_sender_without_sinks_takes_events_and_does_nothing() -> None:
    sender = OutboxSender(None, None)
    sender.offer(events_of(3))
    assert (sender.sinks, sender.connected, dict(sender.waiting), dict(sender.take_delivered())) == ((), None, {}, {})
    sender.close(1)


def test_the_consumer_group_in_the_documentation_handles_every_event_once(redis: RedisServer) -> None:
    """The page's own code runs here: two readers of one group, one of which dies with entries it did not acknowledge."""
    page = DOCS.read_text(encoding="utf-8").partition("### For other programs")[2]
    code = page.partition("```python\n")[2].partition("```")[0]
    assert "xreadgroup" in code
    events = events_of(60)
    stream_of(redis).send(events[:40])
    stream_of(redis).send(events[20:])  # 20 repeats
    program: dict[str, object] = {}
    exec(compile(code, str(DOCS), "exec"), program)
    connect, read = program["connect"], program["read"]
    assert callable(connect)
    assert callable(read)
    handled: list[str] = []

    def handle(event: dict[str, str]) -> None:
        if len(handled) == 25 and "died" not in program:
            program["died"] = True
            raise KeyboardInterrupt
        handled.append(event["event_id"])

    client = connect(redis.url.get_secret_value())
    with pytest.raises(KeyboardInterrupt):
        read(client, "reader-1", handle, wait_ms=10, rounds=20)
    read(client, "reader-1", handle, wait_ms=10, rounds=20)
    assert handled == ids_of(events)
    assert client.xpending(STREAM, "my-program")["pending"] == 0
