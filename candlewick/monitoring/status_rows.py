"""What a status says of its symbols, as text: which of them need somebody first, why, and each one's row for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from candlewick.monitoring.status import SessionStatus, StageStatus, SymbolStatus
from candlewick.reports.numbers import format_money, format_quantity, format_span
from candlewick.timeframes import timeframe_ms

SYMBOL_COLUMNS: Mapping[str, str] = {
    "symbol": "Symbol", "state": "State", "regime": "Regime", "bar": "Last bar", "age": "Age", "signal": "Signal",
    "position": "Position", "unrealized": "Unrealised", "errors": "Errors", "restarts": "Restarts",
}  # fmt: skip
NARROW_COLUMNS: Mapping[str, str] = {
    "symbol": "Symbol", "state": "State", "regime": "Regime", "bar": "Last bar", "signal": "Signal", "position": "Position",
    "unrealized": "Result", "failures": "Err/R",
}  # fmt: skip
_NOTHING = "-"
_KILL_SWITCH = "kill_switch"
_URGENCY = ("QUARANTINED", "ERROR", "RECOVERING", "STOPPED", "STOPPING", "CREATED", "STARTING", "PAUSED", "RUNNING")
_NAMED_SYMBOLS = 6


@dataclass(frozen=True, slots=True)
class Concern:
    """Symbols that are not simply running, for the same reason."""

    state: str
    reason: str
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        """`QUARANTINED BTC/USDT, ETH/USDT: the reason`."""
        named = ", ".join(self.symbols[:_NAMED_SYMBOLS])
        more = len(self.symbols) - _NAMED_SYMBOLS
        return f"{self.state} {named}{f' and {more:,} more' if more > 0 else ''}{f': {self.reason}' if self.reason else ''}"


def state_word(one: SymbolStatus) -> str:
    """The symbol's state, or QUARANTINED."""
    return "QUARANTINED" if one.quarantined else one.state


def by_urgency(symbols: Sequence[SymbolStatus]) -> list[SymbolStatus]:
    """What needs attention first: quarantine, errors, pauses, a failing stage, a position; each in the desk's order."""
    return sorted(
        symbols, key=lambda one: (_URGENCY.index(state_word(one)), failing_stage(one) is None, not one.errors, not one.position)
    )


def failing_stage(one: SymbolStatus) -> StageStatus | None:
    """The first stage that is in ERROR or RECOVERING, or has failed since its last success."""
    return next((stage for stage in one.stages if stage.failures or stage.state in ("ERROR", "RECOVERING")), None)


def concerns(status: SessionStatus) -> list[Concern]:
    """What is the matter, the worst first; symbols of one state and reason together."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in by_urgency(status.symbols):
        if state_word(one) != "RUNNING" or failing_stage(one) is not None:
            found.setdefault((state_word(one), _reason(one)), []).append(one.symbol)
    return [Concern(state, reason, tuple(symbols)) for (state, reason), symbols in found.items()]


def _reason(one: SymbolStatus) -> str:
    """What stands behind the state; of a stage its name and how often it failed."""
    if one.state == "PAUSED" and not one.quarantined:
        return one.paused_by or ""
    stage = failing_stage(one)
    error = (stage.error if stage else None) or one.last_error or ""
    if stage is None:
        return error
    failures = f" failed {stage.failures:,} times" if stage.failures > 1 else " failed"
    return f"stage {stage.stage}{failures}{f': {error}' if error else ''}"


def symbol_row(status: SessionStatus, one: SymbolStatus, now: datetime) -> dict[str, str]:
    """One symbol by the keys of SYMBOL_COLUMNS. Times are UTC; amounts in quote currency."""
    reason = _reason(one) if state_word(one) != "RUNNING" else ""
    return {
        "symbol": one.symbol,
        "state": f"{state_word(one)}: {reason}" if reason else state_word(one),
        "regime": one.regime.replace("_", " "),
        "bar": _bar_text(one.last_bar_at, now),
        "age": _NOTHING if (age := bar_age(status, one, now)) is None else age_text(age),
        "signal": " ".join(filter(None, (one.signal, one.signal_verdict))) or _NOTHING,
        "position": format_quantity(one.position) if one.position else _NOTHING,
        "unrealized": format_money(one.unrealized_pnl, status.quote, sign=True) if one.position else _NOTHING,
        "errors": _count(one.errors),
        "restarts": _count(one.restarts),
    }


def narrow_row(row: Mapping[str, str]) -> dict[str, str]:
    """The cells of a ``symbol_row`` by the keys of NARROW_COLUMNS, as short as 80 columns ask for."""
    # A date is longer than its age says; the reason of a state stands above the table.
    failures = f"{row['errors']}/{row['restarts']}"
    bar = row["age"] if " " in row["bar"] or row["bar"] == _NOTHING else f"{row['bar']} {row['age']}"
    return {
        "symbol": row["symbol"],
        "state": row["state"].partition(":")[0],
        "regime": row["regime"].replace("high volatility", "volatile"),
        "bar": bar,
        "signal": row["signal"],
        "position": row["position"],
        "unrealized": row["unrealized"],
        "failures": _NOTHING if row["errors"] == row["restarts"] == _NOTHING else failures.replace(_NOTHING, "0"),
    }


def bar_age(status: SessionStatus, one: SymbolStatus, now: datetime) -> timedelta | None:
    """How long ago the symbol's last bar closed, by the market's clock, which goes on after the last heartbeat; at least 0."""
    if one.last_bar_at is None:
        return None
    market = now if status.clock_at is None else status.clock_at + (now - status.heartbeat_at)
    closed = one.last_bar_at + timedelta(milliseconds=timeframe_ms(status.timeframe))
    return max(market - closed, timedelta(0))


def age_text(age: timedelta) -> str:
    """Seconds up to two minutes, then the two largest units: `42s`, `9m`, `1d 3h`."""
    seconds = int(age.total_seconds())
    return f"{seconds}s" if seconds < 120 else format_span(age)


def risk_rows(status: SessionStatus) -> list[dict[str, str]]:
    """The limits that are set, those that are broken first, and the kill switch where it is pulled.

    Columns: Limit, Now, At most, State, Then, Lifted.
    """
    rows = sorted(
        (one for one in status.risk if one.breached_at is not None or (one.limit is not None and one.rule != _KILL_SWITCH)),
        key=lambda one: one.breached_at is None,
    )
    return [
        {
            "Limit": one.rule,
            "Now": one.value or _NOTHING,
            "At most": one.limit or _NOTHING,
            "State": "ok" if one.breached_at is None else f"BROKEN since {one.breached_at:%H:%M:%S}",
            "Then": one.action.replace("_", " "),
            "Lifted": one.lift.replace("_", " "),
        }
        for one in rows
    ]


def money(value: Decimal, status: SessionStatus, *, sign: bool = False) -> str:
    """An amount in the desk's quote currency."""
    return format_money(value, status.quote, sign=sign)


def _bar_text(at: datetime | None, now: datetime) -> str:
    if at is None:
        return _NOTHING
    return f"{at:%H:%M}" if abs(now - at) < timedelta(hours=20) else f"{at:%m-%d %H:%M}"


def _count(number: int) -> str:
    return f"{number:,}" if number else _NOTHING
