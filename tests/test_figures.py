"""Figures against arithmetic done by hand, and the fold's sums against the ledger's frames."""

import pickle
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from statistics import mean, stdev

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick import metrics
from candlewick.figures import FIGURES, FigureInputs, Figures, compute_figures
from candlewick.metrics import Measure
from candlewick.periods import figures_from_frames, inputs_from_frames
from candlewick.timeframes import DAY_MS
from candlewick.trades import pair_trades
from tests.deals import HOUR_MS, START, closes, deals, payments

UNIT = 10**8


def inputs(*days: int, **changes: object) -> FigureInputs:
    """A run that ended each day with so many units of quote currency, from 1,000 on, without a trade; and what differs."""
    values = np.array(days, dtype=np.int64) * UNIT
    plain = {"initial_cash": 1000 * UNIT, "final_equity": int(values[-1]) if days else 1000 * UNIT, "day_equity": values}
    plain |= {"span_ms": len(days) * DAY_MS, "bars": len(days), "return_sum": 0.0}
    counts = ("bars_exposed", "drawdown_peak", "drawdown_trough", "longest_drawdown_ms", "trades", "wins", "gains", "losses")
    plain |= dict.fromkeys((*counts, "fees", "funding", "turnover"), 0)
    return FigureInputs(**(plain | changes))  # type: ignore[arg-type]


def number(measure: Measure) -> float:
    assert measure.value is not None, measure.reason
    return float(measure.value)


def test_amounts_and_shares_are_exact() -> None:
    found = compute_figures(
        inputs(
            *[1000, 1100],
            bars_exposed=1,
            drawdown_peak=1200 * UNIT,
            drawdown_trough=900 * UNIT,
            longest_drawdown_ms=36 * HOUR_MS,
            fees=123_456_789,
            funding=-5,
        )
    )
    assert found["final_equity"].value == 1100
    assert found["total_return"].value == Decimal("0.1")
    assert found["max_drawdown"].value == Decimal("0.25")
    assert found["max_drawdown_days"].value == Decimal("1.5")
    assert found["exposure"].value == Decimal("0.5")
    assert found["fees"].value == Decimal("1.23456789")
    assert found["funding"].value == Decimal("-0.00000005")


def test_trade_figures_of_three_trades() -> None:
    """Gains of 30 and 6, a loss of 12; returns of 10 %, 2 % and -6 %."""
    found = compute_figures(inputs(1024, trades=3, wins=2, gains=36 * UNIT, losses=12 * UNIT, return_sum=0.06))
    assert found["trades"].value == 3
    assert found["win_rate"].value == Decimal("0.666666666666666667")
    assert found["profit_factor"].value == 3
    assert found["expectancy"].value == 8
    assert number(found["average_trade"]) == pytest.approx(0.02)


def test_turnover_is_traded_notional_over_mean_equity_and_counted_per_year() -> None:
    found = compute_figures(inputs(*[900, 1100] * 36, 1000, turnover=3_000 * UNIT))
    assert number(found["turnover"]) == pytest.approx(3)
    assert number(found["annualised_turnover"]) == pytest.approx(15)  # 73 days are a fifth of a year


def test_a_year_that_doubles_returns_one_hundred_percent_and_calmar_divides_it_by_the_drawdown() -> None:
    year = inputs(*[1500] * 364, 2000, drawdown_peak=1600 * UNIT, drawdown_trough=1200 * UNIT)
    found = compute_figures(year)
    assert number(found["annualised_return"]) == pytest.approx(1, rel=1e-12)
    assert number(found["calmar"]) == pytest.approx(4, rel=1e-12)


def test_volatility_sharpe_and_sortino_of_daily_returns() -> None:
    days = [1000, 1100, 1045, 1045, 1254] * 8
    returns = [later / earlier - 1 for earlier, later in pairwise(days)]
    found = compute_figures(inputs(*days))
    downside = (sum(min(one, 0) ** 2 for one in returns) / len(returns)) ** 0.5
    assert number(found["annualised_volatility"]) == pytest.approx(stdev(returns) * 365**0.5, rel=1e-12)
    assert number(found["sharpe"]) == pytest.approx(mean(returns) / stdev(returns) * 365**0.5, rel=1e-12)
    assert number(found["sortino"]) == pytest.approx(mean(returns) / downside * 365**0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("run", "name", "reason"),
    [
        (inputs(), "total_return", "no bar was processed yet"),
        (inputs(), "max_drawdown", "no bar was processed yet"),
        (inputs(), "sharpe", "no bar was processed yet"),
        (inputs(1000), "benchmark_return", "there are no candles"),
        (inputs(1000), "win_rate", "no trade was closed yet"),
        (inputs(1001, trades=1, wins=1, gains=UNIT), "profit_factor", "no losing trade"),
        (inputs(*[1000] * 29), "annualised_return", "the span of 29 days is below 30"),
        (inputs(*[1000] * 29), "annualised_turnover", "the span of 29 days is below 30"),
        (inputs(*[1000] * 40), "sharpe", "equity did not move"),
        (inputs(*[1000] * 40), "calmar", "equity was never below an earlier peak"),
        (inputs(*range(1000, 1040)), "sortino", "no day lost"),
        (inputs(*[1] * 34, day_equity=2 ** np.arange(20, 54)), "sharpe", "every day returned the same"),
        (inputs(*[1000] * 40, -5), "annualised_return", "equity fell to zero"),
        (inputs(*[1000] * 40, drawdown_peak=UNIT, drawdown_trough=0), "sharpe", "equity fell to zero"),
        (inputs(-5, turnover=UNIT), "turnover", "equity was not above zero on average"),
        (inputs(1000, 1001, span_ms=90 * DAY_MS), "annualised_volatility", "there are fewer than two daily returns"),
        (inputs(*[1000] * 40, initial_cash=0), "total_return", "the account started without cash"),
    ],
)
def test_an_undefined_figure_is_none_with_its_reason(run: FigureInputs, name: str, reason: str) -> None:
    assert compute_figures(run)[name] == Measure(None, reason)


def test_the_figures_are_those_of_the_table_in_its_order_and_survive_a_trip_to_another_process() -> None:
    found = compute_figures(inputs(1000, benchmark_return=0.25))
    assert list(found) == list(FIGURES)
    assert found["benchmark_return"].value == Decimal("0.25")
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(TypeError):
        found["sharpe"] = Measure(None)  # type: ignore[index]


def test_a_figure_that_was_not_computed_is_no_figure() -> None:
    with pytest.raises(KeyError):
        Figures({"sharpe": Measure(None)})


AMOUNTS = st.integers(-(10**14), 10**15)


@settings(deadline=None)
@given(st.lists(AMOUNTS, max_size=50), AMOUNTS, st.integers(0, 50), st.floats(-1e6, 1e6), st.integers(0, 10**18))
def test_a_figure_is_a_finite_number_or_has_a_reason(
    days: list[int], cash: int, trades: int, return_sum: float, gains: int
) -> None:
    values = np.array(days, dtype=np.int64)
    run = inputs(
        *days,
        initial_cash=cash,
        day_equity=values,
        final_equity=days[-1] if days else cash,
        drawdown_peak=max(0, *days, 0),
        drawdown_trough=min([0, *days]),
        **{"trades": trades, "wins": trades // 2, "gains": gains, "losses": gains // 3, "return_sum": return_sum},
    )
    for measure in compute_figures(run).values():
        assert measure.reason if measure.value is None else measure.value.is_finite()


# ------------------------------------------------------------------------------------------------- the fold and the frames

X = "X/USDT:USDT"


def test_figures_of_a_ledgers_frames_by_hand() -> None:
    """Six bars of 12 hours: a long that loses 12 and a short that gains 31, with fees of 3 and 0.5 of funding received."""
    equity = closes(1000, "998.5", 987, 1010, 1020, "1016.5", hours=12).with_columns(
        pl.Series("open_positions", [1, 1, 0, 1, 1, 0], pl.Int32)
    )
    fills = deals(
        (X, "buy", "entry", "10", "10", "1", 0),
        (X, "sell", "stop", "10", "8.9", "0", 24),
        (X, "sell", "entry", "10", "9", "1", 36),
        (X, "buy", "exit", "10", "5.85", "1", 60),
    )
    trades = pair_trades(fills, payments((X, "0.5", 48)))
    found = figures_from_frames(equity, fills, trades, Decimal(1000), 12 * HOUR_MS, benchmark_return=0.01)
    assert trades["pnl"].to_list() == [Decimal(-12), Decimal(30)]
    assert found["total_return"].value == Decimal("0.0165")
    assert found["max_drawdown"].value == Decimal("0.013")
    assert found["max_drawdown_days"].value == Decimal("1.5")  # from the first close, at 1000, to the fourth
    assert found["exposure"].value == Decimal("0.666666666666666667")
    assert found["expectancy"].value == 9
    assert found["profit_factor"].value == Decimal("2.5")
    assert number(found["average_trade"]) == pytest.approx((-0.12 + 30 / 90) / 2)
    assert (found["fees"].value, found["funding"].value) == (Decimal(3), Decimal("0.5"))
    # 100 + 89 + 90 + 58.5 traded; the days end at 998.5, 1010 and 1016.5
    assert number(found["turnover"]) == pytest.approx(337.5 * 3 / 3025)


def test_frames_of_an_account_that_has_not_begun_have_reasons_instead_of_figures() -> None:
    found = figures_from_frames(closes(), deals(), pair_trades(deals()), Decimal(1000), HOUR_MS)
    assert found["final_equity"].value == 1000
    assert found["total_return"] == Measure(None, "no bar was processed yet")


def test_an_amount_finer_than_the_accounts_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"equity 1000.0000000010* is finer than the account's grid of 8 decimals"):
        inputs_from_frames(closes("1000.000000001"), deals(), pair_trades(deals()), Decimal(1000), DAY_MS)


def fold(values: list[int], initial: int, step_ms: int, opened_ms: int) -> tuple[Fraction, int, list[int]]:
    """What an engine keeps, bar by bar: the deepest drawdown, the longest one, and each day's last equity."""
    peak, peak_at, before = initial, opened_ms, initial
    deepest, longest, days = Fraction(0), 0, dict[int, int]()
    for place, value in enumerate(values):
        opened_at = opened_ms + place * step_ms
        closed_at = opened_at + step_ms
        days[opened_at // DAY_MS] = value
        if value < peak or before < peak:
            longest = max(longest, closed_at - peak_at)
        if value >= peak:
            peak, peak_at = value, closed_at
        deepest, before = max(deepest, Fraction(peak - value, peak)), value
    return deepest, longest, list(days.values())


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=120),
    st.integers(1, 40),
    st.sampled_from([HOUR_MS, 7 * HOUR_MS, DAY_MS, 7 * DAY_MS]),
)
def test_frames_give_what_a_fold_bar_by_bar_keeps(values: list[int], initial: int, step_ms: int) -> None:
    """Small numbers make equal peaks, equal drawdowns and full recoveries common."""
    equity = closes(*values, hours=step_ms // HOUR_MS)
    deepest, longest, days = fold([value * UNIT for value in values], initial * UNIT, step_ms, round(START.timestamp() * 1000))
    found = inputs_from_frames(equity, deals(), pair_trades(deals()), Decimal(initial), step_ms)
    assert Fraction(found.drawdown_peak - found.drawdown_trough, found.drawdown_peak or 1) == deepest
    assert found.longest_drawdown_ms == longest
    assert found.day_equity.tolist() == days
    assert found.span_ms == len(values) * step_ms


@settings(deadline=None)
@given(st.lists(st.decimals("0.01", "1e6", places=8), min_size=1, max_size=90))
def test_the_figures_are_those_of_the_metrics_where_both_have_them(values: list[Decimal]) -> None:
    equity, cash = closes(*map(str, values), opened=len(values) // 2), Decimal(1000)
    found = figures_from_frames(equity, deals(), pair_trades(deals()), cash, DAY_MS)
    assert found["total_return"] == metrics.total_return(equity, cash)
    assert found["max_drawdown"].value == metrics.max_drawdown(equity, cash).share
    assert found["exposure"] == metrics.exposure(equity)
    if len(values) > 30:  # the metrics count their span from the first close on
        for name, known in (("sharpe", metrics.sharpe_ratio), ("annualised_volatility", metrics.annualised_volatility)):
            expected = known(equity)
            assert (found[name].value is None) == (expected.value is None)
            if expected.value is not None:
                assert number(found[name]) == pytest.approx(number(expected), rel=1e-6, abs=1e-9)


def test_a_gap_in_the_bars_is_no_day() -> None:
    late = closes(1000, 1100).with_columns(
        pl.Series("at", [START + timedelta(days=1), START + timedelta(days=9)], pl.Datetime("us", "UTC"))
    )
    found = inputs_from_frames(late, deals(), pair_trades(deals()), Decimal(1000), DAY_MS)
    assert found.day_equity.tolist() == [1000 * UNIT, 1100 * UNIT]
    assert found.span_ms == 9 * DAY_MS
