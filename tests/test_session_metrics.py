"""A session's metrics as Prometheus reads them, through real scrapes; the dashboard and the page tell every one of them."""

import json
import math
import re
import socket
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from candlewick.errors import PortInUse
from candlewick.monitoring import events
from candlewick.monitoring.bus import EventBus
from candlewick.monitoring.events import Event
from candlewick.monitoring.metrics import SessionMetrics
from tests.prefect_server import free_port
from tests.session_samples import HEARTBEAT_AT, NOW, desk, symbol, troubled_desk

ROOT = Path(__file__).resolve().parents[1]
DASHBOARD = ROOT / "deployments" / "grafana" / "candlewick.json"
E = TypeVar("E", bound=Event)


@pytest.fixture
def metrics() -> SessionMetrics:
    return SessionMetrics("desk", "binance", "1m")


@pytest.fixture
def port(metrics: SessionMetrics) -> Iterator[int]:
    """Where the metrics are served."""
    port = free_port()
    stop = metrics.serve(port)
    yield port
    stop()


def scrape(port: int) -> dict[str, Metric]:
    """What a Prometheus reads, by the name of the metric (counters without `_total`)."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).raise_for_status()
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The one sample of that name and these labels, beside `desk`."""
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == {"desk": "desk", **labels}
    ]
    assert len(found) == 1, (name, labels)
    return found[0]


def told(kind: type[E], **given: object) -> E:
    """An event with nothing in its fields but what is given."""
    nothing = {field.name: None for field in fields(kind)} | {
        "session_id": "s",
        "at": NOW,
        "event_id": "e",
        "correlation_id": "c",
    }
    return kind(**(nothing | given))


def test_events_of_the_bus_are_counted(metrics: SessionMetrics, port: int) -> None:
    bus = EventBus()
    metrics.attach(bus)
    for event in (
        told(events.NewCandle, bars=3),
        told(events.SignalGenerated, action="BUY"),
        told(events.SignalGenerated, action="BUY"),
        told(events.SignalGenerated, action="EXIT"),
        told(events.SignalRejected, rule="cooldown"),
        told(events.OrderPlaced, side="BUY"),
        told(events.TradeExecuted, price=Decimal(1)),
        told(events.TradeFailed, rule="min_notional"),
        told(events.TradeFailed, error="the step raised"),
        told(events.StageFailed, stage="strategy"),
        told(events.DataFetchFailed, attempt=1),
        told(events.StateChanged, subject="stage", before="ERROR", after="RECOVERING"),
        told(events.StateChanged, subject="stage", before="RECOVERING", after="RUNNING"),
        told(events.StateChanged, subject="symbol", before="ERROR", after="RECOVERING"),
    ):
        bus.publish(event)
    found = scrape(port)
    assert value(found, "candlewick_signals_total", action="BUY") == 2
    assert value(found, "candlewick_signals_total", action="EXIT") == 1
    assert value(found, "candlewick_signals_rejected_total", rule="cooldown") == 1
    assert value(found, "candlewick_orders_submitted_total") == 1
    assert value(found, "candlewick_orders_filled_total") == 1
    assert value(found, "candlewick_orders_rejected_total", rule="min_notional") == 1
    assert value(found, "candlewick_orders_rejected_total", rule="error") == 1
    assert value(found, "candlewick_errors_total", stage="strategy") == 1
    assert value(found, "candlewick_data_fetch_failures_total") == 1
    assert value(found, "candlewick_restarts_total", what="stage") == 1
    assert value(found, "candlewick_restarts_total", what="symbol") == 1
    assert value(found, "candlewick_bus_events_total") == 14
    assert value(found, "candlewick_bars_processed_total") == 0
    assert value(found, "candlewick_bus_failures_total") == 0


def test_events_that_wait_and_handlers_that_raise_are_told(metrics: SessionMetrics, port: int) -> None:
    bus = EventBus(queued=True)
    metrics.attach(bus)
    bus.subscribe(events.NewCandle, lambda _event: 1 // 0, "broken")
    bus.publish(told(events.NewCandle, bars=1))
    assert value(scrape(port), "candlewick_bus_lag") == 1
    bus.drain()
    found = scrape(port)
    assert (value(found, "candlewick_bus_lag"), value(found, "candlewick_bus_failures_total")) == (0, 1)


def test_commits_and_cycles_fall_into_buckets_around_what_is_promised(metrics: SessionMetrics, port: int) -> None:
    metrics.committed([0.4, 0.9, 1.1, 9.9, 12])
    metrics.cycle(0.03)
    found = scrape(port)
    lag = "candlewick_bar_close_to_commit_seconds"
    assert [value(found, f"{lag}_bucket", le=le) for le in ("0.3", "1.0", "10.0", "+Inf")] == [0, 2, 4, 5]
    assert value(found, f"{lag}_sum") == pytest.approx(24.3)
    assert value(found, "candlewick_cycle_duration_seconds_count") == 1
    assert value(found, "candlewick_cycle_duration_seconds_bucket", le="0.05") == 1


def test_bars_are_counted_from_one_status_to_the_next(metrics: SessionMetrics, port: int) -> None:
    for bars in (10, 10, 13):
        metrics.observe(desk(symbol(bars=bars)))
    assert value(scrape(port), "candlewick_bars_processed_total") == 13


def test_gauges_are_those_of_the_last_status(metrics: SessionMetrics, port: int) -> None:
    metrics.observe(troubled_desk())
    found = scrape(port)
    gauges = {
        "up": 1, "healthy": 0, "equity": 10123.456, "day_pnl": 23.4, "drawdown_share": 0.0042, "open_positions": 2,
        "gross_exposure": 4200, "net_exposure": -1200.5, "memory_bytes": 312_400_000, "heartbeat_timestamp_seconds":
        HEARTBEAT_AT.timestamp(),
    }  # fmt: skip
    assert {name: value(found, f"candlewick_{name}") for name in gauges} == pytest.approx(gauges)
    assert value(found, "candlewick_outbox_waiting", sink="redis") == 7
    states = {"running": 2, "paused": 3, "recovering": 1, "quarantined": 1, "error": 0, "stopped": 0}
    assert {state: value(found, "candlewick_symbols", state=state) for state in states} == states
    assert value(found, "candlewick_data_age_seconds", symbol="BTC/USDT") == 40
    assert value(found, "candlewick_data_age_seconds", symbol="DOGE/USDT") == 580
    assert math.isnan(value(found, "candlewick_data_age_seconds", symbol="1000PEPE/USDT:USDT"))
    assert value(found, "candlewick_session_info", market="binance", timeframe="1m") == 1
    metrics.observe(desk(symbol(), state="STOPPED"))
    assert value(scrape(port), "candlewick_up") == 0


def test_series_are_no_more_than_symbols_however_many_there_were(metrics: SessionMetrics, port: int) -> None:
    for hour in range(20):
        renamed = [symbol(f"COIN{hour}-{number}") for number in range(5)]
        metrics.observe(desk(*renamed, heartbeat_at=NOW + timedelta(hours=hour)))
    found = scrape(port)
    assert {sample.labels["symbol"] for sample in found["candlewick_data_age_seconds"].samples} == {
        f"COIN19-{number}" for number in range(5)
    }
    assert not any(name.endswith("_created") for name in found)


def test_metrics_are_served_on_loopback_only_and_no_more_when_that_is_ended(metrics: SessionMetrics) -> None:
    port = free_port()
    stop = metrics.serve(port)
    # Another address of this machine: what listens on all of them would answer here, too.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=2)
    assert scrape(port)
    stop()
    with pytest.raises(httpx.ConnectError):
        scrape(port)
    metrics.serve(port)()


def test_a_port_in_use_is_an_error_with_a_name(metrics: SessionMetrics, port: int) -> None:
    with pytest.raises(PortInUse, match=rf"port {port} of 127.0.0.1 is in use; set another monitoring.metrics_port"):
        SessionMetrics("other", "binance", "1m").serve(port)


# The dashboard and the page


def names(metrics: SessionMetrics) -> set[str]:
    """Every metric as it is named in queries, histograms without their endings."""
    families = metrics.registry.collect()
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


def dashboard() -> dict[str, object]:
    document: dict[str, object] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, object]]:
    found = dashboard()["panels"]
    assert isinstance(found, list)
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]  # type: ignore[attr-defined]


def test_the_dashboard_shows_every_metric_and_no_other(metrics: SessionMetrics) -> None:
    named = {name for expression in expressions() for name in re.findall(r"candlewick_\w+", expression)}
    assert {re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name) for name in named} == names(metrics)


def test_the_dashboard_asks_for_labels_that_there_are(metrics: SessionMetrics) -> None:
    metrics.attach(EventBus())
    metrics.observe(troubled_desk())
    labels = {"le", "action", "rule", "stage", "what"}
    labels |= {label for family in metrics.registry.collect() for sample in family.samples for label in sample.labels}
    for expression in expressions():
        assert 'desk=~"$desk"' in expression
        used = {part.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for part in group.split(",")}
        used |= set(re.findall(r"[{,]\s*(\w+)=", expression))
        assert used <= labels, expression


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    document = dashboard()
    assert {"title", "uid", "schemaVersion", "templating", "time", "panels", "refresh"} <= document.keys()
    variables = {one["name"]: one["type"] for one in document["templating"]["list"]}  # type: ignore[index,call-overload]
    assert variables == {"datasource": "datasource", "desk": "query"}
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert isinstance(place, dict)
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["description"]
            targets = panel["targets"]
            assert isinstance(targets, list)
            assert len({one["refId"] for one in targets}) == len(targets)
            assert all(one["datasource"] == panel["datasource"] for one in targets)
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_the_page_tells_every_metric_with_its_labels(metrics: SessionMetrics) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8").partition("\n## Metrics\n")[2].partition("\n## ")[0]
    told_of = dict(re.findall(r"^\| `(candlewick_\w+)` \| (\w+) \|", page, re.MULTILINE))
    kinds = {f"{one.name}_total" if one.type == "counter" else one.name: one.type for one in metrics.registry.collect()}
    assert told_of == kinds
    for family in metrics.registry.collect():
        assert f"| {family.documentation} |" in page, family.name
