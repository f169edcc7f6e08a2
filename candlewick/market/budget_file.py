"""The request budget that all processes of this user on this machine share: one small file for each exchange and address.

It is in a private folder among the temporary files (the variable TMPDIR moves them): a budget is about seconds, and a lost or
damaged file is a fresh budget. Whoever changes it locks it (``flock``, which ends with its process) for a few microseconds.
Where there is no such folder, or a lock does not come free, the process keeps a budget of its own: a download never fails here.
"""

import fcntl
import logging
import os
import re
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

from candlewick.market.budget import SECOND_US, SLOWEST, BudgetState, BudgetTerms, hold, refuse, take

Answer = TypeVar("Answer")

UNUSED_AFTER_S = 7 * 86_400
_FORM = struct.Struct("<8s5qd")
_SUM = struct.Struct("<I")
_MAGIC = b"budget 1"
_LENGTH = _FORM.size + _SUM.size
# A change takes microseconds; who waits longer than this waits for a process that was stopped in the middle of one.
_LOCK_TIMEOUT_S = 0.25
_LOCK_POLL_S = 0.0002
_LOG = logging.getLogger(__name__)


def budget_folder() -> Path:
    """Where the budgets of this user on this machine are."""
    return Path(tempfile.gettempdir()) / f"candlewick-{os.getuid()}" / "budgets"


def budget_name(exchange_id: str, host: str, sandbox: bool) -> str:
    """Name of a budget: the exchange, its test network or not, and the host where it is not the exchange's own ("").

    >>> budget_name("binance", "127.0.0.1:8000", False), budget_name("binance", "", True)
    ('binance@127.0.0.1_8000', 'binance-sandbox')
    """
    name = f"{exchange_id}{'-sandbox' if sandbox else ''}{'@' if host else ''}{host}"
    return re.sub(r"[^A-Za-z0-9_.@-]", "_", name)[:200]


class SharedBudget:
    """The budget of one exchange and address, shared by name. Methods return at once; waiting is the caller's."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self._path = (folder or budget_folder()) / name
        self._own = BudgetState()
        self._is_told = False

    def take(self, cost: float, terms: BudgetTerms) -> float:
        """Put a request of ``cost`` in the line; how long it is to wait, in seconds."""
        return self._change(lambda state, now_us: take(state, cost, terms, now_us)) / SECOND_US

    def refuse(self, pause_s: float, terms: BudgetTerms) -> None:
        """Note that the exchange refused a request and asked for a pause of ``pause_s`` (0: it did not say how long)."""
        self._change(lambda state, now_us: (refuse(state, pause_s, terms, now_us), None))

    def hold(self, hold_s: float) -> None:
        """Grant nothing more for ``hold_s``."""
        self._change(lambda state, now_us: (hold(state, now_us + round(hold_s * SECOND_US), now_us), None))

    def pause_left_s(self) -> float:
        """How long nothing is to be sent, because the exchange said so; in seconds."""
        return self._change(lambda state, now_us: (state, state.pause_left_us(now_us))) / SECOND_US

    def _change(self, change: Callable[[BudgetState, int], tuple[BudgetState, Answer]]) -> Answer:
        """Read, change and write the state, with nobody in between; in the process's own copy where the file is out of reach."""
        try:
            with self._locked() as file:
                state = _read(file)
                changed, answer = change(state, time.time_ns() // 1000)
                if changed != state:
                    os.pwrite(file, _to_bytes(changed), 0)
                return answer
        except OSError as problem:
            self._tell(problem)
        self._own, answer = change(self._own, time.time_ns() // 1000)
        return answer

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, locked; made where it is absent. Raises OSError."""
        file = self._open()
        try:
            deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
            while not _try_lock(file):
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"its lock did not come free within {_LOCK_TIMEOUT_S:g} s")
                time.sleep(_LOCK_POLL_S)
            yield file
        finally:
            os.close(file)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._path, flags)
        except FileNotFoundError:
            _make_private(self._path.parent)
            _remove_unused(self._path.parent)
            return os.open(self._path, flags | os.O_CREAT, 0o600)

    def _tell(self, problem: OSError) -> None:
        if not self._is_told:
            self._is_told = True
            _LOG.warning("the request budget %s is not shared with other processes: %s", self._path, problem)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_private(folder: Path) -> None:
    """The folder, for this user alone. Raises OSError where it is another's: who can write it could hold our requests."""
    for one in (folder.parent, folder):
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
        if one.lstat().st_uid != os.getuid():
            raise PermissionError(f"{one} belongs to another user")
    folder.chmod(0o700)


def _remove_unused(folder: Path) -> None:
    """Remove budgets that nobody has changed for a week; emulators leave one behind for every port."""
    for path in folder.iterdir():
        try:
            if time.time() - path.stat().st_mtime > UNUSED_AFTER_S:
                path.unlink()
        except FileNotFoundError:
            continue  # another process was quicker


def _read(file: int) -> BudgetState:
    """The state in the file. One that is empty, torn or not ours is a fresh budget."""
    content = os.pread(file, _LENGTH, 0)
    if len(content) < _LENGTH or _SUM.pack(zlib.crc32(content[: _FORM.size])) != content[_FORM.size :]:
        return BudgetState()
    magic, seen_us, taken_until_us, granted_us, paused_until_us, slowed_us, pace = _FORM.unpack(content[: _FORM.size])
    if magic != _MAGIC or not SLOWEST <= pace <= 1:
        return BudgetState()
    return BudgetState(seen_us, taken_until_us, granted_us, paused_until_us, slowed_us, pace)


def _to_bytes(state: BudgetState) -> bytes:
    content = _FORM.pack(_MAGIC, *astuple(state))
    return content + _SUM.pack(zlib.crc32(content))
