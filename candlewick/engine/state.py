"""The engine's state: what an account is between two bars. Integers only, so a state that was stored continues bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np

from candlewick.amounts import to_units
from candlewick.engine.layout import ACCOUNT, CASH_DECIMALS, NEVER, POSITION
from candlewick.engine.terms import Records
from candlewick.errors import LedgerUnreadable

_TIMES = (
    "opened_at", "decided_at", "time_stop_at", "stopped_at", "exit_decided_at", "pending_decided_at", "pending_expires_at",
)  # fmt: skip
StateDocument = dict[str, dict[str, int] | list[dict[str, int]]]


@dataclass(frozen=True, slots=True)
class EngineState:
    """``account``: one ACCOUNT record; ``positions``: POSITION records, shape (symbols,). Treat as immutable; `copy` first."""

    account: Records
    positions: Records

    @property
    def watermark_ms(self) -> int | None:
        """Open time of the last bar processed to its close."""
        return self._time("watermark")

    @property
    def opened_ms(self) -> int | None:
        """Open time of the last bar whose open phase is done; beyond the watermark while that bar is forming."""
        return self._time("opened_at")

    @property
    def sequence(self) -> int:
        """Number of events so far."""
        return int(self.account["sequence"][0])

    def _time(self, field: str) -> int | None:
        time_ms = int(self.account[field][0])
        return None if time_ms == NEVER else time_ms

    def under(self, terms_version: int, *, lifts_halt: bool) -> "EngineState":
        """This state as a version of the terms takes over; itself when that has happened.

        Lifting a halt forgets the peak and the day's loss: both limits count from the equity of now.
        """
        if int(self.account["terms_version"][0]) >= terms_version:
            return self
        after = self.copy()
        after.account["terms_version"] = terms_version
        if lifts_halt:
            after.account["halted"] = 0
            after.account["loss_day"] = NEVER
            after.account["peak_equity"] = after.account["equity"]
            after.account["peak_at"] = after.account["watermark"]
            after.account["day_start_equity"] = after.account["equity"]
        return after

    def active(self) -> list[bool]:
        """Per symbol: whether anything could happen to it at the next open (a position, or an order that waits)."""
        return [bool(p["quantity"] > 0 or p["pending"] != 0 or p["exit_leg"] != 0) for p in self.positions]

    def copy(self) -> "EngineState":
        """A state that may be stepped without touching this one."""
        return EngineState(self.account.copy(), self.positions.copy())

    def to_document(self) -> StateDocument:
        """JSON-ready: field names and integers."""
        return {
            "account": _to_integers(self.account[0]),
            "positions": [_to_integers(position) for position in self.positions],
        }

    @staticmethod
    def from_document(document: Mapping[str, dict[str, int] | list[dict[str, int]]]) -> "EngineState":
        """The inverse of ``to_document``. Raises LedgerUnreadable when fields are missing or unknown."""
        account, positions = document.get("account"), document.get("positions")
        if not isinstance(account, dict) or not isinstance(positions, list):
            raise LedgerUnreadable("the checkpoint's state has no account or no positions")
        return EngineState(_from_integers([account], ACCOUNT), _from_integers(positions, POSITION))


def open_state(initial_cash: Decimal, symbols: int) -> EngineState:
    """The state of an account before its first bar: cash and no positions."""
    cash = to_units(initial_cash, CASH_DECIMALS, ROUND_HALF_EVEN)
    account = np.zeros(1, dtype=ACCOUNT)
    for field in ("cash", "equity", "peak_equity", "day_start_equity"):
        account[field] = cash
    for field in ("day", "loss_day", "opened_at", "watermark", "peak_at"):
        account[field] = NEVER
    positions = np.zeros(symbols, dtype=POSITION)
    for field in _TIMES:
        positions[field] = NEVER
    return EngineState(account, positions)


def _to_integers(record: np.void) -> dict[str, int]:
    return {name: int(record[name]) for name in record.dtype.names or ()}


def _from_integers(rows: list[dict[str, int]], dtype: np.dtype[np.void]) -> Records:
    records = np.zeros(len(rows), dtype=dtype)
    for record, row in zip(records, rows, strict=True):
        if set(row) != set(dtype.names or ()):
            raise LedgerUnreadable(
                f"the checkpoint's state has fields {sorted(set(row) ^ set(dtype.names or ()))} too many or too few"
            )
        for name, value in row.items():
            record[name] = value
    return records
