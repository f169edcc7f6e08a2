"""The queue before the ledger is fair, survives kill -9, and holds between processes and between threads."""

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from candlewick.errors import LedgerBusy
from candlewick.store.lock import HeldLock, Holder, fair_lock, queue_length, try_lock

PATIENCE_S = 60.0
HOLD = """
    with fair_lock(path, 60):
        print("held", flush=True)
        sys.stdin.readline()
"""


class Child:
    """A real process that runs a script with `path` (the lock) and `log` (a file beside it) at hand."""

    def __init__(self, path: Path, script: str, *arguments: str) -> None:
        head = """
            import sys, os, time
            from pathlib import Path
            from candlewick.store.lock import fair_lock, try_lock, HeldLock
            path, log = Path(sys.argv[1]), Path(sys.argv[1] + ".log")
            def note(text):
                with open(log, "a") as file:
                    file.write(text + "\\n")
        """
        code = textwrap.dedent(head) + textwrap.dedent(script)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", code, str(path), *arguments], text=True, **pipes)  # type: ignore[call-overload]

    def hears(self, word: str) -> None:
        assert self.process.stdout.readline().strip() == word

    def go_on(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ends_well(self) -> None:
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def begin(script: str, *arguments: str) -> Child:
        children.append(Child(tmp_path / "ledger.lock", script, *arguments))
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.process.stdin.close()
        child.process.stdout.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


def test_eight_processes_all_get_their_turns_and_never_two_at_once(tmp_path: Path, start: Callable[..., Child]) -> None:
    script = """
    for _ in range(25):
        with fair_lock(path, 60):
            note(f"in {sys.argv[2]}")
            note(f"out {sys.argv[2]}")
    """
    children = [start(script, str(number)) for number in range(8)]
    for child in children:
        child.ends_well()
    lines = (tmp_path / "ledger.lock.log").read_text().split("\n")[:-1]
    assert len(lines) == 8 * 25 * 2
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert entered.split()[0] == "in"
        assert left == entered.replace("in", "out")
    assert list((tmp_path / "ledger.lock.queue").iterdir()) == []


def test_who_comes_first_is_served_first(tmp_path: Path, start: Callable[..., Child]) -> None:
    path = tmp_path / "ledger.lock"
    holder = start(HOLD)
    holder.hears("held")
    waiters = []
    for number in range(6):
        waiters.append(start("with fair_lock(path, 60): note(sys.argv[2])", str(number)))
        wait_until(lambda expected=number + 2: queue_length(path) == expected)  # type: ignore[misc]
    holder.go_on()
    for waiter in waiters:
        waiter.ends_well()
    assert (tmp_path / "ledger.lock.log").read_text().split() == ["0", "1", "2", "3", "4", "5"]


def test_a_killed_holder_leaves_the_turn_to_the_next(tmp_path: Path, start: Callable[..., Child]) -> None:
    holder = start(HOLD)
    holder.hears("held")
    waiter = start(HOLD)
    wait_until(lambda: queue_length(tmp_path / "ledger.lock") == 2)
    holder.kill()
    waiter.hears("held")
    waiter.go_on()
    waiter.ends_well()
    assert queue_length(tmp_path / "ledger.lock") == 0


def test_a_killed_waiter_neither_blocks_nor_lets_its_successor_pass_the_holder(
    tmp_path: Path, start: Callable[..., Child]
) -> None:
    path = tmp_path / "ledger.lock"
    holder = start(HOLD)
    holder.hears("held")
    doomed = start(HOLD)
    wait_until(lambda: queue_length(path) == 2)
    last = start('with fair_lock(path, 60): note("last")')
    wait_until(lambda: queue_length(path) == 3)
    doomed.kill()
    wait_until(lambda: queue_length(path) == 2)  # the last one has cleared the dead one's ticket, and waits on
    time.sleep(0.05)
    assert not (tmp_path / "ledger.lock.log").exists()
    assert last.process.poll() is None
    holder.go_on()
    last.ends_well()
    assert (tmp_path / "ledger.lock.log").read_text() == "last\n"


def test_a_waiter_that_gives_up_does_not_break_the_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.lock"
    inside = threading.Event()
    with fair_lock(path, PATIENCE_S):
        with pytest.raises(LedgerBusy), fair_lock(path, 0.05):
            pytest.fail("two at once")

        def wait_in_turn() -> None:
            with fair_lock(path, PATIENCE_S):
                inside.set()

        thread = threading.Thread(target=wait_in_turn)
        thread.start()
        wait_until(lambda: queue_length(path) == 2)
        assert not inside.is_set()
    thread.join(PATIENCE_S)
    assert inside.is_set()


def test_a_busy_ledger_names_its_holder_and_the_wait(tmp_path: Path, start: Callable[..., Child]) -> None:
    holder = start(HOLD)
    holder.hears("held")
    with pytest.raises(LedgerBusy) as raised, fair_lock(tmp_path / "ledger.lock", 0.1):
        pytest.fail("two at once")
    text = str(raised.value)
    assert f"process {holder.process.pid} since" in text
    assert "waited 0.1 s (limit 0.1 s)" in text


def test_threads_of_one_process_queue_as_processes_do(tmp_path: Path) -> None:
    inside, most, done = [], [], []

    def work() -> None:
        for _ in range(20):
            with fair_lock(tmp_path / "ledger.lock", PATIENCE_S):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(done) == 6
    assert max(most) == 1


def test_the_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), fair_lock(tmp_path / "ledger.lock", PATIENCE_S):
        raise ZeroDivisionError
    with fair_lock(tmp_path / "ledger.lock", 0.5) as turn:
        assert turn.number == 1


def test_one_cycle_per_account_the_second_learns_who_is_first(tmp_path: Path, start: Callable[..., Child]) -> None:
    path = tmp_path / "locks" / "demo.lock"
    script = """
    with try_lock(path.parent / "locks" / "demo.lock") as lock:
        print("held", flush=True)
        sys.stdin.readline()
    """
    first = start(script)
    first.hears("held")
    answer = try_lock(path)
    assert isinstance(answer, Holder)
    assert answer.pid == first.process.pid
    assert answer.since is not None
    first.kill()
    answer = try_lock(path)
    assert isinstance(answer, HeldLock)
    with answer:
        assert isinstance(try_lock(path), Holder), "threads of one process exclude each other too"
    answer = try_lock(path)
    assert isinstance(answer, HeldLock)
    answer.release()
    answer.release()
