"""From an account's rows to what a cycle answers: the figures, the orders of this run, the last fills."""

from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.metrics import current_drawdown_share, divide, max_drawdown, total_return
from candlewick.reports.view import AccountView
from candlewick.results import CycleData, FillRow, OrderRow, PositionRow

LAST_FILLS = 10
LONG = "long"
_ORDER_COLUMNS = list(OrderRow.model_fields)


def _of_run(frame: pl.DataFrame, run_id: str) -> pl.DataFrame:
    return frame.filter(pl.col("run_id") == run_id)


def order_rows(orders: pl.DataFrame) -> tuple[OrderRow, ...]:
    """Ledger rows as result rows, in the ledger's sequence."""
    rows = orders.sort("sequence").select(_ORDER_COLUMNS).iter_rows(named=True)
    return tuple(OrderRow(**{**row, "reason": row["reason"] or ""}) for row in rows)


def ledger_fills(fills: pl.DataFrame) -> tuple[FillRow, ...]:
    """Ledger rows as result rows, newest last; ``at`` is the open time of the bar that filled it."""
    columns = ["symbol", "side", "leg", "quantity", "price", "fee", "realized_pnl", "reason"]
    held = pl.col("position_side").fill_null(LONG)
    rows = fills.sort("sequence").select(pl.col("bar_opened_at").alias("at"), *columns, held).iter_rows(named=True)
    return tuple(FillRow(**row) for row in rows)


def ledger_positions(positions: pl.DataFrame, symbols: tuple[str, ...]) -> tuple[PositionRow, ...]:
    """Open positions in the account's order of symbols.

    The ledger's ``cost`` is what a long's open quantity cost and what a short's brought, the entry's fees included.
    """
    order = {symbol: number for number, symbol in enumerate(symbols)}
    same = ["symbol", "quantity", "entry_price", "last_price", "stop_loss", "take_profit_1", "take_profit_2", "opened_at"]
    rows = []
    for row in positions.filter(pl.col("quantity") != 0).iter_rows(named=True):
        worth, cost, side = row["quantity"] * row["last_price"], row["cost"], row["side"] or LONG
        gain = worth - cost if side == LONG else cost - worth
        staked = cost if row["margin"] is None else row["margin"]
        rows.append(
            PositionRow(
                **{name: row[name] for name in same},
                unrealized_pnl=gain,
                side=side,
                return_share=divide(gain, staked) if staked else None,
                trailing=row["trailing_stop"] is not None,
                margin=row["margin"],
                liquidation_price=row["liquidation_price"],
            )
        )
    return tuple(sorted(rows, key=lambda row: order.get(row.symbol, len(order))))


def reserved_margin(positions: pl.DataFrame) -> Decimal:
    """What of the cash the open positions on margin reserve."""
    return sum(positions["margin"].drop_nulls(), Decimal(0))


def received_funding(funding: pl.DataFrame) -> Decimal:
    """Funding received less paid."""
    return sum(funding["amount"], Decimal(0))


def _counts(view: AccountView, run_id: str) -> dict[str, int]:
    orders = _of_run(view.orders, run_id)
    status = orders["status"].str.to_lowercase() if orders.height else pl.Series("status", [], dtype=pl.String)
    return {
        "signals": _of_run(view.signals, run_id).height,
        "orders": orders.height,
        "fills": _of_run(view.fills, run_id).height,
        "refused": int((status == "refused").sum()),
        "cancelled": int((status == "cancelled").sum()),
    }


def build_cycle_data(
    view: AccountView,
    *,
    watermark_before: datetime | None,
    bars: int,
    created: bool,
    dry_run: bool,
    notices: tuple[str, ...],
    report: str | None,
    run_id: str,
    acted: bool = True,
) -> CycleData:
    """What this run did and how the account stands after it.

    ``orders`` and ``counts`` hold the rows that carry ``run_id``, ``last_fills`` the account's ten newest of any run.
    ``acted`` is False when another cycle of the account was at work and this one changed nothing.
    """
    last = view.equity.sort("at").tail(1)
    return CycleData(
        account=view.account,
        market=view.market,
        timeframe=view.timeframe,
        symbols=view.symbols,
        strategy=view.strategy,
        quote=view.quote,
        acted=acted,
        created=created,
        dry_run=dry_run,
        watermark_before=watermark_before,
        watermark_at=view.watermark_at,
        bars=bars,
        initial_cash=view.initial_cash,
        equity=last["equity"][0] if last.height else view.initial_cash,
        cash=last["cash"][0] if last.height else view.initial_cash,
        margin=reserved_margin(view.positions),
        funding=received_funding(view.funding),
        return_share=total_return(view.equity, view.initial_cash).value or Decimal(0),
        drawdown_share=current_drawdown_share(view.equity, view.initial_cash),
        max_drawdown_share=max_drawdown(view.equity, view.initial_cash).share,
        counts=_counts(view, run_id),
        orders=order_rows(_of_run(view.orders, run_id)),
        last_fills=ledger_fills(view.fills.sort("sequence").tail(LAST_FILLS)),
        positions=ledger_positions(view.positions, view.symbols),
        notices=notices,
        report=report,
    )
