"""Accounts to report on: fills that a simple plan would have had on given candles, in the ledger's columns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import numpy as np
import polars as pl

from candlewick.candles import CANDLE_SCHEMA, candle_digest
from candlewick.reports.cycle_data import build_cycle_data
from candlewick.reports.view import AccountView
from candlewick.results import CycleMetadata, CycleResult

SHARED_CANDLES = Path(__file__).resolve().parents[2] / "shared" / "data" / "candles"
AMOUNT = pl.Decimal(38, 18)
TIME = pl.Datetime("us", "UTC")
TEXT = pl.String()
AT_NOW = datetime(2026, 4, 30, 4, 1, 7, tzinfo=UTC)
GENERATED_AT = datetime(2026, 4, 30, 4, 1, 30, tzinfo=UTC)
RUNS = ("run-0001", "run-0002", "run-0003")
CASH = Decimal(10_000)

SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "signals": {"signal_id": TEXT, "account": TEXT, "symbol": TEXT, "bar_opened_at": TIME, "decided_at": TIME, "action": TEXT}
    | dict.fromkeys(("entry", "stop_loss", "take_profit_1", "take_profit_2", "target_weight"), AMOUNT)
    | {"reason": TEXT, "outcome": TEXT, "run_id": TEXT},
    "orders": {"client_order_id": TEXT, "account": TEXT, "symbol": TEXT, "signal_id": TEXT, "sequence": pl.Int64(), "leg": TEXT}
    | {"side": TEXT, "kind": TEXT, "decided_at": TIME, "budget": AMOUNT, "quantity": AMOUNT, "price": AMOUNT, "status": TEXT}
    | {"closed_at": TIME, "rule": TEXT, "rule_limit": AMOUNT, "rule_value": AMOUNT, "reason": TEXT, "run_id": TEXT}
    | {"filled_quantity": AMOUNT, "fills": pl.Int32(), "expires_at": TIME},
    "fills": {"fill_id": TEXT, "account": TEXT, "symbol": TEXT, "client_order_id": TEXT, "sequence": pl.Int64(), "leg": TEXT}
    | {"side": TEXT, "bar_opened_at": TIME, "phase": TEXT}
    | dict.fromkeys(("reference_price", "price", "quantity", "notional", "fee", "realized_pnl"), AMOUNT)
    | {"reason": TEXT, "run_id": TEXT, "posted_at": TIME, "position_side": TEXT},
    "positions": {"account": TEXT, "symbol": TEXT}
    | dict.fromkeys(("quantity", "entry_price", "cost", "stop_loss", "take_profit_1", "take_profit_2", "last_price"), AMOUNT)
    | {"opened_at": TIME, "side": TEXT}
    | dict.fromkeys(("margin", "liquidation_price", "trailing_stop"), AMOUNT),
    "equity": {"account": TEXT, "at": TIME}
    | dict.fromkeys(("equity", "cash", "position_value", "drawdown_share"), AMOUNT)
    | {"open_positions": pl.Int32()},
    "runs": {"run_id": TEXT, "account": TEXT, "flow_run_id": TEXT, "correlation_id": TEXT, "status": TEXT, "error": TEXT}
    | {"started_at": TIME, "completed_at": TIME, "watermark_before": TIME, "watermark_at": TIME, "bars": pl.Int64()}
    | {"code_version": TEXT, "candle_digests": TEXT, "durations_s": TEXT, "notices": TEXT},
}


def empty_frame(table: str) -> pl.DataFrame:
    """A table of the ledger with no rows."""
    return pl.DataFrame(schema=SCHEMAS[table])


def frame_of(table: str, rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows of a ledger table; columns left out are null."""
    return pl.DataFrame([{column: row.get(column) for column in SCHEMAS[table]} for row in rows], schema=SCHEMAS[table])


def real_candles(bars: int = 540, timeframe: str = "4h") -> dict[str, pl.DataFrame]:
    """The last ``bars`` real candles of three markets; FileNotFoundError where the shared data is absent."""
    frames = {}
    for base in ("BTC", "ETH", "SOL"):
        frame = pl.read_parquet(SHARED_CANDLES / f"binance_{base}USDT_{timeframe}.parquet").tail(bars)
        frames[f"{base}/USDT"] = frame.rename({"ts": "opened_at"}).select(
            pl.col(name).cast(kind) for name, kind in CANDLE_SCHEMA.items()
        )
    return frames


def walked_candles(symbols: int = 3, bars: int = 540, step_h: int = 4) -> dict[str, pl.DataFrame]:
    """Seeded random walks quoted to the cent, with one gap of three bars in the first symbol."""
    frames = {}
    for number in range(symbols):
        random = np.random.default_rng(7 + number)
        closes = np.round(100 * (number + 1) * np.exp(np.cumsum(random.normal(0, 0.01, bars))), 2)
        opens = np.concatenate([[100.0 * (number + 1)], closes[:-1]])
        wicks = np.round(np.abs(random.normal(0, 0.004, (2, bars))) * closes, 2)
        start = datetime(2026, 1, 30, tzinfo=UTC)
        frame = pl.DataFrame(
            {
                "opened_at": [start + timedelta(hours=step_h * row) for row in range(bars)],
                "open": opens,
                "high": np.round(np.maximum(opens, closes) + wicks[0], 2),
                "low": np.round(np.minimum(opens, closes) - wicks[1], 2),
                "close": closes,
                "volume": random.uniform(10, 100, bars),
            },
            schema=dict(CANDLE_SCHEMA),
        )
        frames[f"S{number:02}/USDT"] = pl.concat([frame[:100], frame[103:]]) if number == 0 and bars > 103 else frame
    return frames


@dataclass
class _Held:
    quantity: Decimal
    full_quantity: Decimal
    price: Decimal
    cost: Decimal
    opened_at: datetime
    signal_id: str
    stop: Decimal
    targets: list[Decimal]
    sequences: dict[str, int] = field(default_factory=dict)


def _cents(value: Decimal | float) -> Decimal:
    return Decimal(str(value)).quantize(Decimal("0.01"))


class PlannedAccount:
    """Buys each symbol every 30 bars with 4,000 USDT while there are so many, stop 4 % below, targets 4 % and 8 % above."""

    def __init__(self, candles: Mapping[str, pl.DataFrame], timeframe: str) -> None:
        self.candles, self.timeframe = candles, timeframe
        self.cash, self.held, self.sequence = CASH, dict[str, _Held](), 0
        self.rows: dict[str, list[dict[str, object]]] = {table: [] for table in SCHEMAS}
        self.last: dict[str, Decimal] = {}
        self.hours = {"1h": 1, "4h": 4}[timeframe]
        self.bars = {symbol: {row[0]: row for row in frame.iter_rows()} for symbol, frame in candles.items()}
        self.times = sorted({at for rows in self.bars.values() for at in rows})

    def run_id(self, at: datetime) -> str:
        place = self.times.index(at)
        return RUNS[0] if place < len(self.times) - 12 else RUNS[1] if place < len(self.times) - 6 else RUNS[2]

    def order(self, at: datetime, symbol: str, signal_id: str, leg: str, **cells: object) -> str:
        self.sequence += 1
        ident = f"demo-{symbol.replace('/', '')}-{at:%Y%m%dT%H%M}-{leg}"
        side, kind = ("buy", "market") if leg == "entry" else ("sell", "stop" if leg == "stop" else "limit")
        base = {"client_order_id": ident, "account": "demo", "symbol": symbol, "signal_id": signal_id, "sequence": self.sequence}
        row = base | {"leg": leg, "side": side, "kind": kind, "decided_at": at, "run_id": self.run_id(at)} | cells
        self.rows["orders"].append(row)
        return ident

    def fill(self, at: datetime, symbol: str, leg: str, price: Decimal, quantity: Decimal, reason: str) -> None:
        self.sequence += 1
        notional, side = price * quantity, "buy" if leg == "entry" else "sell"
        fee = (notional * Decimal("0.001")).quantize(Decimal("1E-8"))
        held = self.held[symbol]
        realized = None
        if side == "buy":
            self.cash -= notional + fee
            held.cost += notional + fee
        else:
            self.cash += notional - fee
            share = (held.cost * quantity / held.quantity).quantize(Decimal("1E-8"))
            realized, held.cost, held.quantity = notional - fee - share, held.cost - share, held.quantity - quantity
        order = f"demo-{symbol.replace('/', '')}-{held.opened_at:%Y%m%dT%H%M}-{leg}"
        ids = {
            "fill_id": f"{order}-fill",
            "account": "demo",
            "symbol": symbol,
            "client_order_id": order,
            "sequence": self.sequence,
        }
        amounts = {"reference_price": price, "price": price, "quantity": quantity, "notional": notional, "fee": fee}
        facts = {"phase": "open" if side == "buy" else "intrabar", "realized_pnl": realized, "reason": reason}
        stamps = {"bar_opened_at": at, "run_id": self.run_id(at), "posted_at": AT_NOW}
        self.rows["fills"].append(ids | {"leg": leg, "side": side} | amounts | facts | stamps)
        for row in self.rows["orders"]:
            if row["client_order_id"] == order:
                row |= {"status": "filled", "closed_at": at}

    def enter(self, at: datetime, symbol: str, bar: tuple[object, ...]) -> None:
        price = _cents(float(str(bar[1])) * 1.0002)
        signal_id = f"signal-{symbol}-{at:%Y%m%dT%H%M}"
        stop, targets = _cents(price * Decimal("0.96")), [_cents(price * Decimal("1.04")), _cents(price * Decimal("1.08"))]
        reason = f"close {bar[4]} in the golden zone {stop} to {price} & confirmed"
        signal = {"signal_id": signal_id, "account": "demo", "symbol": symbol, "bar_opened_at": at - timedelta(hours=self.hours)}
        legs = {"stop_loss": stop, "take_profit_1": targets[0], "take_profit_2": targets[1], "entry": price}
        outcome = {"outcome": "refused" if self.cash < 4000 else "entry_ordered", "run_id": self.run_id(at)}
        self.rows["signals"].append(signal | {"decided_at": at, "action": "BUY", "reason": reason} | legs | outcome)
        budget = _cents(CASH * Decimal("0.4"))
        if self.cash < 4000:
            facts = {"rule": "insufficient_cash", "rule_limit": self.cash, "rule_value": budget}
            self.order(at, symbol, signal_id, "entry", status="refused", budget=budget, closed_at=at, reason=reason, **facts)
            return
        quantity = (budget / price / Decimal("1.001")).quantize(Decimal("0.0001"), ROUND_DOWN)
        self.held[symbol] = _Held(quantity, quantity, price, Decimal(0), at, signal_id, stop, targets)
        self.order(at, symbol, signal_id, "entry", status="pending", budget=budget, reason=reason)
        self.fill(at, symbol, "entry", price, quantity, f"market order at the open: {reason}")
        for leg, level in (("stop", stop), ("target_1", targets[0]), ("target_2", targets[1])):
            self.order(at, symbol, signal_id, leg, status="open", price=level, quantity=quantity, reason=f"{leg} of the entry")

    def protect(self, at: datetime, symbol: str, high: Decimal, low: Decimal) -> None:
        held = self.held[symbol]
        half = (held.full_quantity / 2).quantize(Decimal("0.0001"), ROUND_DOWN)
        if low <= held.stop:
            self.fill(at, symbol, "stop", held.stop, held.quantity, f"low {low} reached the stop {held.stop}")
        elif held.quantity == held.full_quantity and high >= held.targets[0]:
            self.fill(at, symbol, "target_1", held.targets[0], half, f"high {high} reached the first target {held.targets[0]}")
            held.stop = held.price
            for row in self.rows["orders"]:
                if row["signal_id"] == held.signal_id and row["leg"] == "stop":
                    row["price"] = held.price
        elif held.quantity < held.full_quantity and high >= held.targets[1]:
            self.fill(at, symbol, "target_2", held.targets[1], held.quantity, f"high {high} reached the second target")
        if not held.quantity:
            for row in self.rows["orders"]:
                if row["signal_id"] == held.signal_id and row["status"] == "open":
                    row |= {"status": "cancelled", "closed_at": at}
            del self.held[symbol]

    def advance(self) -> None:
        peak = CASH
        for place, at in enumerate(self.times):
            for number, symbol in enumerate(self.candles):
                bar = self.bars[symbol].get(at)
                if bar is None:
                    continue
                if symbol not in self.held and (place % 30 == 5 + 3 * (number % 9) or place == len(self.times) - 8 + number % 2):
                    self.enter(at, symbol, bar)
                if symbol in self.held:
                    self.protect(at, symbol, _cents(bar[2]), _cents(bar[3]))
                self.last[symbol] = _cents(bar[4])
            value = sum((held.quantity * self.last[symbol] for symbol, held in self.held.items()), Decimal(0))
            equity = self.cash + value
            peak = max(peak, equity)
            row = {"account": "demo", "at": at + timedelta(hours=self.hours), "equity": equity, "cash": self.cash}
            share = ((peak - equity) / peak).quantize(Decimal("1E-8"))
            self.rows["equity"].append(row | {"position_value": value, "drawdown_share": share, "open_positions": len(self.held)})

    def run_rows(self) -> None:
        digests = json.dumps({symbol: candle_digest(frame) for symbol, frame in self.candles.items()})
        marks = [None, self.times[-13], self.times[-7], self.times[-1]]
        for number, run_id in enumerate(RUNS):
            started = AT_NOW - timedelta(hours=self.hours * (6 * (2 - number)))
            partial = number == 1
            ids = {"run_id": run_id, "account": "demo", "flow_run_id": f"0196-{number}", "correlation_id": f"c-{number}"}
            state = {
                "status": "partial" if partial else "success",
                "error": "SOL/USDT: no answer after 4 tries" if partial else None,
            }
            times = {"started_at": started, "completed_at": started + timedelta(seconds=3)}
            marked = {
                "watermark_before": marks[number],
                "watermark_at": marks[number + 1],
                "bars": 6 if number else len(self.times) - 12,
            }
            rest = {"code_version": "0.1.0+g1a2b3c4", "candle_digests": digests, "durations_s": "{}", "notices": "[]"}
            self.rows["runs"].append(ids | state | times | marked | rest)

    def position_rows(self) -> None:
        for symbol, held in self.held.items():
            prices = {"stop_loss": held.stop, "take_profit_1": held.targets[0], "take_profit_2": held.targets[1]}
            base = {"account": "demo", "symbol": symbol, "quantity": held.quantity, "entry_price": held.price, "cost": held.cost}
            self.rows["positions"].append(base | prices | {"last_price": self.last[symbol], "opened_at": held.opened_at})


def planned_view(candles: Mapping[str, pl.DataFrame], timeframe: str = "4h") -> AccountView:
    """The plan's account over the candles, as the store would answer it."""
    account = PlannedAccount(candles, timeframe)
    account.advance()
    account.run_rows()
    account.position_rows()
    return AccountView(
        account="demo",
        market="binance",
        timeframe=timeframe,
        symbols=tuple(candles),
        quote="USDT",
        initial_cash=CASH,
        anchor_at=account.times[0],
        watermark_at=account.times[-1],
        strategy="fibonacci_golden_zone",
        parameters={"lookback_bars": 50, "zone_high": 0.5, "zone_low": 0.618, "stop_ratio": 0.786, "confirm": True},
        **{table: frame_of(table, rows) for table, rows in account.rows.items()},
        candles=candles,
    )


def new_view() -> AccountView:
    """An account that was opened and has not seen a bar."""
    frames = {table: empty_frame(table) for table in SCHEMAS}
    opened = datetime(2026, 1, 30, tzinfo=UTC)
    return AccountView(
        account="demo",
        market="sample",
        timeframe="4h",
        symbols=("BTC/USDT",),
        quote="USDT",
        initial_cash=CASH,
        anchor_at=opened,
        watermark_at=None,
        strategy="buy_and_hold",
        parameters={},
        **frames,
        candles={},
    )


def planned_result(view: AccountView, **changes: object) -> CycleResult:
    """The result of the view's last run; ``changes`` go to its data, ``status`` and ``error`` to the result."""
    status, error = changes.pop("status", "success"), changes.pop("error", None)
    before = view.runs["watermark_before"][-1] if view.runs.height else None
    data = build_cycle_data(
        view,
        watermark_before=before,
        bars=6,
        created=False,
        dry_run=False,
        notices=(),
        report="/home/trader/candlewick/data/reports/demo.html",
        run_id=RUNS[2],
    ).model_copy(update=changes)
    metadata = CycleMetadata(
        run_id=RUNS[2],
        flow_run_id=None,
        correlation_id="c-2",
        started_at=AT_NOW,
        completed_at=AT_NOW + timedelta(seconds=3),
        durations_s={"fetch": 1.25},
        code_version="0.1.0+g1a2b3c4",
        candle_digests={},
        clock_skew_ms=0,
    )
    return CycleResult.model_validate({"status": status, "data": data, "error": error, "metadata": metadata})
