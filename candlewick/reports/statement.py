"""How an account stands: its figures, its terms, and what happened last, from its rows in the ledger."""

import json
from datetime import datetime
from decimal import Decimal

import polars as pl

from candlewick.account import Account, Scalar
from candlewick.metrics import current_drawdown_share, max_drawdown, total_return
from candlewick.reports.cycle_data import (
    LAST_FILLS,
    ledger_fills,
    ledger_positions,
    order_rows,
    received_funding,
    reserved_margin,
)
from candlewick.reports.view import AccountView
from candlewick.results import FillRow, OrderRow, PositionRow, Record

LAST_REFUSALS = 10
LAST_RUNS = 5


class RunLine(Record):
    """One run of the account; ``flow_run_id`` is Prefect's."""

    run_id: str
    flow_run_id: str | None
    started_at: datetime
    status: str
    bars: int
    watermark_at: datetime | None
    code_version: str
    error: str | None
    notices: tuple[str, ...]


class AccountStatement(Record):
    """One account as `show` prints it. Shares are fractions of 1; lists are oldest first and end with the newest.

    ``margin`` is what of the cash positions on margin reserve, ``funding`` what perpetuals have received less paid, so far.
    ``rules`` and ``instruments`` as the ledger keeps them; ``report`` is the HTML report's path, None before there is one.
    """

    account: str
    market: str
    timeframe: str
    symbols: tuple[str, ...]
    quote: str
    anchor_at: datetime
    watermark_at: datetime | None
    initial_cash: Decimal
    equity: Decimal
    cash: Decimal
    margin: Decimal
    funding: Decimal
    return_share: Decimal
    drawdown_share: Decimal
    max_drawdown_share: Decimal
    strategy: str
    parameters: dict[str, Scalar | None]
    rules: dict[str, str | int | bool | None]
    instruments: tuple[dict[str, str | int], ...]
    positions: tuple[PositionRow, ...]
    waiting_orders: tuple[OrderRow, ...]
    last_fills: tuple[FillRow, ...]
    refused: int
    last_refusals: tuple[OrderRow, ...]
    runs: int
    last_runs: tuple[RunLine, ...]
    report: str | None


def build_statement(view: AccountView, account: Account, report: str | None) -> AccountStatement:
    """The statement of ``account`` from its rows; ``view`` needs no candles."""
    last = view.equity.sort("at").tail(1)
    refused = view.orders.filter(pl.col("status") == "refused")
    terms = account.current
    return AccountStatement(
        account=account.name,
        market=account.market,
        timeframe=account.timeframe,
        symbols=account.symbols,
        quote=account.quote,
        anchor_at=view.anchor_at,
        watermark_at=view.watermark_at,
        initial_cash=account.initial_cash,
        equity=last["equity"][0] if last.height else account.initial_cash,
        cash=last["cash"][0] if last.height else account.initial_cash,
        margin=reserved_margin(view.positions),
        funding=received_funding(view.funding),
        return_share=total_return(view.equity, account.initial_cash).value or Decimal(0),
        drawdown_share=current_drawdown_share(view.equity, account.initial_cash),
        max_drawdown_share=max_drawdown(view.equity, account.initial_cash).share,
        strategy=terms.strategy,
        parameters=dict(terms.parameters),
        rules=terms.rules.to_document(),
        instruments=tuple(instrument.to_document() for instrument in terms.instruments),
        positions=ledger_positions(view.positions, account.symbols),
        waiting_orders=order_rows(view.orders.filter(pl.col("status") == "open")),
        last_fills=ledger_fills(view.fills.sort("sequence").tail(LAST_FILLS)),
        refused=refused.height,
        last_refusals=order_rows(refused.sort("sequence").tail(LAST_REFUSALS)),
        runs=view.runs.height,
        last_runs=_run_lines(view.runs.sort("started_at", "run_id").tail(LAST_RUNS)),
        report=report,
    )


def _run_lines(runs: pl.DataFrame) -> tuple[RunLine, ...]:
    names = [name for name in RunLine.model_fields if name != "notices"]
    return tuple(
        RunLine(**{name: row[name] for name in names}, notices=tuple(json.loads(row["notices"])))
        for row in runs.iter_rows(named=True)
    )
