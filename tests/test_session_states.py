"""The states of a session, its symbols and their stages: which moves there are, and that none is made without a row."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.errors import IllegalTransition, UnknownSymbol
from candlewick.monitoring.events import STAGES, State, StateChanged
from candlewick.monitoring.states import MOVES, Machine, StateBook

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SYMBOLS = ("BTC/USDT", "ETH/USDT")
STATES: tuple[State, ...] = ("CREATED", "STARTING", "RUNNING", "PAUSED", "STOPPING", "STOPPED", "ERROR", "RECOVERING")
ACTIVE: tuple[State, ...] = ("STARTING", "RUNNING", "PAUSED", "RECOVERING")
# The shortest way from CREATED to each state.
WAYS: dict[State, tuple[State, ...]] = {
    "CREATED": (),
    "STARTING": ("STARTING",),
    "RUNNING": ("STARTING", "RUNNING"),
    "PAUSED": ("STARTING", "RUNNING", "PAUSED"),
    "ERROR": ("STARTING", "ERROR"),
    "RECOVERING": ("STARTING", "ERROR", "RECOVERING"),
    "STOPPING": ("STOPPING",),
    "STOPPED": ("STOPPING", "STOPPED"),
}


def opened() -> StateBook:
    return StateBook("s1", SYMBOLS, NOON)


def led(machine: Machine, *ways: State) -> Machine:
    for to in ways:
        machine.move(to, "as the test wants", "test", NOON)
    return machine


class TestMoves:
    def test_the_table_is_the_one_that_the_issue_draws(self) -> None:
        assert {(before, after) for before, afters in MOVES.items() for after in afters} == {
            ("CREATED", "STARTING"),
            ("STARTING", "RUNNING"),
            ("RUNNING", "PAUSED"),
            ("PAUSED", "RUNNING"),
            ("ERROR", "RECOVERING"),
            ("RECOVERING", "RUNNING"),
            ("RECOVERING", "PAUSED"),
            ("STOPPING", "STOPPED"),
            *((active, "ERROR") for active in ACTIVE),
            *((state, "STOPPING") for state in STATES if state not in ("STOPPING", "STOPPED")),
        }

    @pytest.mark.parametrize("before", STATES)
    @pytest.mark.parametrize("after", STATES)
    def test_a_machine_makes_the_moves_of_the_table_and_refuses_all_others(self, before: State, after: State) -> None:
        book = opened()
        machine = led(book.session, *WAYS[before])
        made = book.take_transitions()
        if after == before:
            assert machine.move(after, "again", "test", NOON) is None
        elif after in MOVES[before]:
            transition = machine.move(after, "why not", "test", NOON + timedelta(seconds=1))
            assert book.take_transitions() == [transition]
            assert (machine.state, machine.since) == (after, NOON + timedelta(seconds=1))
        else:
            with pytest.raises(IllegalTransition, match=rf"session: {before} does not go to {after} \(why, test\); it goes to "):
                machine.move(after, "why", "test", NOON)
            assert (machine.state, machine.since) == (before, NOON)
        assert len(made) == len(WAYS[before])

    def test_a_refusal_names_the_subject_and_where_it_may_go(self) -> None:
        with pytest.raises(IllegalTransition, match=r"^BTC/USDT data: CREATED .* it goes to STARTING, STOPPING$"):
            opened().stage("BTC/USDT", "data").move("RUNNING", "in a hurry", "test", NOON)
        with pytest.raises(IllegalTransition, match=r"it goes to nowhere: start another session$"):
            led(opened().session, "STOPPING", "STOPPED", "RUNNING")

    def test_moving_where_it_is_already_changes_nothing_not_even_since_when(self) -> None:
        book = opened()
        led(book.session, "STARTING")
        book.take_transitions()
        assert book.session.move("STARTING", "again", "test", NOON + timedelta(hours=1)) is None
        assert (book.session.since, book.take_transitions()) == (NOON, [])

    def test_a_recovery_leads_back_to_where_the_failure_was(self) -> None:
        book = opened()
        running, paused = (led(book.symbol(symbol), "STARTING", "RUNNING") for symbol in SYMBOLS)
        led(paused, "PAUSED")
        for machine in (running, paused):
            led(machine, "ERROR", "RECOVERING", "ERROR", "RECOVERING").recover("restarted", "supervisor", NOON)
        assert (running.state, paused.state) == ("RUNNING", "PAUSED")
        assert (running.was_paused, paused.was_paused) == (False, True)

    def test_what_was_resumed_before_it_failed_recovers_to_running(self) -> None:
        machine = led(opened().session, "STARTING", "RUNNING", "PAUSED", "RUNNING", "ERROR", "RECOVERING")
        machine.recover("restarted", "supervisor", NOON)
        assert machine.state == "RUNNING"

    def test_what_is_stopping_never_runs_again(self) -> None:
        reached, frontier = set(), {"STOPPING"}
        while frontier:
            reached |= frontier
            frontier = {after for before in frontier for after in MOVES[before]} - reached
        assert reached == {"STOPPING", "STOPPED"}


class TestBook:
    def test_it_has_a_machine_for_the_session_every_symbol_and_every_stage(self) -> None:
        book = opened()
        found = [(machine.subject, machine.symbol, machine.stage) for machine in book.machines()]
        expected = [("session", None, None)]
        for symbol in SYMBOLS:
            expected += [("symbol", symbol, None), *(("stage", symbol, stage) for stage in STAGES)]
        assert found == expected
        assert {machine.state for machine in book.machines()} == {"CREATED"}
        assert {machine.since for machine in book.machines()} == {NOON}
        assert list(book.symbols.items()) == [(symbol, book.symbol(symbol)) for symbol in SYMBOLS]

    def test_one_machine_moves_and_no_other(self) -> None:
        book = opened()
        led(book.stage("ETH/USDT", "strategy"), "STARTING", "RUNNING", "ERROR")
        moved = {str(machine): machine.state for machine in book.machines() if machine.state != "CREATED"}
        assert moved == {"ETH/USDT strategy": "ERROR"}

    def test_a_symbol_that_it_does_not_watch_is_refused_by_name(self) -> None:
        with pytest.raises(UnknownSymbol, match="session s1 does not watch 'SOL/USDT'; it watches BTC/USDT, ETH/USDT"):
            opened().symbol("SOL/USDT")
        with pytest.raises(UnknownSymbol, match="SOL/USDT"):
            opened().stage("SOL/USDT", "data")

    def test_transitions_are_counted_through_the_session_and_taken_once(self) -> None:
        book = opened()
        led(book.session, "STARTING")
        led(book.stage("BTC/USDT", "data"), "STARTING")
        first = book.take_transitions()
        led(book.symbol("ETH/USDT"), "STARTING")
        second = book.take_transitions()
        assert [(one.sequence, one.subject, one.symbol, one.stage) for one in first + second] == [
            (1, "session", None, None),
            (2, "stage", "BTC/USDT", "data"),
            (3, "symbol", "ETH/USDT", None),
        ]
        assert book.take_transitions() == []

    def test_transitions_that_could_not_be_written_come_again_before_newer_ones(self) -> None:
        book = opened()
        led(book.session, "STARTING", "RUNNING")
        taken = book.take_transitions()
        led(book.session, "PAUSED")
        book.give_back(taken)
        assert [one.sequence for one in book.take_transitions()] == [1, 2, 3]

    @given(st.lists(st.tuples(st.integers(0, 10), st.sampled_from(STATES)), max_size=60))
    def test_the_rows_alone_tell_where_every_machine_is(self, wishes: list[tuple[int, State]]) -> None:
        book = opened()
        machines = list(book.machines())
        for number, to in wishes:
            if to == machines[number].state or to in MOVES[machines[number].state]:
                machines[number].move(to, "", "test", NOON)
        rows, told = book.take_transitions(), {}
        for row in rows:
            subject = (row.subject, row.symbol, row.stage)
            assert row.before == told.get(subject, "CREATED")
            assert row.after in MOVES[row.before]
            told[subject] = row.after
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
        assert {(one.subject, one.symbol, one.stage): one.state for one in machines if one.state != "CREATED"} == told


class TestEvents:
    def test_every_move_is_told_as_an_event_and_no_other(self) -> None:
        told: list[StateChanged] = []
        book = StateBook("s1", SYMBOLS, NOON, told.append)
        book.stage("BTC/USDT", "strategy").move("STARTING", "the session starts", "ada", NOON)
        book.stage("BTC/USDT", "strategy").move("STARTING", "the session starts", "ada", NOON)
        with pytest.raises(IllegalTransition):
            book.session.move("RUNNING", "", "ada", NOON)
        assert len(told) == 1
        event, (row,) = told[0], book.take_transitions()
        for name in ("session_id", "subject", "symbol", "stage", "before", "after", "reason", "actor", "at"):
            assert getattr(event, name) == getattr(row, name), name

    def test_the_event_comes_after_the_move(self) -> None:
        seen = []
        book = StateBook("s1", SYMBOLS, NOON, lambda event: seen.append((book.session.state, len(book.take_transitions()))))
        book.session.move("STARTING", "", "test", NOON)
        assert seen == [("STARTING", 1)]

    def test_the_same_move_of_the_same_session_has_the_same_id_and_every_other_another(self) -> None:
        told: list[StateChanged] = []
        for session_id in ("s1", "s1", "s2"):
            led(StateBook(session_id, SYMBOLS, NOON, told.append).session, "STARTING", "RUNNING")
        ids = [event.event_id for event in told]
        assert ids[0:2] == ids[2:4]
        assert len(set(ids)) == 4

    def test_a_move_that_a_bar_led_to_is_of_that_bars_story(self) -> None:
        told: list[StateChanged] = []
        book = StateBook("s1", SYMBOLS, NOON, told.append)
        book.session.move("STARTING", "", "test", NOON)
        book.session.move("ERROR", "", "test", NOON, correlation_id="bar-1", causation_id="stage.failed-1")
        assert [(event.correlation_id, event.causation_id) for event in told] == [("s1", None), ("bar-1", "stage.failed-1")]
