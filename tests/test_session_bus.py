"""The bus of a session: everybody sees every event of their kind, in one order, and nobody's failure is another's."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlewick.monitoring.bus import FAILURES_KEPT, EventBus, HandlerFailure
from candlewick.monitoring.events import DataFetchFailed, Event, IndicatorsUpdated, NewCandle, SignalGenerated
from tests.monitoring_events import candle, fetch_failed, indicators, signal


def note(log: list[str], who: str) -> Callable[[Event], None]:
    """A handler that writes down who was told what."""
    return lambda event: log.append(f"{who} {event.kind}")


def refuse(event: Event) -> None:
    raise ValueError(f"no {event.kind}")


class TestWhoIsTold:
    def test_a_handler_is_told_of_its_kind_and_of_no_other(self) -> None:
        bus, log = EventBus(), []
        bus.subscribe(NewCandle, note(log, "a"), "a")
        bus.publish(candle())
        bus.publish(fetch_failed())
        assert log == ["a candle.new"]

    def test_who_subscribes_to_event_is_told_of_everything(self) -> None:
        bus, log = EventBus(), []
        bus.subscribe(Event, note(log, "a"), "a")
        bus.publish(candle())
        bus.publish(fetch_failed())
        assert log == ["a candle.new", "a data.failed"]

    def test_handlers_are_told_in_the_order_they_subscribed_in_whatever_kind_they_asked_for(self) -> None:
        bus, log = EventBus(), []
        for name, kind in (("a", Event), ("b", NewCandle), ("c", Event), ("d", NewCandle)):
            bus.subscribe(kind, note(log, name), name)
        bus.publish(candle())
        assert log == [f"{name} candle.new" for name in "abcd"]

    def test_who_subscribes_later_is_told_of_a_kind_that_was_published_before(self) -> None:
        bus, log = EventBus(), []
        bus.publish(candle())
        bus.subscribe(NewCandle, note(log, "late"), "late")
        bus.publish(candle())
        assert log == ["late candle.new"]

    def test_who_unsubscribes_is_told_nothing_any_more_and_may_do_so_twice(self) -> None:
        bus, log = EventBus(), []
        leave = bus.subscribe(NewCandle, note(log, "a"), "a")
        bus.subscribe(NewCandle, note(log, "b"), "b")
        bus.publish(candle())
        leave()
        leave()
        bus.publish(candle())
        assert log == ["a candle.new", "b candle.new", "b candle.new"]

    def test_one_handler_under_two_names_is_two_subscriptions(self) -> None:
        bus, log = EventBus(), []
        handler = note(log, "a")
        leave = bus.subscribe(NewCandle, handler, "one")
        bus.subscribe(NewCandle, handler, "two")
        leave()
        bus.publish(candle())
        assert log == ["a candle.new"]

    def test_a_handler_that_another_unsubscribes_does_not_get_the_event_at_hand(self) -> None:
        bus, log = EventBus(), []
        bus.subscribe(NewCandle, lambda _: leave(), "first")
        leave = bus.subscribe(NewCandle, note(log, "second"), "second")
        bus.publish(candle())
        assert log == []

    def test_a_handler_subscribed_during_a_delivery_begins_with_the_next_event(self) -> None:
        bus, log = EventBus(), []
        bus.subscribe(NewCandle, lambda event: bus.subscribe(NewCandle, note(log, "new"), "new") and None, "first")
        bus.publish(candle())
        assert log == []
        bus.publish(candle())
        assert log == ["new candle.new"]


class TestOrder:
    def test_what_a_handler_publishes_comes_after_the_event_at_hand_has_reached_everybody(self) -> None:
        bus, log = EventBus(), []
        bus.subscribe(NewCandle, lambda event: bus.publish(indicators(event)), "indicators")
        bus.subscribe(IndicatorsUpdated, lambda event: bus.publish(signal(event)), "strategy")
        bus.subscribe(Event, note(log, "page"), "page")
        bus.subscribe(Event, note(log, "metrics"), "metrics")
        bus.publish(candle())
        kinds = ["candle.new", "indicators.updated", "signal.generated"]
        assert log == [f"{who} {kind}" for kind in kinds for who in ("page", "metrics")]

    def test_when_publish_returns_everything_that_followed_is_done(self) -> None:
        bus, heard = EventBus(), []
        bus.subscribe(NewCandle, lambda event: bus.publish(indicators(event)), "indicators")
        bus.subscribe(IndicatorsUpdated, lambda event: bus.publish(signal(event)), "strategy")
        bus.subscribe(SignalGenerated, heard.append, "execution")
        bus.publish(candle())
        assert [event.correlation_id for event in heard] == ["bar-0"]
        assert (bus.lag, bus.published) == (0, 3)

    def test_a_chain_of_any_length_does_not_recurse(self) -> None:
        bus, left = EventBus(), [20_000]

        def again(event: NewCandle) -> None:
            left[0] -= 1
            if left[0]:
                bus.publish(event)

        bus.subscribe(NewCandle, again, "again")
        bus.publish(candle())
        assert (left, bus.published, bus.failures) == ([0], 20_000, 0)

    @given(children=st.lists(st.integers(0, 3), max_size=12), failing=st.sets(st.integers(0, 2)), queued=st.booleans())
    def test_every_handler_sees_every_event_once_in_the_order_of_publication(
        self, children: list[int], failing: set[int], queued: bool
    ) -> None:
        """``children``: how many events the first handler publishes over the first, second, ... event it gets."""
        bus, plan, seen = EventBus(queued=queued), iter(children), ([], [], [])

        def handler(number: int) -> Callable[[NewCandle], None]:
            def handle(event: NewCandle) -> None:
                seen[number].append(event)
                for _ in range(next(plan, 0) if number == 0 else 0):
                    bus.publish(candle(bus.published))
                if number in failing:
                    raise ValueError

            return handle

        for number in range(3):
            bus.subscribe(NewCandle, handler(number), str(number))
        bus.publish(candle(0))
        bus.drain()
        assert list(bus.history) == seen[0] == seen[1] == seen[2]
        assert [event.close for event in seen[0]] == list(range(bus.published))
        assert bus.failures == len(failing) * bus.published


class TestFailures:
    def test_a_handler_that_raises_stops_neither_the_others_nor_the_publisher(self) -> None:
        bus, log = EventBus(), []
        bus.subscribe(NewCandle, refuse, "broken")
        bus.subscribe(NewCandle, note(log, "b"), "b")
        bus.publish(candle(1))
        bus.publish(candle(2))
        assert log == ["b candle.new"] * 2
        assert bus.failures == 2

    def test_a_failure_says_which_handler_failed_over_which_event_and_how(self) -> None:
        bus, told = EventBus(), []
        bus.on_failure(told.append)
        bus.subscribe(NewCandle, refuse, "strategy BTC/USDT")
        event = candle()
        bus.publish(event)
        assert bus.last_failures == tuple(told)
        assert (told[0].event, told[0].handler_name, str(told[0].error)) == (event, "strategy BTC/USDT", "no candle.new")

    def test_a_failure_is_told_before_the_next_handler_and_what_is_published_over_it_comes_after_all(self) -> None:
        bus, log = EventBus(), []

        def told(failure: HandlerFailure) -> None:
            log.append(f"told {failure.handler_name}")
            bus.publish(fetch_failed())

        bus.on_failure(told)
        bus.subscribe(NewCandle, refuse, "broken")
        bus.subscribe(Event, note(log, "b"), "b")
        bus.publish(candle())
        assert log == ["told broken", "b candle.new", "b data.failed"]

    def test_a_callback_that_raises_is_a_failure_too_and_the_other_callbacks_are_told(self) -> None:
        bus, told = EventBus(), []

        def broken(failure: HandlerFailure) -> None:
            raise RuntimeError("no line to the desk")

        bus.on_failure(broken)
        bus.on_failure(told.append)
        bus.subscribe(NewCandle, refuse, "strategy")
        bus.publish(candle())
        assert [failure.handler_name for failure in told] == ["strategy"]
        assert [failure.handler_name for failure in bus.last_failures] == ["strategy", "on_failure of strategy"]
        assert bus.failures == 2

    @pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
    def test_an_interrupt_is_no_failure_of_a_handler_and_what_waited_is_not_lost(self, interrupt: type[BaseException]) -> None:
        bus, log, interrupts = EventBus(), [], [interrupt()]

        def interrupted(event: NewCandle) -> None:
            bus.publish(fetch_failed())
            if interrupts:
                raise interrupts.pop()

        bus.subscribe(NewCandle, interrupted, "interrupted")
        bus.subscribe(DataFetchFailed, note(log, "b"), "b")
        with pytest.raises(interrupt):
            bus.publish(candle())
        assert (bus.failures, bus.lag, log) == (0, 1, [])
        bus.drain()
        assert (bus.lag, log) == (0, ["b data.failed"])


class TestMemory:
    def test_the_newest_events_are_remembered_and_no_more_than_asked_for(self) -> None:
        bus = EventBus(history=3)
        for number in range(5):
            bus.publish(candle(number))
        assert [event.event_id for event in bus.history] == ["candle.new-2", "candle.new-3", "candle.new-4"]
        assert bus.published == 5

    def test_failures_are_counted_without_end_and_the_newest_are_kept(self) -> None:
        bus = EventBus()
        bus.subscribe(NewCandle, refuse, "broken")
        for number in range(FAILURES_KEPT + 10):
            bus.publish(candle(number))
        assert bus.failures == FAILURES_KEPT + 10
        assert [failure.event.event_id for failure in bus.last_failures] == [
            f"candle.new-{number}" for number in range(10, FAILURES_KEPT + 10)
        ]


class TestQueued:
    def test_a_queued_bus_delivers_when_it_is_drained_and_says_how_far_behind_it_is(self) -> None:
        bus, log = EventBus(queued=True), []
        bus.subscribe(NewCandle, lambda event: bus.publish(indicators(event)), "indicators")
        bus.subscribe(Event, note(log, "page"), "page")
        bus.publish(candle(1))
        bus.publish(candle(2))
        assert (log, bus.lag, len(bus.history)) == ([], 2, 2)
        bus.drain()
        assert log == ["page candle.new"] * 2 + ["page indicators.updated"] * 2
        assert (bus.lag, bus.published) == (0, 4)


class TestThreads:
    @pytest.mark.parametrize("queued", [False, True])
    def test_two_threads_publish_in_one_order_that_every_handler_sees(self, queued: bool) -> None:
        bus, seen, inside, events = EventBus(history=10_000, queued=queued), ([], []), [], 500

        def first(event: NewCandle) -> None:
            inside.append(event)
            assert len(inside) == 1
            seen[0].append(event)

        def second(event: NewCandle) -> None:
            seen[1].append(event)
            inside.pop()

        bus.subscribe(NewCandle, first, "first")
        bus.subscribe(NewCandle, second, "second")
        start = threading.Barrier(2)

        def publish(symbol: str) -> None:
            start.wait()
            for number in range(events):
                bus.publish(candle(number, symbol))

        threads = [threading.Thread(target=publish, args=(symbol,)) for symbol in ("BTC/USDT", "ETH/USDT")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bus.drain()
        assert bus.failures == 0
        assert list(bus.history) == seen[0] == seen[1]
        for symbol in ("BTC/USDT", "ETH/USDT"):
            assert [event.close for event in seen[0] if event.symbol == symbol] == list(range(events))

    def test_a_thread_that_publishes_while_another_delivers_returns_when_its_event_is_delivered(self) -> None:
        bus, log = EventBus(), []
        entered, go_on = threading.Event(), threading.Event()

        def slow(event: NewCandle) -> None:
            entered.set()
            go_on.wait(10)
            log.append("slow")

        bus.subscribe(NewCandle, slow, "slow")
        bus.subscribe(DataFetchFailed, note(log, "b"), "b")
        thread = threading.Thread(target=bus.publish, args=(candle(),))
        thread.start()
        entered.wait(10)
        other = threading.Thread(target=bus.publish, args=(fetch_failed(),))
        other.start()
        while bus.lag == 0:
            assert other.is_alive()
        assert bus.history[-1].kind == "data.failed"
        go_on.set()
        other.join(10)
        assert log == ["slow", "b data.failed"]
        thread.join(10)

    def test_reading_does_not_wait_for_handlers(self) -> None:
        bus, read = EventBus(), []

        def look(event: NewCandle) -> None:
            thread = threading.Thread(target=lambda: read.append((bus.lag, len(bus.history), bus.last_failures, bus.published)))
            thread.start()
            thread.join(10)

        bus.subscribe(NewCandle, look, "look")
        bus.publish(candle())
        assert read == [(0, 1, (), 1)]
