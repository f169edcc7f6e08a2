"""Months, symbols, drawdowns and holding against arithmetic done by hand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick import metrics
from candlewick.candles import CANDLE_SCHEMA
from candlewick.periods import amount_units, benchmark_curve, drawdown_table, month_table, monthly_returns, symbol_table
from candlewick.timeframes import DAY_MS
from candlewick.trades import pair_trades
from tests.deals import HOUR_MS, START, closes, deals, payments

CASH = Decimal(1000)
A, B = "A/USDT", "B/USDT"


def candles(*prices: tuple[float, float], opened: int = 0) -> pl.DataFrame:
    """Daily candles as (open, close), the first opens ``opened`` days after START."""
    rows = [
        (START + timedelta(days=opened + day), first, max(first, last), min(first, last), last, 1.0)
        for day, (first, last) in enumerate(prices)
    ]
    return pl.DataFrame(rows, schema=dict(CANDLE_SCHEMA), orient="row")


def test_a_month_returns_what_its_last_close_gained_over_the_last_one_before() -> None:
    equity = closes(*[1000] * 30, 1100, *[1000] * 27, 990, 1089)  # 31 days of January, 28 of February, a day of March
    months = monthly_returns(equity, CASH, DAY_MS)
    assert months.rows() == [(2026, 1, Decimal("0.1")), (2026, 2, Decimal("-0.1")), (2026, 3, Decimal("0.1"))]


def test_a_bar_that_closes_at_midnight_belongs_to_the_month_it_opened_in() -> None:
    """January has 31 days; its last bar closes in February's first instant."""
    assert monthly_returns(closes(*[1000] * 31), CASH, DAY_MS).rows() == [(2026, 1, Decimal(0))]


def test_the_month_table_has_a_row_a_year_nulls_where_there_is_no_data_and_compounded_totals() -> None:
    shares = {(2024, 11): "0.1", (2024, 12): "-0.5", (2026, 2): "0.2"}
    months = pl.DataFrame(
        [(year, month, Decimal(share)) for (year, month), share in shares.items()],
        schema={"year": pl.Int32, "month": pl.Int8, "return_share": pl.Decimal(38, 18)},
        orient="row",
    )
    first, last = month_table(months).rows(named=True)
    assert (first["year"], first["nov"], first["dec"], first["jan"]) == (2024, Decimal("0.1"), Decimal("-0.5"), None)
    assert (first["total"], last["total"]) == (Decimal("-0.45"), Decimal("0.2"))
    assert (last["year"], last["feb"]) == (2026, Decimal("0.2"))


def test_a_month_after_equity_was_gone_has_no_return() -> None:
    months = monthly_returns(closes(*[1000] * 30, 0, 5), CASH, DAY_MS)
    assert months["return_share"].to_list() == [Decimal(-1), None]
    assert month_table(months)["total"].to_list() == [None]


def test_an_empty_curve_has_no_months_and_no_drawdowns() -> None:
    assert month_table(monthly_returns(closes(), CASH, DAY_MS)).is_empty()
    assert drawdown_table(closes(), CASH, DAY_MS).is_empty()


def test_the_symbol_table_counts_every_symbol_in_the_accounts_order() -> None:
    fills = deals(
        (A, "buy", "entry", "1", "100", "1", 0),
        (A, "sell", "exit", "1", "121", "1", 1),  # 19
        (A, "buy", "entry", "1", "100", "1", 2),
        (A, "sell", "exit", "1", "92", "1", 3),  # -10
        (B, "sell", "entry", "2", "50", "0.5", 1),
    )
    trades = pair_trades(fills, payments((B, "0.25", 8)))
    table = symbol_table(trades, (B, A, "C/USDT"), {A: Decimal("0.5")}).rows(named=True)
    assert [row["symbol"] for row in table] == [B, A, "C/USDT"]
    short, both, none = table
    assert (short["trades"], short["fees"], short["funding"], short["pnl"]) == (0, Decimal("0.5"), Decimal("0.25"), 0)
    assert (both["trades"], both["pnl"], both["win_rate"], both["profit_factor"]) == (2, 9, Decimal("0.5"), Decimal("1.9"))
    assert (both["fees"], both["exposure"], short["exposure"]) == (4, Decimal("0.5"), None)
    assert (none["trades"], none["win_rate"], none["profit_factor"]) == (0, None, None)


def test_the_drawdown_table_lists_the_deepest_with_start_trough_recovery_and_days() -> None:
    equity = closes(900, 1000, 1200, 1140, 1200, 600, 900, 1200, 1180)
    table = drawdown_table(equity, CASH, DAY_MS, count=3)
    day = START + timedelta(days=1)  # the first close
    spans = [(timedelta(days=4), timedelta(days=5), timedelta(days=7)), (-timedelta(days=1), timedelta(0), timedelta(days=1))]
    spans.append((timedelta(days=2), timedelta(days=3), timedelta(days=4)))
    assert table["share"].to_list() == [Decimal("0.5"), Decimal("0.1"), Decimal("0.05")]
    assert table.select("started_at", "trough_at", "recovered_at").rows() == [
        (day + start, day + trough, day + recovery) for start, trough, recovery in spans
    ]
    assert table["fall_days"].to_list() == [1, 1, 1]
    assert table["days"].to_list() == [3, 2, 2]


def test_a_drawdown_that_has_not_recovered_runs_to_the_last_close() -> None:
    row = drawdown_table(closes(1000, 900, 950), CASH, DAY_MS).row(0, named=True)
    assert (row["recovered_at"], row["fall_days"], row["days"]) == (None, 1, 2)


def test_of_two_drawdowns_that_floats_cannot_tell_apart_the_deeper_one_comes_first() -> None:
    big = 90_000_000_000  # 3e-9 of a unit of 1e-8 apart in their shares
    equity = closes(str(big), f"{big // 2}.00000001", str(big), f"{big // 2}", str(big), f"{big // 2}.00000002", str(big))
    table = drawdown_table(equity, CASH, DAY_MS, count=2)
    assert table["trough_at"].to_list() == [START + timedelta(days=4), START + timedelta(days=2)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=80), st.integers(1, 30))
def test_the_first_of_the_drawdowns_is_the_maximum_drawdown(values: list[int], initial: int) -> None:
    equity, cash = closes(*values), Decimal(initial)
    table, known = drawdown_table(equity, cash, DAY_MS), metrics.max_drawdown(equity, cash)
    if known.trough_at is None:
        assert table.is_empty()
        return
    first = table.row(0, named=True)
    assert first["share"] == known.share
    assert (first["trough_at"], first["recovered_at"]) == (known.trough_at, known.recovered_at)
    assert first["started_at"] == (known.started_at or START)
    assert table["share"].to_list() == sorted(table["share"].to_list(), reverse=True)


def test_holding_starts_with_the_cash_in_equal_shares_and_ends_where_the_symbols_do() -> None:
    held = {A: candles((100, 110), (110, 120), (120, 130)), B: candles((10, 8), (8, 9), opened=1)}
    curve = benchmark_curve(held, closes(1, 1, 1)["at"], DAY_MS, CASH)
    # B's half lies in cash until it opens on the second day.
    assert curve.to_list() == [Decimal(1050), Decimal(1000), Decimal(1100)]
    assert float(curve[-1] / CASH - 1) == pytest.approx(float(metrics.held_return(held.values()).value or 0))


def test_holding_is_sampled_at_the_curves_times_and_stands_still_in_a_gap() -> None:
    held = {A: candles((100, 110), (110, 120))}
    at = closes(*[1] * 8, hours=12)["at"]
    values = [float(value) for value in benchmark_curve(held, at, DAY_MS, CASH)]
    assert values == [1000, 1100, 1100, 1200, 1200, 1200, 1200, 1200]


def test_nothing_to_hold_has_no_curve() -> None:
    assert benchmark_curve({A: candles()}, closes(1, 1)["at"], DAY_MS, CASH).to_list() == [None, None]


def test_amounts_become_the_engines_units_exactly() -> None:
    amounts = pl.Series("fee", [Decimal("-0.00000001"), Decimal("90000000000.12345678")], dtype=pl.Decimal(38, 18))
    assert amount_units(amounts).tolist() == [-1, 9_000_000_000_012_345_678]
    with pytest.raises(ValueError, match=r"fee 0\.0000000010* is finer"):
        amount_units(pl.Series("fee", [Decimal("0.000000001")], dtype=pl.Decimal(38, 18)))


def test_a_weeks_bar_counts_in_the_month_it_opens_in() -> None:
    equity = pl.DataFrame({"at": [datetime(2026, 2, 2, tzinfo=UTC)], "equity": [Decimal(1100)]})
    assert monthly_returns(equity, CASH, 7 * 24 * HOUR_MS).rows() == [(2026, 1, Decimal("0.1"))]
