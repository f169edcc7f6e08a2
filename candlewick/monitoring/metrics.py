"""A session's figures for Prometheus: counted from the bus, told by the session, or taken from its status.

Every name begins with `candlewick_`, every metric has the label `desk`. Other labels are bounded: symbols by the desk's symbols,
the rest by what the code knows. docs/monitoring.md has the table of all metrics.
"""

import errno
from collections.abc import Callable, Sequence
from threading import Thread
from typing import get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from candlewick.errors import PortInUse
from candlewick.monitoring.bus import EventBus
from candlewick.monitoring.events import (
    DataFetchFailed,
    Event,
    OrderPlaced,
    SignalGenerated,
    SignalRejected,
    StageFailed,
    State,
    StateChanged,
    TradeExecuted,
    TradeFailed,
)
from candlewick.monitoring.liveness import ALIVE, health
from candlewick.monitoring.status import SessionStatus
from candlewick.monitoring.status_rows import bar_age, state_word

LOOPBACK = "127.0.0.1"
CYCLE_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
COMMIT_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 30, 60, 300)
"""Fine around what is promised: 1 s for 20 symbols, 10 s for 200."""
_STATES = ("QUARANTINED", *get_args(State))
_MEGABYTE = 1_000_000
_STEP_FAILED = "error"


class SessionMetrics:
    """The metrics of one session, in a registry of their own: two sessions of one process do not meet."""

    def __init__(self, name: str, market: str, timeframe: str) -> None:
        """``name`` is the desk's. ``market`` and ``timeframe`` stand in `candlewick_session_info` only."""
        # When a counter was made is of no use here, and would be told again for every one of its labels.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._desk = name
        self._symbols: frozenset[str] = frozenset()
        self._bars_seen = 0
        self._make_counters()
        self._make_histograms()
        self._make_gauges()
        self._info = self._gauge("session_info", "1; what the desk watches", "market", "timeframe")
        self._info.labels(name, market, timeframe).set(1)

    def attach(self, bus: EventBus) -> None:
        """Count what is published on ``bus`` from now on, and tell its lag."""
        bus.subscribe(Event, self._count_event, "metrics: bus_events")
        bus.subscribe(SignalGenerated, self._count_signal, "metrics: signals")
        bus.subscribe(SignalRejected, self._count_rejection, "metrics: signals_rejected")
        bus.subscribe(OrderPlaced, self._count_order, "metrics: orders_submitted")
        bus.subscribe(TradeExecuted, self._count_fill, "metrics: orders_filled")
        bus.subscribe(TradeFailed, self._count_refusal, "metrics: orders_rejected")
        bus.subscribe(StageFailed, self._count_error, "metrics: errors")
        bus.subscribe(DataFetchFailed, self._count_fetch_failure, "metrics: fetch_failures")
        bus.subscribe(StateChanged, self._count_restart, "metrics: restarts")
        bus.on_failure(lambda _failure: self._bus_failures.labels(self._desk).inc())
        self._bus_lag.labels(self._desk).set_function(lambda: bus.lag)

    def cycle(self, duration_s: float) -> None:
        """One look for new bars, with all that followed, took so long."""
        self._cycles.labels(self._desk).observe(duration_s)

    def committed(self, lags_s: Sequence[float]) -> None:
        """A commit: of every live bar in it, how long after its close it was in the ledger, in seconds. A bar that is caught up
        with has no such time."""
        lag = self._commit_lags.labels(self._desk)
        for lag_s in lags_s:
            lag.observe(max(lag_s, 0.0))

    def observe(self, status: SessionStatus) -> None:
        """Take the gauges from a status, and the bars since the last one; called at every heartbeat."""
        desk = self._desk
        self._bars.labels(desk).inc(max(0, status.bars - self._bars_seen))
        self._bars_seen = status.bars
        self._up.labels(desk).set(status.state in ("RUNNING", "PAUSED"))
        self._healthy.labels(desk).set(health(status, ALIVE) == "success")
        self._heartbeat.labels(desk).set(status.heartbeat_at.timestamp())
        self._equity.labels(desk).set(float(status.equity))
        self._day_pnl.labels(desk).set(float(status.day_pnl))
        self._drawdown.labels(desk).set(float(status.drawdown_share))
        self._positions.labels(desk).set(status.open_positions)
        self._gross.labels(desk).set(float(status.gross_exposure))
        self._net.labels(desk).set(float(status.net_exposure))
        self._memory.labels(desk).set(status.memory_mb * _MEGABYTE)
        for sink, waiting in status.outbox_waiting.items():
            self._outbox.labels(desk, sink).set(waiting)
        self._observe_symbols(status)

    def serve(self, port: int) -> Callable[[], None]:
        """Answer scrapes on ``port`` of this machine's loopback; returns what ends that. Raises PortInUse."""
        try:
            server, thread = prometheus_client.start_http_server(port, addr=LOOPBACK, registry=self.registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortInUse(
                f"metrics of desk {self._desk}: port {port} of {LOOPBACK} is in use; "
                "set another monitoring.metrics_port, or end what listens there"
            ) from error

        def stop(listening: Thread = thread) -> None:
            server.shutdown()
            server.server_close()
            listening.join()

        return stop

    def _observe_symbols(self, status: SessionStatus) -> None:
        """Ages and states; a symbol that is watched no more leaves no series behind."""
        words = [state_word(one) for one in status.symbols]
        for word in _STATES:
            self._states.labels(self._desk, word.lower()).set(words.count(word))
        known = frozenset(one.symbol for one in status.symbols)
        for gone in self._symbols - known:
            self._ages.remove(self._desk, gone)
        self._symbols = known
        for one in status.symbols:
            age = bar_age(status, one, status.heartbeat_at)
            self._ages.labels(self._desk, one.symbol).set(float("nan") if age is None else age.total_seconds())

    def _make_counters(self) -> None:
        self._bars = self._counter("bars_processed", "Bars that came while the session ran, of all symbols")
        self._signals = self._counter("signals", "Signals of strategies that are not HOLD", "action")
        self._rejections = self._counter("signals_rejected", "Signals that a rule was against", "rule")
        self._orders = self._counter("orders_submitted", "Orders in the ledger")
        self._fills = self._counter("orders_filled", "Fills in the ledger; an order filled in two parts counts twice")
        self._refusals = self._counter(
            "orders_rejected", "Orders refused by a rule; `error` where the step itself failed", "rule"
        )
        self._errors = self._counter("errors", "Failures of stages", "stage")
        self._fetch_failures = self._counter("data_fetch_failures", "Candles of a symbol that did not come, or were refused")
        self._restarts = self._counter("restarts", "Times that a stage, a symbol or a session was restarted", "what")
        self._bus_events = self._counter("bus_events", "Events published on the bus")
        self._bus_failures = self._counter("bus_failures", "Handlers of the bus that raised")

    def _make_histograms(self) -> None:
        self._cycles = self._histogram("cycle_duration_seconds", "A look for new bars, and all that followed", CYCLE_BUCKETS_S)
        self._commit_lags = self._histogram(
            "bar_close_to_commit_seconds", "From the close of a bar until the ledger has what followed from it", COMMIT_BUCKETS_S
        )

    def _make_gauges(self) -> None:
        self._up = self._gauge("up", "1 while the session runs or is paused on purpose, else 0")
        self._healthy = self._gauge("healthy", "1 while every symbol, the store and Redis (where set) are well, else 0")
        self._heartbeat = self._gauge("heartbeat_timestamp_seconds", "When the other gauges were taken, in seconds since 1970")
        self._ages = self._gauge(
            "data_age_seconds", "Market time since the close of a symbol's last bar; NaN before it", "symbol"
        )
        self._states = self._gauge("symbols", "Symbols by state", "state")
        self._equity = self._gauge("equity", "Equity of all accounts, in quote currency")
        self._day_pnl = self._gauge("day_pnl", "Result since the desk's midnight, in quote currency")
        self._drawdown = self._gauge("drawdown_share", "Drawdown from the highest equity, a fraction of 1")
        self._positions = self._gauge("open_positions", "Positions that are open")
        self._gross = self._gauge("gross_exposure", "Long plus short, in quote currency")
        self._net = self._gauge("net_exposure", "Long less short, in quote currency")
        self._bus_lag = self._gauge("bus_lag", "Events published on the bus whose delivery has not begun")
        self._outbox = self._gauge("outbox_waiting", "Events that a sink has not confirmed", "sink")
        self._memory = self._gauge("memory_bytes", "Memory of the session's process")

    def _count_event(self, _event: Event) -> None:
        self._bus_events.labels(self._desk).inc()

    def _count_signal(self, event: SignalGenerated) -> None:
        self._signals.labels(self._desk, event.action).inc()

    def _count_rejection(self, event: SignalRejected) -> None:
        self._rejections.labels(self._desk, event.rule).inc()

    def _count_order(self, _event: OrderPlaced) -> None:
        self._orders.labels(self._desk).inc()

    def _count_fill(self, _event: TradeExecuted) -> None:
        self._fills.labels(self._desk).inc()

    def _count_refusal(self, event: TradeFailed) -> None:
        self._refusals.labels(self._desk, event.rule or _STEP_FAILED).inc()

    def _count_error(self, event: StageFailed) -> None:
        self._errors.labels(self._desk, event.stage).inc()

    def _count_fetch_failure(self, _event: DataFetchFailed) -> None:
        self._fetch_failures.labels(self._desk).inc()

    def _count_restart(self, event: StateChanged) -> None:
        if event.after == "RECOVERING":
            self._restarts.labels(self._desk, event.subject).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        counter = Counter(f"candlewick_{name}", text, ["desk", *labels], registry=self.registry)
        if not labels:
            counter.labels(self._desk)
        return counter

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"candlewick_{name}", text, ["desk", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"candlewick_{name}", text, ["desk"], buckets=buckets, registry=self.registry)
