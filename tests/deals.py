"""Fills, funding payments and equity curves in the ledger's columns, written by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

from candlewick.trades import PAYMENT_SCHEMA
from tests.account_views import frame_of

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR_MS = 3_600_000
Deal = tuple[str, str, str, str, str, str, int]


def deals(*rows: Deal, phase: str = "open", realized: Sequence[str | None] = ()) -> pl.DataFrame:
    """Fills as (symbol, side, leg, quantity, price, fee, hour); ``phase`` and ``realized`` are of the legs other than entry."""
    cells: list[dict[str, object]] = []
    results = iter(realized)
    for place, (symbol, side, leg, quantity, price, fee, hour) in enumerate(rows):
        row = {"fill_id": f"f{place}", "client_order_id": f"o{place}", "symbol": symbol, "side": side, "leg": leg}
        amounts = {"quantity": Decimal(quantity), "price": Decimal(price), "notional": Decimal(quantity) * Decimal(price)}
        facts = {"sequence": place, "bar_opened_at": START + timedelta(hours=hour), "reason": f"{leg} happened"}
        known = next(results, None) if leg != "entry" else None
        inside = phase if leg != "entry" else "open"
        cells.append(row | amounts | facts | {"fee": Decimal(fee), "phase": inside, "realized_pnl": known and Decimal(known)})
    return frame_of("fills", cells)


def payments(*rows: tuple[str, str, float]) -> pl.DataFrame:
    """Funding as (symbol, amount, hour)."""
    cells = [(symbol, START + timedelta(hours=hour), Decimal(amount)) for symbol, amount, hour in rows]
    return pl.DataFrame(cells, schema=dict(PAYMENT_SCHEMA), orient="row")


def closes(*values: int | str, hours: int = 24, opened: int = 0) -> pl.DataFrame:
    """An equity curve whose first bar opens at START; the first ``opened`` bars close with a position."""
    rows: list[dict[str, object]] = [
        {"at": START + timedelta(hours=hours * (place + 1)), "equity": Decimal(value), "open_positions": int(place < opened)}
        for place, value in enumerate(values)
    ]
    return frame_of("equity", rows)
