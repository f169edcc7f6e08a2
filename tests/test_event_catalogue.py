"""The catalogue of events: nothing that a session publishes is missing from it, and the page is what the code says."""

import re
from dataclasses import fields
from pathlib import Path

from candlewick.monitoring.catalogue import event_classes, events_markdown
from candlewick.monitoring.events import Event
from candlewick.monitoring.outbox import EXTERNAL_KINDS
from candlewick.monitoring.rows import OutboxEvent

ROOT = Path(__file__).resolve().parents[1]
# The kinds that the issue asks for, besides those of the lifecycle and of risk.
ASKED_FOR = (
    "NewCandle DataFetchFailed IndicatorsUpdated RegimeChanged SignalGenerated SignalValidated SignalRejected TradeExecuted "
    "TradeFailed"
)


def section(heading: str) -> str:
    return events_markdown().partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_committed_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    assert page == events_markdown(), "run: python -m candlewick.monitoring.catalogue > docs/events.md"


def test_every_event_of_a_session_is_told_with_its_kind_its_class_and_all_its_fields() -> None:
    rows = {row.split(" | ")[1]: row for row in section("Inside a session").splitlines() if row.count(" | ") == 3}
    assert {one.__name__ for one in event_classes()} == rows.keys() - {"class"}
    for one in event_classes():
        own = [field.name for field in fields(one) if field.name not in {field.name for field in fields(Event)}]
        assert re.findall(r"`(\w+)`: ", rows[one.__name__].split(" | ")[3]) == own
        assert f"| `{one.kind}` |" in rows[one.__name__]


def test_every_kind_of_event_that_was_asked_for_is_there() -> None:
    assert set(ASKED_FOR.split()) <= {one.__name__ for one in event_classes()}


def test_no_two_events_share_a_kind() -> None:
    kinds = [one.kind for one in event_classes()]
    assert sorted(set(kinds)) == sorted(kinds)
    assert Event.kind not in kinds


def test_every_external_kind_is_told_with_its_meaning() -> None:
    rows = section("For other programs").splitlines()
    assert [kind for kind, meaning in EXTERNAL_KINDS.items() if f"| `{kind}` | {meaning} |" not in rows] == []
    assert [field.name for field in fields(OutboxEvent) if not any(row.startswith(f"| `{field.name}` |") for row in rows)] == []


def test_no_field_is_of_a_type_that_the_page_has_no_word_for() -> None:
    assert "object" not in section("Inside a session")
    assert re.findall(r"\| `(\w+)` \| object \|", section("For other programs")) == ["document"]
