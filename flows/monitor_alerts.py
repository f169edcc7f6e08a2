"""Alerts of a session: what needs a person goes to the channels of the settings, and is kept with the next commit."""

from collections.abc import Sequence
from datetime import UTC, datetime

from blocks.alert_channel import AlertSender
from blocks.event_bus import OutboxSender
from candlewick.monitoring import alert_texts
from candlewick.monitoring.alerts import Alert, AlertDesk, AlertRules
from candlewick.monitoring.desk import Desk
from candlewick.monitoring.events import STAGES, DataStale, RiskLimitBreached, StateChanged
from candlewick.monitoring.rows import AlertRow, SessionRow
from candlewick.settings import Settings

_DOWN_LIMIT_S = 60.0
_CLOSING_S = 5.0


class Alerts:
    """Decides, sends and keeps. Nothing waits for a channel."""

    def __init__(self, name: str, session_id: str, settings: Settings) -> None:
        self._name = name
        self._desk: Desk | None = None
        self._rules = AlertDesk(name, session_id, AlertRules.of(settings.alerts, settings.desk_risk.time_zone))
        self._sender = AlertSender(settings.alerts.urls, settings.alerts.timeout_s)
        self._rows: dict[str, AlertRow] = {}

    def remember(self, rows: Sequence[AlertRow]) -> None:
        """Go on from the alerts of earlier sessions; what they had not sent yet goes out now."""
        for row in self._rules.remember(rows):
            self._sender.offer(row)

    def attach(self, desk: Desk) -> None:
        """Listen to what happens on the desk's bus."""
        self._desk = desk
        desk.bus.subscribe(RiskLimitBreached, self._on_breach, "alerts")
        desk.bus.subscribe(DataStale, self._on_stale, "alerts")
        desk.bus.subscribe(StateChanged, self._on_state, "alerts")

    def tell(self, alert: Alert) -> None:
        """Something needs a person."""
        row = self._rules.decide(alert, datetime.now(UTC))
        self._rows[row.alert_id] = row
        if row.state == "waiting":
            self._sender.offer(row)

    def crashed(self, row: SessionRow) -> None:
        """The session before this one has died."""
        self.tell(alert_texts.session_crashed(self._name, row))

    def store_refused(self, error: str) -> None:
        """A commit was refused or the store does not answer."""
        self.tell(alert_texts.store_refused(self._name, error))

    def look(self, sender: OutboxSender | None) -> None:
        """Once a tick: what the quiet hours held back, what channels answered, and sinks that are down for long."""
        digest = self._rules.due(datetime.now(UTC))
        if digest is not None:
            self._rows[digest.alert_id] = digest
            self._sender.offer(digest)
        for row in self._sender.take_results():
            self._rules.settle(row)
            self._rows[row.alert_id] = row
        for sink, down_s in ({} if sender is None else sender.down_s).items():
            if down_s > _DOWN_LIMIT_S and sender is not None:
                waiting, error = sender.waiting.get(sink, 0), sender.errors.get(sink, "")
                self.tell(alert_texts.sink_down(self._name, sink, down_s, waiting, error))

    def take_rows(self) -> tuple[AlertRow, ...]:
        """What is new since it was last asked; ``give_back`` what could not be written."""
        taken, self._rows = tuple(self._rows.values()), {}
        return taken

    def give_back(self, rows: Sequence[AlertRow]) -> None:
        """What was taken and could not be written, unless something newer is known of it."""
        self._rows = {row.alert_id: row for row in rows} | self._rows

    def close(self) -> None:
        """Send what waits, for a moment."""
        self._sender.close(_CLOSING_S)
        self.look(None)

    def _on_breach(self, event: RiskLimitBreached) -> None:
        self.tell(alert_texts.risk_breached(self._name, event))

    def _on_stale(self, event: DataStale) -> None:
        self.tell(alert_texts.stale_data(self._name, event))

    def _on_state(self, event: StateChanged) -> None:
        desk = self._desk
        if desk is None or event.subject != "symbol" or event.after != "ERROR" or event.symbol is None:
            return
        error = desk.watched[event.symbol].last_error or event.reason
        if desk.supervisor.is_quarantined(event.symbol):
            restarts = desk.supervisor.symbol_restarts(event.symbol)
            self.tell(alert_texts.quarantined(self._name, event.symbol, restarts, error))
        elif event.actor == "session":
            stage = next((one for one in STAGES if error.startswith(one)), None)
            if stage is not None:
                self.tell(alert_texts.stage_given_up(self._name, event.symbol, stage, desk.rules.restarts, error))
