"""A cycle as data: what it starts from, what it decided, and the rows it writes. Pure: no network, no clock, no store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from candlewick.account import Account, account_row, terms_rows
from candlewick.advancing import Advanced, last_bars
from candlewick.code_version import code_version
from candlewick.engine.state import EngineState, open_state
from candlewick.history import digests_until
from candlewick.journal import Journal, opening_postings, write_journal
from candlewick.monitoring.interventions import Intervention
from candlewick.reports.view import AccountView, told_by_events
from candlewick.results import Status
from candlewick.rows import (
    CHECKPOINT_ROW,
    EQUITY_ROW,
    FILL_ROW,
    ORDER_ROW,
    POSITION_ROW,
    RUN_ROW,
    SIGNAL_ROW,
    TEXT,
    TIME,
    Schema,
    Value,
    frame,
)
from candlewick.seen import seen_document
from candlewick.timeframes import utc

_SCHEMAS: Mapping[str, Schema] = {
    "signals": SIGNAL_ROW,
    "orders": ORDER_ROW,
    "fills": FILL_ROW,
    "positions": POSITION_ROW,
    "equity": EQUITY_ROW,
    "runs": RUN_ROW,
}


@dataclass(frozen=True, slots=True)
class Start:
    """What a cycle starts from. ``version`` is the checkpoint's, None when the account is new.

    ``opens`` of the forming bar, by symbol, when a cycle before has done its open phase already. ``is_outdated``: an older
    version wrote the state, which is not in here; it has to be rebuilt. ``interventions``: what sessions did to the signals of
    bars that were processed before.
    """

    account: Account
    state: EngineState
    version: int | None
    digests: Mapping[str, str]
    opens: Mapping[str, float]
    open_orders: pl.DataFrame
    created: bool
    is_outdated: bool = False
    interventions: tuple[Intervention, ...] = ()

    @property
    def watermark_at(self) -> datetime | None:
        """Open time of the last bar that was processed before."""
        return None if self.state.watermark_ms is None else utc(self.state.watermark_ms)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a cycle decided and not yet wrote. ``digests`` of candles and funding up to the new watermark (`history.py`)."""

    start: Start
    advanced: Advanced
    journal: Journal
    seen: Mapping[str, int | None]
    digests: Mapping[str, str]

    @property
    def watermark_at(self) -> datetime | None:
        """Open time of the last bar that is processed now."""
        watermark_ms = self.advanced.state.watermark_ms
        return None if watermark_ms is None else utc(watermark_ms)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The bookkeeping of one run, as `runs` keeps it."""

    run_id: str
    flow_run_id: str | None
    correlation_id: str
    started_at: datetime
    completed_at: datetime
    status: Status
    error: str | None
    notices: Sequence[str]
    durations_s: Mapping[str, float]


def new_start(account: Account) -> Start:
    """The start of an account that does not exist yet."""
    state = open_state(account.initial_cash, len(account.symbols))
    return Start(account, state, None, {}, {}, frame([], ORDER_ROW), created=True)


def conclude(
    start: Start, advanced: Advanced, candles: Mapping[str, pl.DataFrame], funding: Mapping[str, pl.DataFrame] | None = None
) -> Decided:
    """Turn what the engine did into rows. ``funding`` of the perpetuals there are, by symbol."""
    journal = write_journal(start.account.name, advanced.segments, advanced.state, start.open_orders, start.state)
    digests = digests_until(start.account, candles, funding or {}, advanced.state.watermark_ms)
    return Decided(start, advanced, journal, last_bars(candles), digests)


def following(decided: Decided) -> Start:
    """The start of the cycle after this one, once it is committed: what the ledger would answer, without asking it."""
    start, journal = decided.start, decided.journal
    orders = pl.concat([start.open_orders.select(list(ORDER_ROW)), journal.orders]).unique(
        "client_order_id", keep="last", maintain_order=True
    )
    return Start(
        account=start.account,
        state=decided.advanced.state,
        version=(start.version or 0) + 1,
        digests=decided.digests,
        opens=_forming_opens(decided),
        open_orders=orders.filter(pl.col("status") == "open"),
        created=False,
    )


def checkpoint_row(decided: Decided) -> pl.DataFrame:
    """The checkpoint that a commit of this cycle leaves."""
    row: dict[str, Value] = {
        "account": decided.start.account.name,
        "version": (decided.start.version or 0) + 1,
        "watermark_at": decided.advanced.state.watermark_ms,
        "seen": json.dumps(seen_document(decided.seen, _forming_opens(decided))),
        "state": json.dumps(decided.advanced.state.to_document()),
        "candle_digests": json.dumps(dict(decided.digests)),
    }
    return frame([row], CHECKPOINT_ROW)


def _forming_opens(decided: Decided) -> Mapping[str, float]:
    """Opens that the state has acted on and no closed bar shows yet: an audit needs them until one does."""
    advanced = decided.advanced
    if advanced.opened is not None:
        return advanced.opened[1]
    opened_ms, watermark_ms = advanced.state.opened_ms, advanced.state.watermark_ms
    still_forming = opened_ms is not None and (watermark_ms is None or opened_ms > watermark_ms)
    return decided.start.opens if still_forming else {}


def run_row(
    account: str, record: RunRecord, before: datetime | None, after: datetime | None, bars: int, digests: Mapping[str, str]
) -> pl.DataFrame:
    """The run as a row of `runs`."""
    times = {
        "started_at": record.started_at,
        "completed_at": record.completed_at,
        "watermark_before": before,
        "watermark_at": after,
    }
    row: dict[str, Value] = {
        "run_id": record.run_id,
        "account": account,
        "flow_run_id": record.flow_run_id,
        "correlation_id": record.correlation_id,
        "status": record.status,
        "error": record.error,
        "bars": bars,
        "code_version": code_version(),
        "candle_digests": json.dumps(dict(digests)),
        "durations_s": json.dumps(dict(record.durations_s)),
        "notices": json.dumps(list(record.notices)),
    }
    rows = frame([row], RUN_ROW)
    return rows.with_columns(pl.lit(time, dtype=TIME).alias(name) for name, time in times.items())


def opening_rows(account: Account) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Rows that open an account: `accounts`, `terms`, and the postings of its deposit."""
    deposit = opening_postings(account.name, account.quote, account.initial_cash, account.anchor_ms)
    return account_row(account), terms_rows(account, account.terms), deposit


def preview(view: AccountView, decided: Decided, run_id: str) -> AccountView:
    """The view as it would be if the cycle were written: for a dry run."""
    journal = decided.journal
    fresh = {"signals": journal.signals, "orders": journal.orders, "fills": journal.fills, "equity": journal.equity}
    merged: dict[str, pl.DataFrame] = {}
    for name, rows in fresh.items():
        kept: pl.DataFrame = getattr(view, name)
        if name == "orders":
            kept = kept.filter(~pl.col("client_order_id").is_in(rows["client_order_id"].implode()))
        marked = rows.with_columns(pl.lit(run_id).alias("run_id")) if "run_id" in kept.columns else rows
        merged[name] = pl.concat([kept, marked], how="diagonal")
    for name, rows in told_by_events(journal.events).items():
        merged[name] = pl.concat([getattr(view, name), rows])
    return AccountView(
        account=view.account,
        market=view.market,
        timeframe=view.timeframe,
        symbols=view.symbols,
        quote=view.quote,
        initial_cash=view.initial_cash,
        anchor_at=view.anchor_at,
        watermark_at=decided.watermark_at,
        strategy=view.strategy,
        parameters=view.parameters,
        candles=view.candles,
        positions=journal.positions,
        runs=view.runs,
        **merged,
    )


def empty_view(account: Account, candles: Mapping[str, pl.DataFrame]) -> AccountView:
    """The view of an account that has no rows yet."""
    frames = {
        name: _no_rows(schema, with_run_id=name not in ("positions", "equity", "runs")) for name, schema in _SCHEMAS.items()
    }
    return AccountView(
        account=account.name,
        market=account.market,
        timeframe=account.timeframe,
        symbols=account.symbols,
        quote=account.quote,
        initial_cash=account.initial_cash,
        anchor_at=utc(account.anchor_ms),
        watermark_at=None,
        strategy=account.current.strategy,
        parameters={key: value for key, value in account.current.parameters.items() if value is not None},
        candles=candles,
        **frames,
    )


def _no_rows(schema: Schema, *, with_run_id: bool) -> pl.DataFrame:
    return frame([], {**schema, "run_id": TEXT} if with_run_id else schema)
