"""What a cycle says at its end: the terminal at 80 columns, and the artifacts."""

import io
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest
from rich.console import Console

from candlewick.reports.cycle_data import build_cycle_data
from candlewick.reports.numbers import (
    format_money,
    format_price,
    format_quantity,
    format_rule_value,
    format_share,
    format_span,
    format_time,
)
from candlewick.reports.summary import fill_rows, position_rows, render_summary, summary_markdown
from candlewick.reports.view import AccountView
from candlewick.results import CycleData, CycleResult
from tests.account_views import AT_NOW, CASH, RUNS, new_view, planned_result, planned_view, walked_candles


@pytest.fixture(scope="module")
def view() -> AccountView:
    return planned_view(walked_candles())


def terminal(result: CycleResult, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    console.print(render_summary(result))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


def data_of(view: AccountView, run_id: str = RUNS[2]) -> CycleData:
    return build_cycle_data(
        view, watermark_before=None, bars=6, created=False, dry_run=False, notices=(), report=None, run_id=run_id
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("75780.100000000000000000", "75,780.10"),
        ("0.000012345000", "0.000012345"),
        ("83.055", "83.055"),
        ("100", "100.00"),
        ("74824.123456789", "74,824.123"),
        ("-0.001", "-0.001"),
        ("0", "0.00"),
        ("1234567890.5", "1,234,567,890.50"),
    ],
)
def test_prices_keep_the_decimals_they_have_and_at_least_two(value: str, text: str) -> None:
    assert format_price(Decimal(value)) == text


def test_amounts_quantities_shares_and_times_read_without_noise() -> None:
    assert format_money(Decimal("-0.001"), "USDT", sign=True) == "+0.00"
    assert format_money(Decimal("1234567.891"), "USDT") == "1,234,567.89"
    assert format_money(Decimal("0.5"), "BTC") == "0.500000"
    assert format_quantity(Decimal("1200.500000000000000000")) == "1,200.5"
    assert format_quantity(Decimal("0.123456789")) == "0.12345679"
    assert format_quantity(Decimal(100)) == "100"
    assert format_share(Decimal("-0.04567"), sign=True) == "-4.57%"
    assert format_rule_value("max_drawdown", Decimal("0.25"), "USDT") == "25.00%"
    assert format_rule_value("min_notional", Decimal(5), "USDT") == "5.00"
    assert format_span(timedelta(days=3, hours=4, minutes=5)) == "3d 4h"
    assert format_time(AT_NOW) == "2026-04-30 04:01:07"


def test_cycle_data_counts_only_the_rows_of_its_run(view: AccountView) -> None:
    counts = [data_of(view, run_id).counts for run_id in RUNS]
    assert sum(count["fills"] for count in counts) == view.fills.height
    assert sum(count["refused"] for count in counts) == view.orders.filter(pl.col("status") == "refused").height > 0
    assert len(data_of(view, RUNS[1]).orders) == view.orders.filter(pl.col("run_id") == RUNS[1]).height


def test_cycle_data_holds_the_ten_newest_fills_in_order(view: AccountView) -> None:
    fills = data_of(view).last_fills
    assert [fill.price for fill in fills] == view.fills.sort("sequence").tail(10)["price"].to_list()


def test_equity_cash_return_and_drawdown_are_those_of_the_last_bar(view: AccountView) -> None:
    data = data_of(view)
    assert (data.equity, data.cash) == (view.equity["equity"][-1], view.equity["cash"][-1])
    assert data.return_share == ((data.equity - CASH) / CASH).quantize(Decimal("1e-18"))
    assert data.drawdown_share.quantize(Decimal("1e-6")) == view.equity["drawdown_share"][-1].quantize(Decimal("1e-6"))


def test_unrealised_profit_counts_the_entry_fee(view: AccountView) -> None:
    row, position = view.positions.row(0, named=True), data_of(view).positions[0]
    assert position.unrealized_pnl == row["quantity"] * row["last_price"] - row["cost"]
    assert row["cost"] > row["quantity"] * row["entry_price"]


def test_an_account_without_bars_stands_at_its_initial_cash() -> None:
    data = data_of(new_view())
    assert (data.equity, data.return_share, data.positions, data.last_fills) == (CASH, 0, (), ())
    said = terminal(planned_result(new_view(), bars=0))
    assert "no bar has closed yet" in said


def test_the_first_cycle_says_that_the_account_was_opened(view: AccountView) -> None:
    said = terminal(planned_result(view, created=True, watermark_before=None, bars=540))
    assert "Account opened. This cycle processed 540 bars from the start to the watermark 2026-04-29 20:00 UTC" in said


def test_a_later_cycle_says_where_it_continues_and_how_the_account_stands(view: AccountView) -> None:
    said = terminal(planned_result(view))
    assert (
        "Continues at the watermark 2026-04-28 20:00 UTC. This cycle processed 6 bars; the watermark is now 2026-04-29 20:00 UTC."
        in said
    )
    for label in ("Equity", "Cash", "Return", "Drawdown", "Stop", "Target 1", "Target 2", "Last fills"):
        assert label in said
    assert "/home/trader/candlewick/data/reports/demo.html" in said
    assert "python -m flows.accounts show demo" in said
    assert view.fills.sort("sequence")["reason"][-1] in said


def test_a_cycle_without_new_bars_says_so(view: AccountView) -> None:
    assert "Nothing new since the watermark 2026-04-29 20:00 UTC" in terminal(planned_result(view, bars=0))


def test_a_cycle_beside_another_one_says_that_it_changed_nothing(view: AccountView) -> None:
    assert "This cycle changed nothing: another one of account demo is at work" in terminal(
        planned_result(view, bars=0, acted=False)
    )


def test_the_sample_market_leads_on_to_a_real_one(view: AccountView) -> None:
    assert "--market binance" in terminal(planned_result(view, market="sample"))
    assert "--market" not in terminal(planned_result(view))


def test_a_dry_run_shows_orders_and_that_none_was_written(view: AccountView) -> None:
    orders = data_of(view, RUNS[0]).orders[:2]
    said = terminal(planned_result(view, dry_run=True, orders=orders))
    assert said.startswith("DRY RUN, nothing is written")
    assert "would process 6 bars" in said
    assert "Orders it would place (none was written)" in said
    assert orders[0].reason in said
    assert "Dry run: nothing was written" in summary_markdown(planned_result(view, dry_run=True, orders=orders))


def test_a_refusal_names_rule_value_and_limit(view: AccountView) -> None:
    refused = next(row for row in data_of(view, RUNS[0]).orders if row.status == "refused")
    result = planned_result(view, orders=(refused,))
    text = f"refused by insufficient cash: 4,000.00, limit {format_money(refused.rule_limit, 'USDT')}"
    assert text in terminal(result)
    assert text in summary_markdown(result)


def test_a_partial_cycle_says_what_is_missing_and_what_comes_next(view: AccountView) -> None:
    said = terminal(planned_result(view, status="partial", error="SOL/USDT: no answer after 4 tries"))
    assert said.startswith("PARTIAL")
    assert "Incomplete: SOL/USDT: no answer after 4 tries" in said
    assert "catches up from the watermark" in said


def test_a_failure_before_the_account_was_known_says_what_and_what_next(view: AccountView) -> None:
    result = planned_result(view).model_copy(update={"status": "failure", "data": None, "error": "the ledger is truncated"})
    said = terminal(result)
    assert "FAILURE" in said
    assert "Failed: the ledger is truncated" in said
    assert "continues at the watermark" in said
    assert position_rows(result) == fill_rows(result) == []
    assert "the ledger is truncated" in summary_markdown(result)


def test_square_brackets_in_reasons_are_text_and_no_markup(view: AccountView) -> None:
    frame = view.fills.with_columns(pl.lit("[bold]close[/bold] [1, 2]").alias("reason"))
    assert "[bold]close[/bold] [1, 2]" in terminal(planned_result(replace(view, fills=frame)))


def test_artifact_rows_are_text_newest_fill_first(view: AccountView) -> None:
    result = planned_result(view)
    fills, positions = fill_rows(result), position_rows(result)
    assert fills[0]["reason"] == view.fills.sort("sequence")["reason"][-1]
    assert {"symbol", "stop", "target 1", "target 2"} <= set(positions[0])
    assert all(isinstance(cell, str) for row in fills + positions for cell in row.values())


def test_markdown_cells_cannot_break_the_table(view: AccountView) -> None:
    text = summary_markdown(planned_result(view, notices=("a | b <img src=x>\nnext",)))
    assert "- a \\| b &lt;img src=x> next" in text
