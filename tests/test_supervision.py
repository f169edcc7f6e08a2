"""Restarts and quarantine: how often, how soon, and that one symbol's failures are nobody else's."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.monitoring.events import STAGES, Stage
from candlewick.monitoring.supervision import Supervisor, Verdict

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
BTC, ETH = "BTC/USDT", "ETH/USDT"
# How a bar ends: 0 to 3, the number of the stage that fails; 4, none does.
GOOD = len(STAGES)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def bar(supervisor: Supervisor, symbol: str, outcome: int, at: datetime) -> Verdict | None:
    """One bar through the stages, as far as they go."""
    for stage in STAGES[:outcome]:
        supervisor.succeeded(symbol, stage)
    return None if outcome == GOOD else supervisor.failed(symbol, STAGES[outcome], at)


def bars(supervisor: Supervisor, symbol: str, outcomes: Sequence[int], start: datetime = NOON) -> list[tuple[Verdict, float]]:
    """Bars one after another, each as soon as what waits was restarted. The verdicts, and the pause before each restart, in s."""
    at, told = start, []
    for outcome in outcomes:
        verdict = bar(supervisor, symbol, outcome, at)
        if verdict is None:
            continue
        if verdict.due_at is None:
            told.append((verdict, 0.0))
            break
        told.append((verdict, (verdict.due_at - at).total_seconds()))
        at = verdict.due_at
        assert supervisor.due(at) == [verdict]
    return told


def actions(told: Sequence[tuple[Verdict, float]]) -> list[str]:
    return [verdict.action for verdict, _ in told]


class TestEscalation:
    def test_a_stage_is_restarted_three_times_then_its_symbol_and_after_three_of_those_it_is_given_up(self) -> None:
        told = bars(Supervisor(3, 1, 60), BTC, [2] * 100)
        assert actions(told) == (["restart_stage"] * 3 + ["restart_symbol"]) * 3 + ["restart_stage"] * 3 + ["quarantine"]
        assert [verdict.stage_failures for verdict, _ in told] == [1, 2, 3, 4] * 4
        assert [verdict.symbol_restarts for verdict, _ in told if verdict.action != "restart_stage"] == [1, 2, 3, 3]
        assert {(verdict.symbol, verdict.stage) for verdict, _ in told} == {(BTC, "strategy")}

    @pytest.mark.parametrize("restarts", [0, 1, 2, 5])
    def test_a_stage_that_always_fails_uses_up_every_restart_and_not_one_more(self, restarts: int) -> None:
        supervisor = Supervisor(restarts, 1, 60)
        told = actions(bars(supervisor, BTC, [0] * 100))
        assert told.count("restart_stage") == supervisor.stage_restarts(BTC, "data") == restarts * (restarts + 1)
        assert told.count("restart_symbol") == supervisor.symbol_restarts(BTC) == restarts
        assert told[-1] == "quarantine"

    def test_without_restarts_the_first_failure_is_a_quarantine(self) -> None:
        supervisor = Supervisor(0, 1, 60)
        verdict = supervisor.failed(BTC, "data", NOON)
        assert (verdict.action, verdict.due_at, verdict.stage_failures, verdict.symbol_restarts) == ("quarantine", None, 1, 0)
        assert supervisor.is_quarantined(BTC)
        assert supervisor.due(after(1e6)) == []

    def test_a_success_of_the_stage_begins_its_row_anew(self) -> None:
        supervisor = Supervisor(2, 1, 60)
        told = bars(supervisor, BTC, [1, 1, 2, 1, 1])
        assert actions(told) == ["restart_stage"] * 5
        assert [verdict.stage_failures for verdict, _ in told] == [1, 2, 1, 1, 2]
        assert (supervisor.stage_failures(BTC, "indicators"), supervisor.stage_failures(BTC, "strategy")) == (2, 1)

    def test_stages_count_for_themselves(self) -> None:
        supervisor = Supervisor(1, 1, 60)
        verdicts = [supervisor.failed(BTC, stage, NOON) for stage in STAGES]
        assert [(verdict.stage, verdict.action) for verdict in verdicts] == [(stage, "restart_stage") for stage in STAGES]

    def test_when_its_symbol_is_restarted_every_stage_begins_anew(self) -> None:
        supervisor = Supervisor(1, 1, 60)
        assert actions(bars(supervisor, BTC, [3, 0, 0])) == ["restart_stage", "restart_stage", "restart_symbol"]
        assert [supervisor.stage_failures(BTC, stage) for stage in STAGES] == [0, 0, 0, 0]
        assert actions(bars(supervisor, BTC, [3, 0], after(100))) == ["restart_stage", "restart_stage"]

    def test_a_restart_of_the_symbol_takes_the_place_of_those_of_its_stages(self) -> None:
        supervisor = Supervisor(1, 1, 60)
        supervisor.due(supervisor.failed(BTC, "data", NOON).due_at or NOON)
        supervisor.failed(BTC, "execution", NOON)
        restart = supervisor.failed(BTC, "data", NOON)
        assert restart.action == "restart_symbol"
        assert supervisor.due(after(1000)) == [restart]

    def test_a_complete_bar_gives_a_symbol_all_its_restarts_back(self) -> None:
        supervisor = Supervisor(1, 1, 60)
        for _ in range(20):
            assert actions(bars(supervisor, BTC, [0, 0, 0, GOOD])) == ["restart_stage", "restart_symbol", "restart_stage"]
        assert actions(bars(supervisor, BTC, [0] * 4)) == ["restart_stage", "restart_symbol", "restart_stage", "quarantine"]

    def test_bars_that_all_end_before_execution_complete_nothing(self) -> None:
        told = actions(bars(Supervisor(1, 1, 60), BTC, [3] * 10))
        assert told == ["restart_stage", "restart_symbol", "restart_stage", "quarantine"]

    def test_what_stages_did_before_a_failure_completes_no_bar_after_it(self) -> None:
        supervisor = Supervisor(1, 1, 60)
        bars(supervisor, BTC, [3, 3])
        supervisor.succeeded(BTC, "execution")
        supervisor.failed(BTC, "data", NOON)
        supervisor.due(after(100))
        for stage in STAGES[1:]:
            supervisor.succeeded(BTC, stage)
        assert supervisor.failed(BTC, "data", NOON).action == "quarantine"

    @given(st.integers(0, 2), st.lists(st.integers(0, GOOD - 1), min_size=1, max_size=30))
    def test_a_symbol_without_a_complete_bar_is_given_up_sooner_or_later_wherever_it_fails(
        self, restarts: int, outcomes: list[int]
    ) -> None:
        most = (restarts + 1) ** (len(STAGES) + 1)
        supervisor = Supervisor(restarts, 1, 60)
        told = bars(supervisor, BTC, list(islice(cycle(outcomes), most)))
        assert actions(told)[-1] == "quarantine"
        assert actions(told).count("restart_symbol") == restarts


class TestPauses:
    def test_pauses_double_from_the_base_to_the_most_through_restarts_of_stage_and_symbol(self) -> None:
        told = bars(Supervisor(3, 1, 60), BTC, [0] * 100)
        assert [pause_s for verdict, pause_s in told if verdict.due_at] == [1, 2, 4, 8, 16, 32] + [60] * 9

    def test_after_a_complete_bar_pauses_begin_anew_and_after_less_they_do_not(self) -> None:
        told = bars(Supervisor(3, 1, 60), BTC, [0, 0, 3, 3, GOOD, 0])
        assert [pause_s for _, pause_s in told] == [1, 2, 4, 8, 1]

    @given(
        restarts=st.integers(0, 4),
        base_s=st.floats(0.001, 3600),
        max_s=st.floats(0.001, 3600),
        outcomes=st.lists(st.integers(0, GOOD), max_size=80),
    )
    def test_pauses_never_get_shorter_before_a_complete_bar_and_never_longer_than_the_most(
        self, restarts: int, base_s: float, max_s: float, outcomes: list[int]
    ) -> None:
        supervisor = Supervisor(restarts, base_s, max_s)
        for before_a_good_bar in "".join(map(str, outcomes)).split(str(GOOD)):
            told = bars(supervisor, BTC, [int(outcome) for outcome in before_a_good_bar])
            pauses = [pause_s for verdict, pause_s in told if verdict.due_at]
            expected = [min(max_s, base_s * 2**doublings) for doublings in range(len(pauses))]
            assert pauses == pytest.approx(expected, abs=1e-5)
            assert all(earlier <= later for earlier, later in pairwise(pauses))
            if supervisor.is_quarantined(BTC):
                break
            bar(supervisor, BTC, GOOD, NOON)

    def test_a_symbol_that_has_failed_for_years_still_gets_the_longest_pause(self) -> None:
        supervisor, at = Supervisor(10**6, 0.5, 60), NOON
        for _ in range(2000):
            due_at = supervisor.failed(BTC, "data", at).due_at
            assert due_at is not None
            at = due_at
            supervisor.due(at)
        assert (supervisor.failed(BTC, "data", at).due_at or at) - at == timedelta(seconds=60)


class TestDue:
    def test_a_restart_is_told_when_its_time_has_come_and_once(self) -> None:
        supervisor = Supervisor(3, 10, 60)
        verdict = supervisor.failed(BTC, "data", NOON)
        assert supervisor.due(after(9.999)) == []
        assert supervisor.stage_restarts(BTC, "data") == 0
        assert supervisor.due(after(10)) == [verdict]
        assert supervisor.due(after(1000)) == []
        assert supervisor.stage_restarts(BTC, "data") == 1

    def test_the_earliest_restart_is_told_first(self) -> None:
        supervisor = Supervisor(3, 10, 60)
        second = supervisor.failed(ETH, "data", after(5))
        third = supervisor.failed(BTC, "strategy", after(7))
        first = supervisor.failed("SOL/USDT", "data", after(1))
        assert supervisor.due(after(15.5)) == [first, second]
        assert supervisor.due(after(60)) == [third]

    def test_a_failure_of_what_waits_for_its_restart_is_answered_with_the_verdict_that_stands(self) -> None:
        supervisor = Supervisor(1, 10, 60)
        waiting = supervisor.failed(BTC, "data", NOON)
        assert supervisor.failed(BTC, "data", after(5)) == waiting
        assert supervisor.failed(BTC, "data", after(500)) == waiting
        assert supervisor.due(after(500)) == [waiting]
        restart = supervisor.failed(BTC, "data", after(500))
        assert restart.action == "restart_symbol"
        assert supervisor.failed(BTC, "execution", after(501)) == restart
        assert supervisor.due(after(1000)) == [restart]

    def test_a_success_that_comes_late_does_not_call_a_restart_off(self) -> None:
        supervisor = Supervisor(3, 10, 60)
        waiting = supervisor.failed(BTC, "data", NOON)
        bar(supervisor, BTC, GOOD, NOON)
        assert supervisor.due(after(10)) == [waiting]
        assert supervisor.failed(BTC, "data", after(20)).stage_failures == 1


class TestQuarantine:
    def test_what_is_quarantined_stays_so_whatever_comes_late(self) -> None:
        supervisor = Supervisor(0, 1, 60)
        verdict = supervisor.failed(BTC, "strategy", NOON)
        bar(supervisor, BTC, GOOD, NOON)
        assert supervisor.is_quarantined(BTC)
        assert supervisor.failed(BTC, "data", after(10)) == verdict

    def test_an_operators_restart_begins_anew_and_the_counts_of_the_session_stay(self) -> None:
        supervisor, fresh = Supervisor(1, 1, 60), Supervisor(1, 1, 60)
        bars(supervisor, BTC, [0] * 10)
        assert supervisor.is_quarantined(BTC)
        supervisor.forget(BTC)
        assert not supervisor.is_quarantined(BTC)
        assert (supervisor.stage_restarts(BTC, "data"), supervisor.symbol_restarts(BTC)) == (2, 1)
        assert bars(supervisor, BTC, [0] * 10) == bars(fresh, BTC, [0] * 10)
        assert (supervisor.stage_restarts(BTC, "data"), supervisor.symbol_restarts(BTC)) == (4, 2)

    def test_an_operators_restart_calls_off_what_waits(self) -> None:
        supervisor = Supervisor(1, 1, 60)
        supervisor.failed(BTC, "data", NOON)
        supervisor.forget(BTC)
        assert supervisor.due(after(1000)) == []

    def test_a_symbol_nobody_has_heard_of_is_well(self) -> None:
        supervisor = Supervisor(1, 1, 60)
        supervisor.forget(BTC)
        assert not supervisor.is_quarantined(BTC)
        assert supervisor.stage_failures(BTC, "data") == supervisor.symbol_restarts(BTC) == 0


@given(
    restarts=st.integers(0, 3),
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from([*STAGES, "bar", "forget"]), st.integers(0, 40)), max_size=80),
)
def test_no_symbol_is_touched_by_another_ones_failures(restarts: int, steps: list[tuple[bool, Stage, int]]) -> None:
    together, alone = Supervisor(restarts, 1, 60), Supervisor(restarts, 1, 60)
    at = NOON
    for is_other, what, pause_s in steps:
        at += timedelta(seconds=pause_s)
        due = [verdict for verdict in together.due(at) if verdict.symbol == BTC]
        assert due == alone.due(at)
        supervisors = (together,) if is_other else (together, alone)
        answers = [_do(supervisor, ETH if is_other else BTC, what, at) for supervisor in supervisors]
        assert len({str(answer) for answer in answers}) == 1
        assert together.is_quarantined(BTC) == alone.is_quarantined(BTC)
    assert together.failed(BTC, "data", at) == alone.failed(BTC, "data", at)


def _do(supervisor: Supervisor, symbol: str, what: str, at: datetime) -> Verdict | None:
    if what == "forget":
        return supervisor.forget(symbol)
    return bar(supervisor, symbol, GOOD, at) if what == "bar" else supervisor.failed(symbol, what, at)
