"""The standard result of a cycle: returned by the flow, stored in `runs`, shown as an artifact, printed by `--json`."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["success", "partial", "failure"]


class Record(BaseModel):
    """A frozen row of a result; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FillRow(Record):
    """One fill, newest last. ``position_side`` (long, short): the position that it opens, adds to or closes."""

    at: datetime
    symbol: str
    side: str
    leg: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    realized_pnl: Decimal | None
    reason: str
    position_side: str = "long"


class PositionRow(Record):
    """One open position with what protects it; ``unrealized_pnl`` at the last close, before the exit's costs.

    ``return_share`` is of what it cost, or of its margin where it is held on margin. ``stop_loss`` is where the stop stands now,
    ``trailing`` whether it follows the price. ``margin`` and ``liquidation_price`` are None for what is owned outright.
    """

    symbol: str
    quantity: Decimal
    entry_price: Decimal
    last_price: Decimal
    stop_loss: Decimal | None
    take_profit_1: Decimal | None
    take_profit_2: Decimal | None
    unrealized_pnl: Decimal
    opened_at: datetime
    side: str = "long"
    return_share: Decimal | None = None
    trailing: bool = False
    margin: Decimal | None = None
    liquidation_price: Decimal | None = None


class OrderRow(Record):
    """An order that this cycle decided, filled, in part or whole, cancelled or refused; ``expires_at`` None: it does not."""

    client_order_id: str
    decided_at: datetime
    symbol: str
    leg: str
    side: str
    status: str
    quantity: Decimal | None
    budget: Decimal | None
    price: Decimal | None
    reason: str
    rule: str | None = None
    rule_limit: Decimal | None = None
    rule_value: Decimal | None = None
    kind: str = "market"
    filled_quantity: Decimal | None = None
    expires_at: datetime | None = None


class CycleData(Record):
    """What a trader wants to know of a cycle. Shares are fractions of 1.

    ``margin`` is what of the cash positions on margin reserve, ``funding`` what perpetuals have received less paid, so far.
    """

    account: str
    market: str
    timeframe: str
    symbols: tuple[str, ...]
    strategy: str
    quote: str
    acted: bool
    created: bool
    dry_run: bool
    watermark_before: datetime | None
    watermark_at: datetime | None
    bars: int
    initial_cash: Decimal
    equity: Decimal
    cash: Decimal
    margin: Decimal
    funding: Decimal
    return_share: Decimal
    drawdown_share: Decimal
    max_drawdown_share: Decimal
    counts: dict[str, int]
    orders: tuple[OrderRow, ...]
    last_fills: tuple[FillRow, ...]
    positions: tuple[PositionRow, ...]
    notices: tuple[str, ...]
    report: str | None


class CycleMetadata(Record):
    """Which run this was, how long each step took, and what it was computed from."""

    run_id: str
    flow_run_id: str | None
    correlation_id: str
    started_at: datetime
    completed_at: datetime
    durations_s: dict[str, float]
    code_version: str
    candle_digests: dict[str, str]
    clock_skew_ms: int | None


class CycleResult(Record):
    """``data`` is None only when the cycle failed before the account was known; ``error`` says what went wrong."""

    status: Status
    data: CycleData | None
    error: str | None
    metadata: CycleMetadata
