"""What is said of a session: whether it lives, how well it is, and its table in the terminal, in Markdown and in JSON."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, RenderableType

from candlewick.errors import StatusUnreadable
from candlewick.json_text import to_json
from candlewick.monitoring.liveness import ALIVE, Liveness, health, liveness, read_status
from candlewick.monitoring.status_rows import by_urgency, concerns
from candlewick.monitoring.status_text import render_status, status_json, status_markdown
from tests.session_samples import (
    HEARTBEAT_AT,
    NOW,
    desk,
    session_row,
    stages,
    symbol,
    troubled_desk,
    troubled_symbols,
    wide_desk,
)

CRASHED = Liveness("crashed", "crashed: it is gone")


def printed(picture: RenderableType, width: int) -> list[str]:
    """The lines of a terminal of that width; none is longer than it."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(picture)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    return [line.rstrip() for line in lines]


# Whether it lives


def test_a_session_with_a_process_and_a_heartbeat_is_alive() -> None:
    assert liveness(session_row(desk(symbol())), 5, True, NOW) == ALIVE


def test_a_session_whose_process_is_gone_has_crashed_however_fresh_its_heartbeat_is() -> None:
    found = liveness(session_row(desk(symbol())), 5, False, NOW)
    assert found.verdict == "crashed"
    assert found.sentence.startswith("crashed: no heartbeat since 2026-01-31 12:30:40 UTC, process 4711 on trader-1 is gone")
    assert "`python -m flows.monitoring start --account desk`; nothing is lost" in found.sentence
    assert not found.takes_commands


@pytest.mark.parametrize(("process_alive", "verdict"), [(True, "silent"), (None, "crashed")])
def test_three_missed_heartbeats_are_too_many_and_two_are_not(process_alive: bool | None, verdict: str) -> None:
    row = session_row(desk(symbol()))
    assert liveness(row, 5, process_alive, HEARTBEAT_AT + timedelta(seconds=15)) == ALIVE
    late = liveness(row, 5, process_alive, HEARTBEAT_AT + timedelta(seconds=16))
    assert late.verdict == verdict
    assert "16 s ago (limit 15 s)" in late.sentence


def test_a_session_that_ended_is_not_a_crash() -> None:
    row = session_row(desk(symbol()), "STOPPED", ended_at=NOW, reason="handed over")
    found = liveness(row, 5, False, NOW + timedelta(days=1))
    assert found.verdict == "ended"
    assert "ended at 2026-01-31 12:30:42 UTC (handed over)" in found.sentence


def test_a_status_of_another_version_is_refused_by_name() -> None:
    row = session_row(desk(symbol()))
    assert read_status(session_row(desk(symbol()), document={})) is None
    with pytest.raises(StatusUnreadable, match="memory_gb: Extra inputs"):
        read_status(session_row(desk(symbol()), document={**row.document, "memory_gb": 1}))


def test_the_state_of_the_row_counts_more_than_that_of_the_last_heartbeat() -> None:
    status = read_status(session_row(desk(symbol()), "STOPPED"))
    assert status is not None
    assert status.state == "STOPPED"


@pytest.mark.parametrize(
    ("symbols", "changes", "expected"),
    [
        ((symbol("A"), symbol("B", state="PAUSED")), {}, "success"),
        ((symbol("A"), symbol("B", quarantined=True)), {}, "partial"),
        ((symbol("A", quarantined=True),), {}, "failure"),
        ((symbol("A"),), {"bus_connected": False}, "partial"),
        ((symbol("A", state="STARTING"),), {"state": "STARTING"}, "partial"),
        ((symbol("A"),), {"state": "ERROR"}, "failure"),
        ((symbol("A"),), {"state": "STOPPED"}, "failure"),
    ],
)
def test_how_well_a_session_is(symbols: tuple[object, ...], changes: dict[str, object], expected: str) -> None:
    assert health(desk(*symbols, **changes), ALIVE) == expected  # type: ignore[arg-type]
    assert health(desk(*symbols, **changes), CRASHED) == "failure"  # type: ignore[arg-type]


# What is seen


def test_what_needs_somebody_comes_first() -> None:
    named = [one.symbol for one in by_urgency(troubled_symbols())]
    assert named == ["1000PEPE/USDT:USDT", "DOGE/USDT", "SOL/USDT", "XAU/USD", "AAPL", "BTC/USDT", "ETH/USDT"]


def test_a_running_symbol_with_a_failing_stage_is_before_those_without() -> None:
    failing = symbol("B", stages=stages("execution", "LedgerBusy"))
    assert [one.symbol for one in by_urgency((symbol("A"), failing))] == ["B", "A"]
    assert [str(one) for one in concerns(desk(symbol("A"), failing))] == ["RUNNING B: stage execution failed 2 times: LedgerBusy"]


def test_symbols_of_one_trouble_are_told_in_one_line() -> None:
    closed = [symbol(f"S{number}", state="PAUSED", paused_by="market closed") for number in range(50)]
    assert [str(one) for one in concerns(desk(*closed))] == ["PAUSED S0, S1, S2, S3, S4, S5 and 44 more: market closed"]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_status_fits_terminals_and_cuts_no_figure(width: int) -> None:
    text = "\n".join(printed(render_status(troubled_desk(), NOW), width))
    assert "RUNNING  desk desk: 5 of 7 symbols healthy, up 42m of 1h" in text
    for figure in (
        "10,123.46 USDT",
        "+23.40",
        "0.42%",
        "-1,200.50",
        "0.012345",
        "+12.34",
        "-120.5",
        "11.20%",
        "BROKEN since 12:27:42",
    ):
        assert figure in text
    for words in ("REDIS DOES NOT", "gap of 3 bars", "294 bars, 40 signals (3 rejected)", "kill_switch"):
        assert (words in text) == (words != "kill_switch")


def test_a_line_of_a_wide_terminal_has_everything_of_a_symbol() -> None:
    lines = printed(render_status(troubled_desk(), NOW), 200)
    assert next(line for line in lines if line.startswith("BTC")).split() == (
        ["BTC/USDT", "RUNNING", "trend", "12:29", "42s", "BUY", "ok", "0.012345", "+12.34", "-", "-"]
    )
    assert next(line for line in lines if line.startswith("SOL")).startswith("SOL/USDT            PAUSED: alice: earnings today")
    assert next(line for line in lines if line.startswith("1000PEPE")).split()[-2:] == ["12", "6"]


def test_a_line_of_a_narrow_terminal_has_it_too() -> None:
    lines = printed(render_status(troubled_desk(), NOW), 80)
    assert next(line for line in lines if line.startswith("BTC")).split() == (
        ["BTC/USDT", "RUNNING", "trend", "12:29", "42s", "BUY", "ok", "0.012345", "+12.34", "-"]
    )
    assert next(line for line in lines if line.startswith("DOGE")).split()[-1] == "3/1"
    assert "  PAUSED SOL/USDT: alice: earnings today" in lines


def test_ages_go_on_after_a_crash_and_the_headline_says_it() -> None:
    lines = printed(render_status(desk(symbol()), NOW + timedelta(minutes=30), CRASHED), 80)
    assert lines[0].startswith("CRASHED  desk desk: at its last heartbeat 1 of 1 symbol healthy")
    assert lines[1] == "  Crashed: it is gone."
    assert next(line for line in lines if line.startswith("BTC")).split()[3:5] == ["12:29", "30m"]


def test_ages_are_told_by_the_markets_clock_where_it_is_another_one() -> None:
    market = datetime(2020, 1, 1, 0, 5, tzinfo=UTC)
    replayed = desk(symbol(last_bar_at=market - timedelta(minutes=5)), clock_at=market)
    lines = printed(render_status(replayed, HEARTBEAT_AT), 200)
    assert "01-01 00:00" in next(line for line in lines if line.startswith("BTC"))
    assert "4m" in next(line for line in lines if line.startswith("BTC")).split()


# For Prefect and for programs


def test_the_artifact_of_many_symbols_is_bounded_and_shows_the_troubled_ones() -> None:
    text = status_markdown(wide_desk(1000))
    rows = [line for line in text.splitlines() if line.startswith("| COIN")]
    assert len(rows) == 250
    assert len(text) < 64_000
    assert sum("QUARANTINED" in row for row in rows) == 20
    assert "750 more are left out here" in text
    assert max(map(len, text.splitlines())) < 1000


def test_the_artifact_takes_words_of_an_exchange_for_text() -> None:
    text = status_markdown(desk(symbol("A|B", state="ERROR", last_error="<script>|\nx")))
    row = next(line for line in text.splitlines() if line.startswith("| A"))
    assert row.startswith("| A\\|B | ERROR: &lt;script>\\| x |")
    assert len(status_markdown(troubled_desk()).splitlines()) > 20


def test_the_json_is_the_document_and_what_is_concluded_from_it() -> None:
    status = troubled_desk()
    document = json.loads(to_json(status_json(status)))
    assert (document["verdict"], document["health"], document["is_healthy"]) == ("alive", "partial", False)
    assert (document["healthy_symbols"], document["total_symbols"]) == (5, 7)
    assert document["symbols"][0]["position"] == "0.01234500"
    assert read_status(session_row(status)) == status
    assert status_json(status, CRASHED)["message"] == "crashed: it is gone"
