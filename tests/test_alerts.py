"""Which alerts go out and when, what they say, and that a channel gets them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.alert_channel import AlertSender, channels_of, send_alert
from candlewick.errors import AlertNotSent
from candlewick.monitoring import alert_texts
from candlewick.monitoring.alerts import Alert, AlertDesk, AlertRules
from candlewick.monitoring.events import DataStale, RiskLimitBreached, Severity
from candlewick.monitoring.rows import AlertRow, SessionRow
from candlewick.settings_monitoring import AlertSettings
from tests.test_event_bus import eventually

DOCS = Path(__file__).resolve().parents[1] / "docs" / "monitoring.md"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def at(text: str, day: int = 1) -> datetime:
    hour, minute = map(int, text.split(":"))
    return datetime(2026, 6, day, hour, minute, tzinfo=UTC)


def alert(severity: Severity = "warning", key: str = "stale:BTC/USDT") -> Alert:
    return Alert(severity=severity, title=f"title of {key}", body="what happened\nwhat to do", key=key)


def desk_of(zone: str = "UTC", **settings: object) -> AlertDesk:
    """A desk with these settings, the defaults for the others."""
    return AlertDesk("desk", "session-1", AlertRules.of(AlertSettings.model_validate(settings), zone))


def test_what_is_below_the_least_severity_is_kept_and_never_sent() -> None:
    desk = desk_of(severity="warning")
    assert desk.decide(alert("info"), NOON).state == "quiet"
    assert desk.decide(alert("warning"), NOON).state == "waiting"
    assert desk.due(NOON) is None


def test_a_repeat_is_counted_and_said_with_the_next_one_that_goes_out() -> None:
    desk = desk_of(repeat_s=900)
    assert desk.decide(alert(), at("12:00")).state == "waiting"
    held = [desk.decide(alert(), at(time)) for time in ("12:01", "12:05", "12:14")]
    assert [(row.state, row.repeats) for row in held] == [("repeated", 1), ("repeated", 2), ("repeated", 3)]
    assert len({row.alert_id for row in held}) == 1, "repeats are one row, not many"
    following = desk.decide(alert(), at("12:15"))
    assert (following.state, following.repeats) == ("waiting", 3)
    assert following.body.endswith("It came 3 more times since 2026-06-01 12:00 UTC.")
    assert desk.decide(alert(), at("12:31")).repeats == 0


def test_alerts_of_other_keys_and_more_severe_ones_are_no_repeats() -> None:
    desk = desk_of()
    states = [
        desk.decide(one, NOON).state
        for one in (alert(), alert(key="stale:ETH/USDT"), alert("critical"), alert("critical"), alert("warning"))
    ]
    assert states == ["waiting", "waiting", "waiting", "repeated", "repeated"]


def test_an_alert_that_could_not_be_sent_does_not_hold_the_next_one_back() -> None:
    desk = desk_of()
    first = desk.decide(alert(), at("12:00"))
    desk.settle(replace(first, state="failed", error="no answer"))
    assert desk.decide(alert(), at("12:01")).state == "waiting"


@pytest.mark.parametrize(
    ("quiet", "zone", "moment", "is_quiet"),
    [
        ("22:00-07:00", "UTC", "21:59", False),
        ("22:00-07:00", "UTC", "22:00", True),
        ("22:00-07:00", "UTC", "06:59", True),
        ("22:00-07:00", "UTC", "07:00", False),
        ("12:00-13:00", "UTC", "11:59", False),
        ("12:00-13:00", "UTC", "12:30", True),
        ("12:00-13:00", "UTC", "13:00", False),
        ("22:00-07:00", "America/New_York", "03:00", True),
        ("22:00-07:00", "America/New_York", "12:00", False),
        ("22:00-07:00", "Asia/Tokyo", "13:00", True),
        ("00:00-00:00", "UTC", "15:00", True),
    ],
)
def test_quiet_hours_are_those_of_the_desks_clocks(quiet: str, zone: str, moment: str, is_quiet: bool) -> None:
    row = desk_of(zone, quiet=quiet).decide(alert(), at(moment))
    assert row.state == ("quiet" if is_quiet else "waiting")


def test_in_quiet_hours_only_critical_alerts_go_out_and_others_come_as_one_digest() -> None:
    desk = desk_of("Europe/London", quiet="22:00-07:00")
    assert desk.decide(alert("critical", "quarantine:BTC/USDT"), at("23:00")).state == "waiting"
    assert [desk.decide(alert(), at(time)).state for time in ("23:10", "23:20")] == ["quiet", "quiet"]
    assert desk.decide(alert(key="bus:redis"), at("05:00", 2)).state == "quiet"
    assert desk.due(at("05:59", 2)) is None
    digest = desk.due(at("06:00", 2))
    assert digest is not None
    assert (digest.state, digest.severity, digest.title) == ("waiting", "warning", "2 alerts of the quiet hours")
    assert digest.body.splitlines() == [
        "2026-06-02 00:10 BST warning: title of stale:BTC/USDT (and 1 more)", "what happened", "what to do", "",
        "2026-06-02 06:00 BST warning: title of bus:redis", "what happened", "what to do",
    ]  # fmt: skip
    assert desk.due(at("06:01", 2)) is None
    assert desk.decide(alert(), at("06:05", 2)).state == "repeated", "the digest has just told it"


def test_the_next_session_goes_on_with_what_the_one_before_held_back() -> None:
    rows: dict[str, AlertRow] = {}
    before = desk_of(quiet="22:00-07:00", repeat_s=7200)
    for moment, key in (("20:00", "a"), ("20:10", "a"), ("21:59", "b"), ("23:00", "c")):
        row = before.decide(alert(key=key), at(moment))
        rows[row.alert_id] = replace(row, state="sent") if row.key == "a" and row.state == "waiting" else row
    after = desk_of(quiet="22:00-07:00", repeat_s=7200)
    assert [row.key for row in after.remember(reversed(rows.values()))] == ["b"], "it was not sent yet"
    held = after.decide(alert("critical", "a"), at("22:30"))
    assert (held.state, held.repeats) == ("waiting", 1)
    digest = after.due(at("07:00", 2))
    assert digest is not None
    assert digest.title == "1 alert of the quiet hours"
    again = desk_of(quiet="22:00-07:00", repeat_s=7200)
    again.remember([*rows.values(), replace(digest, state="sent")])
    assert again.due(at("07:01", 2)) is None, "the digest was sent"


def alerts_there_are() -> list[Alert]:
    """One of each."""
    row = SessionRow(
        session_id="desk-1", name="desk", market="sample", timeframe="1m", state="RUNNING", process="host:1", flow_run_id=None,
        started_at=NOON, ends_at=NOON + timedelta(hours=1), heartbeat_at=NOON, ended_at=None, reason=None, document={},
    )  # fmt: skip
    known = {"event_id": "e", "correlation_id": "c", "causation_id": None, "at": NOON, "session_id": "desk-1"}
    stale = DataStale(**known, symbol="BTC/USDT", age_s=754, limit_s=300)  # type: ignore[arg-type]
    breach = RiskLimitBreached(**known, rule="daily_loss", limit="0.02", value="0.031", action="block_entries")  # type: ignore[arg-type]
    return [
        alert_texts.quarantined("desk", "BTC/USDT", 3, "StrategyFailed: no"),
        alert_texts.stage_given_up("desk", "BTC/USDT", "strategy", 4, "StrategyFailed: no"),
        alert_texts.risk_breached("desk", breach),
        alert_texts.stale_data("desk", stale),
        alert_texts.session_crashed("desk", row),
        alert_texts.session_late("desk", row, 130),
        alert_texts.sink_down("desk", "redis", 300, 17, "Redis at redis://127.0.0.1:6379/0 does not answer"),
        alert_texts.store_refused("desk", "LedgerUnwritable: no space"),
    ]


def test_every_alert_says_what_happened_and_what_to_do_next() -> None:
    told = {one.key: one for one in alerts_there_are()}
    assert "the limit daily_loss is broken" in told["risk:daily_loss"].title
    assert "daily_loss is 0.031; its limit is 0.02. Entries are rejected" in told["risk:daily_loss"].body
    assert "python -m flows.monitoring lift daily_loss --account desk" in told["risk:daily_loss"].body
    assert "python -m flows.monitoring restart --account desk --symbol BTC/USDT" in told["quarantine:BTC/USDT"].body
    assert "The last candle of BTC/USDT is 12m 34s old; the limit is 5m." in told["stale:BTC/USDT"].body
    assert "nobody watched for 2m 10s" in told["late:desk-1"].title
    assert "17 events wait" in told["bus:redis"].body
    assert all(len(one.body.split("\n")) == 2 for one in told.values())


def test_the_documentation_has_every_alert_with_its_severity() -> None:
    page = DOCS.read_text(encoding="utf-8").partition("## Alerts, and what to do")[2]
    missing = [one.key for one in alerts_there_are() if f"| `{one.key.partition(':')[0]}` | {one.severity} |" not in page]
    assert missing == []


@contextmanager
def endpoint(status: int = 200, delay_s: float = 0) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A local program that takes alerts as JSON, or does not: its address, and what came."""
    came: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(delay_s)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/open-sesame", came
    finally:
        server.shutdown()


def row_of(key: str = "store") -> AlertRow:
    return desk_of().decide(alert("critical", key), NOON)


def test_an_alert_reaches_a_local_program() -> None:
    with endpoint() as (url, came):
        send_alert(channels_of(SecretStr(url)), row_of(), timeout_s=10)
    assert [(one["title"], one["message"], one["type"]) for one in came] == [
        ("[critical] title of store", "what happened\nwhat to do", "failure")
    ]


def test_channels_that_fail_are_named_without_their_addresses(caplog: pytest.LogCaptureFixture) -> None:
    with (
        endpoint() as (url, came),
        endpoint(500) as (broken, _),
        endpoint(delay_s=2) as (slow, _),
        pytest.raises(AlertNotSent) as raised,
    ):
        send_alert(channels_of(SecretStr(f"{url} {broken} tgramm://open-sesame/1 {slow}")), row_of(), timeout_s=1)
    assert len(came) == 1
    assert raised.value.channels == (2, 3, 4)
    assert "channel 2 (json): it did not take the alert" in str(raised.value)
    assert "channel 3 (tgramm): this is no address that apprise knows" in str(raised.value)
    assert "channel 4 (json): no answer within 1 s" in str(raised.value)
    assert "sesame" not in str(raised.value) + caplog.text


def results_of(sender: AlertSender, count: int) -> list[AlertRow]:
    found: list[AlertRow] = []

    def enough() -> bool:
        found.extend(sender.take_results())
        return len(found) >= count

    eventually(enough)
    return found


def test_a_sender_says_what_was_sent_and_tries_only_what_failed_again() -> None:
    with endpoint() as (url, came), endpoint(500) as (broken, requests):
        sender = AlertSender(SecretStr(f"{url} {broken}"), 5, tries=3, pause_s=0.01)
        sender.offer(row_of())
        failed = results_of(sender, 1)[0]
        sender.close(5)
    assert (failed.state, failed.sent_at, failed.alert_id) == ("failed", None, row_of().alert_id)
    assert "channel 2 (json)" in str(failed.error)
    assert (len(came), len(requests)) == (1, 3)


def test_a_sender_that_is_closed_has_sent_what_waited() -> None:
    with endpoint() as (url, came):
        sender = AlertSender(SecretStr(url), 5)
        for key in ("a", "b", "c"):
            sender.offer(row_of(key))
        sender.close(20)
    assert [one["title"] for one in came] == ["[critical] title of a", "[critical] title of b", "[critical] title of c"]
    assert [(row.state, row.key) for row in sender.take_results()] == [("sent", "a"), ("sent", "b"), ("sent", "c")]


def test_without_a_channel_alerts_are_only_kept() -> None:
    sender = AlertSender(None, 5)
    sender.offer(row_of())
    assert [(row.state, row.error) for row in results_of(sender, 1)] == [("quiet", "no channel is set: alerts.urls")]
    sender.close(5)
