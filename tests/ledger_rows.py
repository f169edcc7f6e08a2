"""Whole, consistent cycles of rows for tests of the ledger: a trader who buys and sells in turn, with exact books."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl

from candlewick.engine.layout import CASH_DECIMALS
from candlewick.engine.state import open_state
from candlewick.instruments import Instrument
from candlewick.journal import opening_postings
from candlewick.rows import (
    ACCOUNT_ROW,
    CHECKPOINT_ROW,
    EVENT_ROW,
    FILL_ROW,
    ORDER_ROW,
    POSITION_ROW,
    POSTING_ROW,
    RUN_ROW,
    SIGNAL_ROW,
    TERMS_ROW,
    Value,
    frame,
)
from candlewick.rules import Rules
from candlewick.store.ledger import CycleWrite
from candlewick.store.tables import TABLES

HOUR_MS = 3_600_000
ANCHOR_MS = 1_767_225_600_000
FEE = Decimal("0.10000000")
NOW = datetime(2026, 7, 1, tzinfo=UTC)
Row = dict[str, Value]


@dataclass
class Trader:
    """Buys a symbol at one bar and sells it at the next; every other bar nothing. Keeps the books as the engine would."""

    account: str = "demo"
    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")
    cash: Decimal = Decimal(10_000)
    version: int = 0
    sequence: int = 0
    bar: int = 0
    held: dict[str, Decimal] = field(default_factory=dict)
    open_entries: dict[str, Row] = field(default_factory=dict)

    def cycle(self, bars: int, trades_per_bar: int = 1, run_id: str | None = None) -> CycleWrite:
        """The rows of the next ``bars`` bars in one commit."""
        self.rows: dict[str, list[Row]] = {name: [] for name in ("signals", "orders", "fills", "postings", "equity", "events")}
        first = self.version == 0
        before = None if first else self._watermark()
        initial_cash = self.cash
        for _ in range(bars):
            for number in range(trades_per_bar):
                self._trade(self.symbols[(self.bar + number) % len(self.symbols)])
            self._close_bar()
        self.version += 1
        run = run_id or f"{self.account}-run-{self.version}"
        opening = {"account_row": self._account_row(initial_cash), "terms": self._terms_row()} if first else {}
        postings = frame(self.rows["postings"], POSTING_ROW)
        if first:
            postings = pl.concat([opening_postings(self.account, "USDT", initial_cash, ANCHOR_MS), postings])
        return CycleWrite(
            account=self.account,
            expected_version=None if first else self.version - 1,
            run_id=run,
            recorded_at=NOW,
            checkpoint=self._checkpoint(),
            positions=frame([self._position(symbol) for symbol in sorted(self.held)], POSITION_ROW),
            runs=self._run_row(run, before, bars),
            signals=frame(self.rows["signals"], SIGNAL_ROW),
            orders=frame(self.rows["orders"], ORDER_ROW),
            fills=frame(self.rows["fills"], FILL_ROW),
            postings=postings,
            equity=frame(self.rows["equity"], TABLES["equity"].content),
            events=frame(self.rows["events"], EVENT_ROW),
            **opening,
        )

    def _watermark(self) -> int:
        return ANCHOR_MS + (self.bar - 1) * HOUR_MS

    def _trade(self, symbol: str) -> None:
        opened = ANCHOR_MS + self.bar * HOUR_MS
        leg = "exit" if symbol in self.held else "entry"
        signal = f"signal-{self.account}-{symbol}-{self.bar}"
        order_id = f"cw-{self.account}-{symbol}-{self.bar}-{leg}"
        common: Row = {"account": self.account, "symbol": symbol}
        action = "BUY" if leg == "entry" else "SELL"
        outcome = f"{leg}_ordered"
        times: Row = {"bar_opened_at": opened - HOUR_MS, "decided_at": opened}
        self.rows["signals"].append(
            {**common, **times, "signal_id": signal, "action": action, "outcome": outcome, "reason": "turn"}
        )
        price, quantity = Decimal(100 + self.bar % 7), Decimal("0.50000000")
        self.sequence += 1
        order: Row = {**common, "client_order_id": order_id, "signal_id": signal, "sequence": self.sequence, "leg": leg}
        order |= {"side": action.lower(), "kind": "market", "decided_at": opened, "quantity": quantity, "status": "filled"}
        self.rows["orders"].append({**order, "closed_at": opened, "reason": "filled at the next open"})
        self._event("order", symbol, opened)
        self.sequence += 1
        fill: Row = {**common, "fill_id": f"{order_id}.1", "client_order_id": order_id, "sequence": self.sequence, "leg": leg}
        fill |= {"side": action.lower(), "bar_opened_at": opened, "phase": "open", "reference_price": price, "price": price}
        notional = price * quantity
        fill |= {"quantity": quantity, "notional": notional, "fee": FEE, "reason": "next open"}
        self.rows["fills"].append(fill)
        self._event("fill", symbol, opened)
        self._post(f"{order_id}.1", symbol, quantity if leg == "entry" else -quantity, notional, opened)

    def _event(self, kind: str, symbol: str, at: int) -> None:
        self.rows["events"].append(
            {"account": self.account, "sequence": self.sequence, "at": at, "kind": kind, "symbol": symbol, "document": "{}"}
        )

    def _post(self, transaction: str, symbol: str, quantity: Decimal, notional: Decimal, at: int) -> None:
        paid = notional if quantity > 0 else -notional
        base = symbol.split("/")[0]
        legs = [("assets:position", base, quantity), ("market", base, -quantity), ("assets:cash", "USDT", -paid - FEE)]
        legs += [("market", "USDT", paid), ("expenses:fees", "USDT", FEE)]
        for number, (name, asset, amount) in enumerate(legs, 1):
            row: Row = {"posting_id": f"{transaction}-{number}", "account": self.account, "transaction_id": transaction}
            self.rows["postings"].append({**row, "ledger_account": name, "asset": asset, "amount": amount, "market_at": at})
        self.cash -= paid + FEE
        if quantity > 0:
            self.held[symbol] = quantity
        else:
            del self.held[symbol]

    def _close_bar(self) -> None:
        value = sum((quantity * 100 for quantity in self.held.values()), Decimal(0))
        row: Row = {"account": self.account, "at": ANCHOR_MS + (self.bar + 1) * HOUR_MS, "equity": self.cash + value}
        row |= {"cash": self.cash, "position_value": value, "drawdown_share": Decimal(0), "open_positions": len(self.held)}
        self.rows["equity"].append(row)
        self.bar += 1

    def _position(self, symbol: str) -> Row:
        hundred = Decimal(100)
        row: Row = {"account": self.account, "symbol": symbol, "quantity": self.held[symbol], "entry_price": hundred}
        return row | {"cost": self.held[symbol] * 100, "last_price": hundred, "opened_at": self._watermark()}

    def _account_row(self, cash: Decimal) -> pl.DataFrame:
        row: Row = {"account": self.account, "market": "sample", "timeframe": "1h", "symbols": json.dumps(self.symbols)}
        return frame([row | {"quote": "USDT", "initial_cash": cash, "anchor_at": ANCHOR_MS}], ACCOUNT_ROW)

    def _terms_row(self) -> pl.DataFrame:
        grid = Decimal("0.01")
        instruments = [Instrument(symbol, symbol.split("/")[0], "USDT", grid, grid).to_document() for symbol in self.symbols]
        row: Row = {"account": self.account, "version": 1, "effective_from": ANCHOR_MS, "strategy": "turn"}
        row |= {"parameters": '{"fast": 3}', "rules": json.dumps(Rules().to_document()), "instruments": json.dumps(instruments)}
        row["lifts_halt"] = False
        return frame([row], TERMS_ROW)

    def _run_row(self, run: str, before: int | None, bars: int) -> pl.DataFrame:
        row: Row = {"run_id": run, "account": self.account, "correlation_id": run, "status": "success", "started_at": ANCHOR_MS}
        row |= {"completed_at": ANCHOR_MS + self.version, "watermark_before": before, "bars": bars, "code_version": "test"}
        watermark = self._watermark() if self.bar else None
        return frame(
            [row | {"watermark_at": watermark, "candle_digests": "{}", "durations_s": "{}", "notices": "[]"}],
            RUN_ROW,
        )

    def _checkpoint(self) -> pl.DataFrame:
        state = open_state(self.cash, len(self.symbols)).to_document()
        row: Row = {"account": self.account, "version": self.version, "watermark_at": self._watermark() if self.bar else None}
        return frame([row | {"seen": "{}", "state": json.dumps(state), "candle_digests": '{"BTC/USDT": "abc"}'}], CHECKPOINT_ROW)


def altered(write: CycleWrite, table: str, column: str, value: Value, row: int = 0) -> CycleWrite:
    """The same cycle with one cell changed."""
    name = {"accounts": "account_row"}.get(table, table)
    rows: pl.DataFrame = getattr(write, name)
    kind = rows.schema[column]
    cell = pl.Series([value]).cast(kind)[0] if kind != pl.Decimal(38, 18) else value
    values = rows[column].to_list()
    values[row] = cell
    return replace(write, **{name: rows.with_columns(pl.Series(column, values, dtype=kind))})


assert CASH_DECIMALS == 8
