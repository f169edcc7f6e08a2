"""Trades: fills paired from the one that opens a position to the one that closes the last of it, long and short.

A fill with leg ``entry`` opens a position or adds to it; every other leg (exit, stop, target_1, target_2, time_stop,
liquidation) reduces it. A reversal is an exit fill followed by an entry fill of the other side.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext

import polars as pl

from candlewick.metrics import AMOUNT, WIDE, ZERO, divide

TRADE_SCHEMA: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "side": pl.String(),
    "opened_at": pl.Datetime("us", "UTC"),
    "closed_at": pl.Datetime("us", "UTC"),
    "holding_time": pl.Duration("us"),
    "quantity": AMOUNT,
    "open_quantity": AMOUNT,
    "entry_price": AMOUNT,
    "exit_price": AMOUNT,
    "cost": AMOUNT,
    "fees": AMOUNT,
    "funding": AMOUNT,
    "pnl": AMOUNT,
    "return_share": AMOUNT,
    "entry_order": pl.String(),
    "entry_reason": pl.String(),
    "exit_legs": pl.List(pl.String()),
    "exit_reasons": pl.List(pl.String()),
    "fill_ids": pl.List(pl.String()),
}
"""``side`` is long or short, ``quantity`` all that was entered, ``cost`` the notional of the entries, ``funding`` received less
paid; amounts in quote currency, prices averages over quantity."""

PAYMENT_SCHEMA: Mapping[str, pl.DataType] = {"symbol": pl.String(), "at": pl.Datetime("us", "UTC"), "amount": AMOUNT}
"""Funding payments: ``amount`` in quote currency, positive when received."""

_FILL_COLUMNS = (
    *("fill_id", "symbol", "client_order_id", "sequence", "leg", "side", "bar_opened_at", "phase"),
    *("quantity", "notional", "fee", "realized_pnl", "reason"),
)


@dataclass(frozen=True, slots=True)
class _Fill:
    fill_id: str
    symbol: str
    order: str
    sequence: int
    leg: str
    side: str
    at: datetime
    phase: str | None
    quantity: Decimal
    notional: Decimal
    fee: Decimal
    realized: Decimal | None
    reason: str

    @property
    def buys(self) -> bool:
        return self.side.lower() == "buy"


@dataclass(slots=True)
class _Trade:
    """A position while its fills are being read. ``realized`` is None once a fill that reduced it does not say."""

    symbol: str
    is_long: bool
    opened_at: datetime
    entry_order: str
    entry_reason: str
    closed_at: datetime | None = None
    closed_inside: bool = False
    entered: Decimal = ZERO
    left: Decimal = ZERO
    cost: Decimal = ZERO
    proceeds: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    realized: Decimal | None = ZERO
    exit_legs: tuple[str, ...] = ()
    exit_reasons: tuple[str, ...] = ()
    fill_ids: tuple[str, ...] = ()

    def take(self, fill: _Fill) -> None:
        """Add or reduce. Raises ValueError where the fill contradicts the position."""
        if fill.leg == "entry":
            if fill.buys != self.is_long:
                raise ValueError(f"fill of {fill.order}: enters {fill.symbol} by a {fill.side} while {self.held_text()}")
            self.entered, self.left = self.entered + fill.quantity, self.left + fill.quantity
            self.cost += fill.notional
        else:
            if fill.buys == self.is_long or fill.quantity > self.left:
                raise ValueError(f"{_deed(fill)}, {self.held_text()}")
            self.left, self.proceeds = self.left - fill.quantity, self.proceeds + fill.notional
            known = self.realized is not None and fill.realized is not None
            self.realized = self.realized + fill.realized if known else None  # type: ignore[operator]
            self.exit_legs, self.exit_reasons = (*self.exit_legs, fill.leg), (*self.exit_reasons, fill.reason)
        self.fees, self.fill_ids = self.fees + fill.fee, (*self.fill_ids, fill.fill_id)
        if not self.left:
            self.closed_at, self.closed_inside = fill.at, fill.phase is not None and fill.phase != "open"

    def held_text(self) -> str:
        return f"{self.left} are {'held' if self.is_long else 'short'}"

    def pnl(self) -> Decimal:
        """Signed proceeds - cost - fees + funding. On margin a loss ends at the margin, which only ``realized`` shows."""
        if self.realized is not None:
            return self.realized + self.funding
        gained = self.proceeds - self.cost
        return (gained if self.is_long else -gained) - self.fees + self.funding

    def row(self) -> dict[str, object]:
        exited = self.entered - self.left
        pnl = self.pnl() if self.closed_at is not None else None
        return {
            "symbol": self.symbol,
            "side": "long" if self.is_long else "short",
            "opened_at": self.opened_at,
            "closed_at": self.closed_at,
            "holding_time": self.closed_at - self.opened_at if self.closed_at is not None else None,
            "quantity": self.entered,
            "open_quantity": self.left,
            "entry_price": divide(self.cost, self.entered),
            "exit_price": divide(self.proceeds, exited) if exited else None,
            "cost": self.cost,
            "fees": self.fees,
            "funding": self.funding,
            "pnl": pnl,
            "return_share": divide(pnl, self.cost) if pnl is not None and self.cost else None,
            "entry_order": self.entry_order,
            "entry_reason": self.entry_reason,
            "exit_legs": list(self.exit_legs),
            "exit_reasons": list(self.exit_reasons),
            "fill_ids": list(self.fill_ids),
        }


def _deed(fill: _Fill) -> str:
    return f"fill of {fill.order}: {'buys' if fill.buys else 'sells'} {fill.quantity} {fill.symbol}"


class _Payments:
    """Funding payments that no trade has taken yet, by symbol and in their order."""

    def __init__(self, funding: pl.DataFrame | None) -> None:
        self._waiting: dict[str, deque[tuple[int | None, datetime, Decimal]]] = {}
        if funding is None or funding.is_empty():
            return
        has_sequence = "sequence" in funding.columns
        ordered = funding.sort("sequence" if has_sequence else "at", maintain_order=True)
        numbers = ordered["sequence"].to_list() if has_sequence else [None] * ordered.height
        for number, row in zip(numbers, ordered.select("symbol", "at", "amount").iter_rows(), strict=True):
            symbol, at, amount = row
            self._waiting.setdefault(symbol, deque()).append((number, at, amount))

    def before(self, fill: _Fill) -> Iterator[tuple[datetime, Decimal]]:
        """Payments of the fill's symbol that were due before it: at a bar's open funding comes before the fills."""
        waiting = self._waiting.get(fill.symbol)
        while waiting:
            number, at, amount = waiting[0]
            if (at > fill.at) if number is None else (number > fill.sequence):
                return
            waiting.popleft()
            yield at, amount

    def rest(self) -> Iterator[tuple[str, datetime, Decimal]]:
        """Payments after the last fill of their symbol."""
        for symbol, waiting in self._waiting.items():
            yield from ((symbol, at, amount) for _, at, amount in waiting)
        self._waiting.clear()


def _pay(latest: _Trade | None, symbol: str, at: datetime, amount: Decimal) -> None:
    """Book a payment on the symbol's open trade, or on one that ended inside the bar the payment was due in."""
    is_open = latest is not None and latest.closed_at is None
    ended_later = latest is not None and latest.closed_inside and latest.closed_at is not None and latest.closed_at < at
    if latest is None or not (is_open or ended_later):
        raise ValueError(f"funding of {amount} for {symbol} at {at:%Y-%m-%d %H:%M}: no position was open")
    latest.funding += amount


def funding_payments(events: pl.DataFrame) -> pl.DataFrame:
    """The funding among a ledger's events (EVENT_ROW), in PAYMENT_SCHEMA with the events' ``sequence``."""
    amount = pl.col("document").str.json_path_match("$.funding").cast(AMOUNT).alias("amount")
    return events.filter(pl.col("kind") == "funding").select("symbol", "at", amount, "sequence")


def pair_trades(fills: pl.DataFrame, funding: pl.DataFrame | None = None) -> pl.DataFrame:
    """Every trade in TRADE_SCHEMA, in the order of their entries: open ones have no ``closed_at``, ``pnl``, ``return_share``.

    ``fills`` has FILL_ROW's columns, ``funding`` those of PAYMENT_SCHEMA. A payment belongs to the trade that was open when it
    was due; where ``funding`` has a ``sequence`` (of the account's events, as the fills have) that decides what came first.
    ``pnl`` is signed proceeds - cost - all fees + funding, ``return_share`` is pnl / cost. Raises ValueError for fills that
    contradict each other (more closed than was open, an entry against an open position) and for a payment without a position.
    """
    trades: list[_Trade] = []
    latest: dict[str, _Trade] = {}
    payments = _Payments(funding)
    with localcontext(WIDE):
        for cells in fills.sort("sequence").select(_FILL_COLUMNS).iter_rows() if fills.height else ():
            fill = _Fill(*cells)
            trade = latest.get(fill.symbol)
            for at, amount in payments.before(fill):
                _pay(trade, fill.symbol, at, amount)
            if trade is None or trade.closed_at is not None:
                if fill.leg != "entry":
                    raise ValueError(f"{_deed(fill)}, 0 are {'short' if fill.buys else 'held'}")
                trade = latest[fill.symbol] = _Trade(fill.symbol, fill.buys, fill.at, fill.order, fill.reason)
                trades.append(trade)
            trade.take(fill)
        for symbol, at, amount in payments.rest():
            _pay(latest.get(symbol), symbol, at, amount)
        return pl.DataFrame([trade.row() for trade in trades], schema=dict(TRADE_SCHEMA))


def closed_trades(fills: pl.DataFrame, funding: pl.DataFrame | None = None) -> pl.DataFrame:
    """The trades of ``pair_trades`` that are over, in the order of their exits."""
    return pair_trades(fills, funding).filter(pl.col("closed_at").is_not_null()).sort("closed_at", maintain_order=True)
