"""Which alerts go out, and when: a least severity, no repeats within a while, quiet hours. Pure: times come in as arguments."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from zoneinfo import ZoneInfo

from candlewick.monitoring.events import Severity, event_id
from candlewick.monitoring.rows import AlertRow, AlertState
from candlewick.settings_monitoring import AlertSettings

_RANK: Mapping[Severity, int] = {"info": 0, "warning": 1, "critical": 2}
_DIGEST = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What needs a person: what happened, and what to do next (``body``). Repeats are told by ``key``."""

    severity: Severity
    title: str
    body: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRules:
    """``severity``: the least that is sent; ``repeat_s``: how long the same alert is held back, in seconds.

    ``quiet``: hours in ``time_zone`` from the first to before the second, also over midnight, in which only critical alerts go
    out; None: there are none. Both ends the same: always.
    """

    severity: Severity
    repeat_s: float
    quiet: tuple[time, time] | None
    time_zone: str

    @staticmethod
    def of(settings: AlertSettings, time_zone: str) -> "AlertRules":
        """The rules that the settings state; ``time_zone`` is the desk's."""
        quiet = None if settings.quiet is None else settings.quiet.partition("-")[::2]
        hours = None if quiet is None else (time.fromisoformat(quiet[0]), time.fromisoformat(quiet[1]))
        return AlertRules(severity=settings.severity, repeat_s=settings.repeat_s, quiet=hours, time_zone=time_zone)

    def is_quiet(self, at: datetime) -> bool:
        """Whether ``at`` is in quiet hours."""
        if self.quiet is None:
            return False
        (begins, ends), now = self.quiet, self.local(at).time()
        return begins <= now < ends if begins < ends else now >= begins or now < ends

    def local(self, at: datetime) -> datetime:
        """``at`` on the desk's clocks."""
        return at.astimezone(ZoneInfo(self.time_zone))


@dataclass(slots=True)
class _Sent:
    """The last alert of a key that went out, and the row that counts those held back since."""

    row: AlertRow
    held: AlertRow | None = None


@dataclass(slots=True)
class AlertDesk:
    """Decides about every alert of a desk. Rows that it answers are to be kept; those in state `waiting` are to be sent now.

    The same row may be answered again with a higher count: it replaces the one before (``alert_id``). States: `waiting` until the
    channel has answered `sent` or `failed`; `repeated`: held back, counted, and said with the next one of its key that goes out;
    `quiet`: not sent, because it is below the least severity, or waits for the end of the quiet hours.
    """

    name: str
    session_id: str | None
    rules: AlertRules
    _sent: dict[str, _Sent] = field(default_factory=dict)
    _held: dict[str, AlertRow] = field(default_factory=dict)

    def remember(self, rows: Iterable[AlertRow]) -> tuple[AlertRow, ...]:
        """Go on where an earlier session ended, from its kept rows in any order. Answers those that it had not sent yet."""
        unsent = []
        for row in sorted(rows, key=lambda row: (row.raised_at, row.alert_id)):
            if row.key == _DIGEST:
                self._held.clear()
            if row.state in ("sent", "waiting"):
                self._sent[row.key] = _Sent(row)
                unsent += [row] if row.state == "waiting" else []
            elif row.state == "repeated" and row.key in self._sent:
                self._sent[row.key].held = row
            elif row.state == "quiet" and self._is_sent_at_all(row.severity) and row.error is None:
                self._held[row.key] = row
        return tuple(unsent)

    def decide(self, alert: Alert, at: datetime) -> AlertRow:
        """What becomes of an alert at ``at`` (UTC and aware)."""
        if not self._is_sent_at_all(alert.severity):
            return self._row(alert, at, "quiet")
        if self.rules.is_quiet(at) and alert.severity != "critical":
            return self._hold(alert, at)
        before = self._sent.get(alert.key)
        if before is not None and self._is_repeat(before.row, alert, at):
            held = before.held
            before.held = self._row(alert, at, "repeated", 1) if held is None else replace(held, repeats=held.repeats + 1)
            return before.held
        row = self._row(alert, at, "waiting")
        if before is not None and before.held is not None:
            count = before.held.repeats
            times = "once more" if count == 1 else f"{count} more times"
            row = replace(row, repeats=count, body=f"{row.body}\nIt came {times} since {self._clock(before.row.raised_at)}.")
        self._sent[alert.key] = _Sent(row)
        return row

    def due(self, at: datetime) -> AlertRow | None:
        """The digest of what waited, once the quiet hours are over; None before, and where nothing waits."""
        if not self._held or self.rules.is_quiet(at):
            return None
        waited = sorted(self._held.values(), key=lambda row: row.raised_at)
        self._held.clear()
        lines = [f"{self._clock(row.raised_at)} {row.severity}: {row.title}{_again(row.repeats)}\n{row.body}" for row in waited]
        worst = max((row.severity for row in waited), key=lambda severity: _RANK[severity])
        title = f"{len(waited)} alert{'s' if len(waited) > 1 else ''} of the quiet hours"
        row = self._row(Alert(severity=worst, title=title, body="\n\n".join(lines), key=_DIGEST), at, "waiting")
        for one in waited:
            self._sent[one.key] = _Sent(replace(one, raised_at=at))
        return row

    def settle(self, row: AlertRow) -> None:
        """What became of a row that was to be sent. After a failure the next alert of its key goes out at once."""
        before = self._sent.get(row.key)
        if row.state == "failed" and before is not None and before.row.alert_id == row.alert_id:
            del self._sent[row.key]

    def _is_sent_at_all(self, severity: Severity) -> bool:
        return _RANK[severity] >= _RANK[self.rules.severity]

    def _is_repeat(self, before: AlertRow, alert: Alert, at: datetime) -> bool:
        """A more severe one is no repeat."""
        recent = (at - before.raised_at).total_seconds() < self.rules.repeat_s
        return recent and _RANK[alert.severity] <= _RANK[before.severity]

    def _hold(self, alert: Alert, at: datetime) -> AlertRow:
        held = self._held.get(alert.key)
        row = self._row(alert, at, "quiet") if held is None else replace(held, repeats=held.repeats + 1)
        self._held[alert.key] = row
        return row

    def _clock(self, at: datetime) -> str:
        return f"{self.rules.local(at):%Y-%m-%d %H:%M %Z}"

    def _row(self, alert: Alert, at: datetime, state: AlertState, repeats: int = 0) -> AlertRow:
        return AlertRow(
            alert_id=event_id("alert", self.name, alert.key, alert.severity, at.isoformat()),
            name=self.name,
            session_id=self.session_id,
            severity=alert.severity,
            title=alert.title,
            body=alert.body,
            key=alert.key,
            raised_at=at,
            state=state,
            sent_at=None,
            repeats=repeats,
            error=None,
        )


def _again(repeats: int) -> str:
    return f" (and {repeats} more)" if repeats else ""
