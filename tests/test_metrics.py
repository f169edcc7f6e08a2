"""Metrics against arithmetic done by hand."""

from datetime import timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick import metrics
from candlewick.trades import closed_trades, pair_trades
from tests.account_views import empty_frame, frame_of
from tests.deals import START, deals


def curve(*values: int | str, hours: int = 24, opened: int = 0) -> pl.DataFrame:
    rows: list[dict[str, object]] = [
        {"at": START + timedelta(hours=hours * place), "equity": Decimal(value), "open_positions": int(place < opened)}
        for place, value in enumerate(values)
    ]
    return frame_of("equity", rows)


WIN = (("A/USDT", "buy", "entry", "2", "100", "0.2", 0), ("A/USDT", "sell", "target_2", "2", "110", "0.22", 4))
LOSS = (("B/USDT", "buy", "entry", "1", "50", "0.05", 1), ("B/USDT", "sell", "stop", "1", "45", "0.045", 2))


def test_total_return_is_the_gain_over_the_initial_cash() -> None:
    assert metrics.total_return(curve(1000, 1100), Decimal(1000)).value == Decimal("0.1")


def test_the_deepest_drawdown_knows_its_peak_trough_and_recovery() -> None:
    fall = metrics.max_drawdown(curve(1000, 1200, 1080, 900, 1100, 1200, 1150), Decimal(1000))
    assert fall == metrics.Drawdown(
        Decimal("0.25"), START + timedelta(days=1), START + timedelta(days=3), START + timedelta(days=5)
    )


def test_a_second_deeper_drawdown_is_not_recovered_by_the_first_ones_recovery() -> None:
    fall = metrics.max_drawdown(curve(1000, 900, 1000, 2000, 1000), Decimal(1000))
    assert fall == metrics.Drawdown(Decimal("0.5"), START + timedelta(days=3), START + timedelta(days=4), None)


def test_a_fall_from_the_start_counts_the_initial_cash_as_peak() -> None:
    fall = metrics.max_drawdown(curve(800, 900), Decimal(1000))
    assert fall == metrics.Drawdown(Decimal("0.2"), None, START, None)
    assert metrics.current_drawdown_share(curve(800, 900), Decimal(1000)) == Decimal("0.1")


def test_a_curve_that_only_rises_has_no_drawdown() -> None:
    assert metrics.max_drawdown(curve(1000, 1001), Decimal(1000)) == metrics.Drawdown(Decimal(0), None, None, None)


def test_exposure_is_the_share_of_bars_with_a_position() -> None:
    assert metrics.exposure(curve(1, 1, 1, 1, opened=3)).value == Decimal("0.75")


def test_a_trade_pays_proceeds_less_cost_less_both_fees() -> None:
    trade = closed_trades(deals(*WIN)).row(0, named=True)
    assert trade["pnl"] == Decimal("19.58")
    assert trade["return_share"] == Decimal("0.0979")
    assert trade["holding_time"] == timedelta(hours=4)
    assert (trade["entry_price"], trade["exit_price"], trade["fees"]) == (Decimal(100), Decimal(110), Decimal("0.42"))


def test_partial_exits_at_two_targets_are_one_trade_with_two_legs() -> None:
    fills = deals(
        ("A/USDT", "buy", "entry", "3", "100", "0.3", 0),
        ("A/USDT", "sell", "target_1", "1", "110", "0.11", 2),
        ("A/USDT", "sell", "target_2", "2", "125", "0.25", 9),
    )
    trades = closed_trades(fills)
    trade = trades.row(0, named=True)
    assert trades.height == 1
    assert trade["exit_legs"] == ["target_1", "target_2"]
    assert trade["exit_reasons"] == ["target_1 happened", "target_2 happened"]
    assert trade["exit_price"] == Decimal(120)
    assert trade["pnl"] == Decimal("59.34")
    assert trade["fill_ids"] == ["f0", "f1", "f2"]


def test_a_position_still_partly_held_is_an_open_trade_and_no_closed_one() -> None:
    fills = deals(("A/USDT", "buy", "entry", "2", "100", "0.2", 0), ("A/USDT", "sell", "target_1", "1", "110", "0.11", 2))
    assert closed_trades(fills).is_empty()
    trade = pair_trades(fills).row(0, named=True)
    assert (trade["open_quantity"], trade["closed_at"], trade["pnl"]) == (Decimal(1), None, None)


def test_fills_of_several_symbols_pair_within_their_symbol_and_in_the_order_of_exits() -> None:
    trades = closed_trades(deals(WIN[0], *LOSS, WIN[1]))
    assert trades["symbol"].to_list() == ["B/USDT", "A/USDT"]
    assert trades["pnl"].to_list() == [Decimal("-5.095"), Decimal("19.58")]


def test_selling_more_than_is_held_is_refused_as_an_error_in_the_fills() -> None:
    with pytest.raises(ValueError, match="sells 3"):
        closed_trades(deals(WIN[0], ("A/USDT", "sell", "exit", "3", "1", "0", 1)))


def test_trade_figures_of_one_win_and_one_loss() -> None:
    trades = closed_trades(deals(*WIN, *LOSS))
    assert metrics.win_rate(trades).value == Decimal("0.5")
    assert metrics.expectancy(trades).value == Decimal("7.2425")
    assert metrics.average_trade(trades).value == Decimal("-0.002")  # (9.79 % - 10.19 %) / 2
    factor = metrics.profit_factor(trades).value
    assert factor is not None
    assert factor.quantize(Decimal("0.0001")) == Decimal("3.8430")  # 19.58 / 5.095
    assert metrics.fees_paid(deals(*WIN, *LOSS)) == Decimal("0.515")


def test_a_profit_factor_without_a_loss_is_none_with_its_reason() -> None:
    assert metrics.profit_factor(closed_trades(deals(*WIN))) == metrics.Measure(None, "no losing trade")


def test_an_account_without_bars_or_trades_has_reasons_instead_of_figures() -> None:
    trades, equity, cash = closed_trades(empty_frame("fills")), empty_frame("equity"), Decimal(1000)
    measures = [
        metrics.win_rate(trades),
        metrics.profit_factor(trades),
        metrics.expectancy(trades),
        metrics.average_trade(trades),
    ]
    measures += [metrics.total_return(equity, cash), metrics.exposure(equity), metrics.annualised_return(equity, cash)]
    measures += [metrics.annualised_volatility(equity), metrics.sharpe_ratio(equity), metrics.held_return([])]
    assert all(measure.value is None and measure.reason for measure in measures)
    assert metrics.fees_paid(empty_frame("fills")) == 0


def test_no_annual_figure_below_thirty_days() -> None:
    short = curve(*[1000 + day for day in range(30)])  # 29 days between the first and the last
    assert metrics.annualised_return(short, Decimal(1000)) == metrics.Measure(None, "the span of 29 days is below 30")
    assert metrics.sharpe_ratio(short).value is None


def test_a_year_that_doubles_returns_one_hundred_percent() -> None:
    year = metrics.annualised_return(curve(1000, *[1500] * 364, 2000), Decimal(1000)).value
    assert year is not None
    assert abs(year - 1) < Decimal("1e-12")


def test_sharpe_and_volatility_of_alternating_days() -> None:
    """Returns alternate +10 % and 0 %: mean 5 %, sample deviation 5 % x sqrt(n / (n - 1)) with n = 40."""
    values = [Decimal(1000)]
    for day in range(40):
        values.append(values[-1] * (Decimal("1.1") if day % 2 == 0 else 1))
    equity = curve(*[str(value.quantize(Decimal("1e-15"))) for value in values])
    deviation = 0.05 * (40 / 39) ** 0.5
    volatility, sharpe = metrics.annualised_volatility(equity).value, metrics.sharpe_ratio(equity).value
    assert float(volatility or 0) == pytest.approx(deviation * 365**0.5, rel=1e-9)
    assert float(sharpe or 0) == pytest.approx(0.05 / deviation * 365**0.5, rel=1e-9)


def test_equity_that_never_moves_has_no_sharpe_ratio() -> None:
    assert metrics.sharpe_ratio(curve(*[1000] * 40)) == metrics.Measure(None, "equity did not move")


def test_a_bar_that_closes_at_midnight_belongs_to_the_day_before() -> None:
    daily = curve(*[1000] * 20, *[1100] * 20)
    hourly = pl.concat([daily, daily.with_columns(pl.col("at") - timedelta(hours=6))]).sort("at")
    assert metrics.annualised_volatility(hourly).value == metrics.annualised_volatility(daily).value


def test_holding_averages_the_symbols() -> None:
    rising, falling = pl.DataFrame({"open": [100.0], "close": [130.0]}), pl.DataFrame({"open": [10.0], "close": [9.0]})
    held = metrics.held_return([rising, falling]).value
    assert float(held or 0) == pytest.approx(0.1)


@settings(deadline=None)
@given(st.lists(st.decimals("0.01", "1e9", places=2), min_size=1, max_size=60))
def test_a_figure_is_a_finite_number_or_has_a_reason(values: list[Decimal]) -> None:
    equity = curve(*map(str, values))
    cash = Decimal(1000)
    measures = [metrics.total_return(equity, cash), metrics.annualised_return(equity, cash), metrics.sharpe_ratio(equity)]
    for measure in [*measures, metrics.annualised_volatility(equity)]:
        assert measure.reason if measure.value is None else measure.value.is_finite()
    fall = metrics.max_drawdown(equity, cash)
    assert 0 <= metrics.current_drawdown_share(equity, cash) <= fall.share <= 1
