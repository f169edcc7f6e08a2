"""What a session says of itself: kept as JSON in the store at every heartbeat, read by `status`, artifact and live page."""

from datetime import datetime
from decimal import Decimal

from candlewick.monitoring.events import Regime, Stage, State
from candlewick.results import Record


class StageStatus(Record):
    """One stage of one symbol. ``failures`` since the last success, ``restarts`` in this session."""

    stage: Stage
    state: State
    failures: int
    restarts: int
    error: str | None


class SymbolStatus(Record):
    """One symbol. ``position`` is signed base currency (short below 0); amounts in quote currency.

    ``last_bar_at`` is the open time of the last bar processed, ``processed_at`` when its commit was done; ``errors`` and
    ``restarts`` count in this session. ``quarantined``: the supervisor gave up, `restart --symbol` begins anew.
    ``paused_by``: why it is paused (a person, market closed, stale data, a risk limit), None where it is not.
    """

    symbol: str
    account: str
    state: State
    stages: tuple[StageStatus, ...]
    quarantined: bool
    paused_by: str | None
    regime: Regime
    last_bar_at: datetime | None
    processed_at: datetime | None
    bars: int
    signal: str | None
    signal_at: datetime | None
    signal_verdict: str | None
    position: Decimal
    entry_price: Decimal | None
    last_price: Decimal | None
    stop_loss: Decimal | None
    unrealized_pnl: Decimal
    equity: Decimal
    errors: int
    restarts: int
    last_error: str | None


class RiskStatus(Record):
    """One global limit: ``value`` against ``limit`` as text in its units; ``breached_at`` while it is broken and not lifted."""

    rule: str
    limit: str | None
    value: str | None
    breached_at: datetime | None
    action: str
    lift: str


class SessionStatus(Record):
    """The whole session. Shares are fractions of 1; ``day_pnl`` since the start of the day in the desk's time zone.

    ``clock_at`` is the market's time and ``heartbeat_at`` this machine's. ``lag_p50_s``, ``lag_p99_s``: from a bar's close to its
    commit, over the newest 10,000 bars. ``outbox_waiting``: events the outside has not confirmed yet, by sink. ``bus_connected``:
    whether Redis answered last time, None where none is set; ``store_connected``: whether the last commit succeeded.
    """

    session_id: str
    name: str
    market: str
    timeframe: str
    strategy: str
    quote: str
    state: State
    process: str
    flow_run_id: str | None
    started_at: datetime
    ends_at: datetime
    heartbeat_at: datetime
    heartbeat_s: float
    clock_at: datetime | None
    uptime_s: float
    symbols: tuple[SymbolStatus, ...]
    risk: tuple[RiskStatus, ...]
    equity: Decimal
    initial_cash: Decimal
    day_pnl: Decimal
    drawdown_share: Decimal
    open_positions: int
    gross_exposure: Decimal
    net_exposure: Decimal
    bars: int
    signals: int
    rejections: int
    orders: int
    fills: int
    errors: int
    restarts: int
    lag_p50_s: float | None
    lag_p99_s: float | None
    bus_events: int
    bus_failures: int
    bus_connected: bool | None
    store_connected: bool
    outbox_waiting: dict[str, int]
    memory_mb: float
    notices: tuple[str, ...]

    @property
    def healthy_symbols(self) -> int:
        """Symbols that run, or are paused on purpose, and are not in quarantine."""
        return sum(one.state in ("RUNNING", "PAUSED") and not one.quarantined for one in self.symbols)

    @property
    def is_healthy(self) -> bool:
        """The session runs, every symbol is healthy, the store answers, and Redis where there is one."""
        alive = self.state in ("RUNNING", "PAUSED") and self.store_connected and self.bus_connected is not False
        return alive and self.healthy_symbols == len(self.symbols)
