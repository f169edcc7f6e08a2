"""Figures against others: empyrical's on real candles, another engine's backtest, and freqtrade's known answers.

empyrical-reloaded is a development-only dependency; without it its tests are skipped, as are the others without the shared data.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick import metrics
from candlewick.figures import Figures, compute_figures
from candlewick.periods import drawdown_table, figures_from_frames, inputs_from_frames, monthly_returns
from candlewick.timeframes import DAY_MS
from candlewick.trades import closed_trades, pair_trades
from tests.account_views import frame_of
from tests.deals import deals
from tests.shared_data import SHARED, real_candles

ANSWERS = SHARED / "data" / "known_answers"
MARKETS = ["binance_BTCUSDT_1d", "binance_SOLUSDT_4h", "coinbase_BTCUSD_1h"]
TIMEFRAME_MS = {"1d": DAY_MS, "4h": DAY_MS // 6, "1h": DAY_MS // 24}


def answer(name: str) -> Path:
    if not (ANSWERS / name).is_file():
        pytest.skip(f"the known answers {name} are not beside this checkout")
    return ANSWERS / name


def held_equity(market: str) -> tuple[pl.DataFrame, Decimal, int]:
    """Real candles as the equity of one unit held from the first open on, the cash it took, and the bars' length in ms."""
    candles, length_ms = real_candles(market), TIMEFRAME_MS[market.rpartition("_")[2]]
    at = (pl.col("opened_at").cast(pl.Datetime("us", "UTC")) + timedelta(milliseconds=length_ms)).alias("at")
    price = pl.col("close").cast(pl.Decimal(38, 8)).cast(metrics.AMOUNT).alias("equity")
    equity = candles.select(at, price, pl.lit(1, pl.Int32).alias("open_positions"))
    return equity, Decimal(repr(candles["open"][0])), length_ms


@pytest.mark.parametrize("market", MARKETS)
def test_figures_of_real_candles_agree_with_empyrical(market: str) -> None:
    """empyrical counts years in periods and the first return from the first value on: fed with the days' returns that we use.

    Its annual return compounds by the number of returns, ours by the calendar from the first open to the last close; so its
    formula is fed with one return over the whole span and that span's share of a year. Calmar is the same quotient of the two.
    """
    empyrical = pytest.importorskip("empyrical", reason="empyrical-reloaded is not installed (requirements-dev.txt)")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (requirements-dev.txt)")
    equity, cash, length_ms = held_equity(market)
    inputs = inputs_from_frames(equity, deals(), pair_trades(deals()), cash, length_ms)
    found = compute_figures(inputs)
    daily = pandas.Series(inputs.day_equity, dtype=float).pct_change().dropna()
    bars = pandas.Series([float(cash), *equity["equity"].cast(pl.Float64)]).pct_change().dropna()
    years = inputs.span_ms / DAY_MS / 365
    total = pandas.Series([float(found["total_return"].value or 0)])
    yearly = empyrical.annual_return(total, annualization=1 / years)
    theirs = {
        "annualised_volatility": empyrical.annual_volatility(daily, annualization=365),
        "sharpe": empyrical.sharpe_ratio(daily, annualization=365),
        "sortino": empyrical.sortino_ratio(daily, annualization=365),
        "max_drawdown": -empyrical.max_drawdown(bars),
        "total_return": empyrical.cum_returns_final(bars),
        "annualised_return": yearly,
        "calmar": yearly / -empyrical.max_drawdown(bars),
    }
    for name, expected in theirs.items():
        assert float(found[name].value or 0) == pytest.approx(expected, rel=1e-9), name


def test_monthly_returns_of_real_candles_agree_with_empyrical() -> None:
    empyrical = pytest.importorskip("empyrical", reason="empyrical-reloaded is not installed (requirements-dev.txt)")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed (requirements-dev.txt)")
    equity, cash, length_ms = held_equity("binance_BTCUSDT_1d")
    values = [float(cash), *equity["equity"].cast(pl.Float64)]
    opened = pandas.DatetimeIndex([at - timedelta(milliseconds=length_ms) for at in equity["at"]])
    theirs = empyrical.aggregate_returns(pandas.Series(pandas.Series(values).pct_change().dropna().to_numpy(), opened), "monthly")
    ours = monthly_returns(equity, cash, length_ms)
    assert list(zip(ours["year"], ours["month"], strict=True)) == list(theirs.index)
    assert [float(share) for share in ours["return_share"]] == pytest.approx(list(theirs), rel=1e-9)


# ------------------------------------------------------------------------------------------------- backtesting.py


def sma_cross_fills() -> pl.DataFrame:
    """The 93 trades that backtesting.py 0.6.6 lists for SMA 10/20 on GOOG, and the 94th that was still open: 69 at 702.24."""
    listed = pl.read_csv(answer("backtesting.py-0.6.6_GOOG_SMA10-20_comm0.2pct_93trades.csv"), infer_schema=False)
    rows: list[dict[str, object]] = []

    def fill(bar: str, leg: str, size: Decimal, price: str) -> None:
        notional = abs(size) * Decimal(price)
        names: dict[str, object] = {
            "fill_id": f"f{len(rows)}",
            "client_order_id": f"o{len(rows)}",
            "symbol": "GOOG",
            "leg": leg,
            "reason": "",
        }
        facts: dict[str, object] = {
            "sequence": len(rows),
            "side": "buy" if size > 0 else "sell",
            "bar_opened_at": day(int(bar)),
            "phase": "open",
        }
        rows.append(names | facts | {"quantity": abs(size), "notional": notional, "fee": notional / 500})

    for trade in listed.iter_rows(named=True):
        size = Decimal(trade["Size"])
        fill(trade["EntryBar"], "entry", size, trade["EntryPrice"])
        fill(trade["ExitBar"], "exit", -size, trade["ExitPrice"])
    fill("2087", "entry", Decimal(69), "702.24")
    return frame_of("fills", rows)


def day(bar: int) -> datetime:
    """The bars of the exchange's calendar as consecutive days; the figures compared here do not depend on it."""
    return datetime(2004, 8, 19, tzinfo=UTC) + timedelta(days=bar)


def goog_equity(fills: pl.DataFrame) -> pl.DataFrame:
    """Equity at each close: cash after the fills so far, and the holding at the close."""
    prices = pl.read_csv(answer("backtesting.py_GOOG.csv"))["Close"].to_list()
    cash, held, rows = Decimal(10_000), Decimal(0), []
    by_bar = {at: own for (at,), own in fills.group_by("bar_opened_at", maintain_order=True)}
    for bar, close in enumerate(prices):
        for fill in by_bar[day(bar)].iter_rows(named=True) if day(bar) in by_bar else ():
            sign = 1 if fill["side"] == "buy" else -1
            cash, held = cash - sign * fill["notional"] - fill["fee"], held + sign * fill["quantity"]
        worth = cash + held * Decimal(repr(close))
        rows.append({"at": day(bar + 1), "equity": worth, "open_positions": int(held != 0)})
    return frame_of("equity", rows)


def test_a_long_and_short_reversing_backtest_has_the_figures_of_the_engine_that_ran_it() -> None:
    """backtesting.py 0.6.6 says: 93 trades, final equity 56,263.51934, return 462.635193 %, largest drawdown -33.931592 %,
    win rate 52.688172 %, and commissions of 10,563.95154 for the closed trades."""
    fills = sma_cross_fills()
    trades = pair_trades(fills)
    found = figures_from_frames(goog_equity(fills), fills, trades, Decimal(10_000), DAY_MS)
    assert found["final_equity"].value == Decimal("56263.51934")
    assert found["trades"].value == 93
    shares = {"total_return": "4.62635193", "max_drawdown": "0.33931592", "win_rate": "0.52688172"}
    for name, share in shares.items():
        assert abs((found[name].value or 0) - Decimal(share)) < Decimal("1e-8"), name
    assert trades.filter(pl.col("closed_at").is_not_null())["fees"].sum() == Decimal("10563.95154")


def test_every_trade_of_that_backtest_has_its_profit_and_return() -> None:
    listed = pl.read_csv(answer("backtesting.py-0.6.6_GOOG_SMA10-20_comm0.2pct_93trades.csv"))
    trades = closed_trades(sma_cross_fills())
    assert trades["side"].to_list() == ["long" if size > 0 else "short" for size in listed["Size"]]
    assert [float(pnl) for pnl in trades["pnl"]] == pytest.approx(listed["PnL"].to_list(), abs=1e-9)
    assert [float(share) for share in trades["return_share"]] == pytest.approx(listed["ReturnPct"].to_list(), rel=1e-9)


# ------------------------------------------------------------------------------------------------- freqtrade

SCALE = Decimal(10) ** 6
"""freqtrade's account holds 0.01 BTC; a million times that keeps its profits' digits on the grid. Shares do not change."""


def freqtrade_result() -> Mapping[str, list[dict[str, float]]]:
    text = answer("freqtrade_backtest_results_backtest-result.json").read_text(encoding="utf-8")
    return json.loads(text)["strategy"]["StrategyTestV3"]  # type: ignore[no-any-return]


def freqtrade_frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Its 179 trades as rows with a profit, and the balance after all trades that closed at one time."""
    rows = sorted(freqtrade_result()["trades"], key=lambda trade: trade["close_timestamp"])
    closed = [datetime.fromtimestamp(trade["close_timestamp"] / 1000, UTC) for trade in rows]
    pnl = [(Decimal(repr(trade["profit_abs"])) * SCALE).quantize(Decimal("1e-8")) for trade in rows]
    trades = pl.DataFrame({"closed_at": closed, "pnl": pnl}).with_columns(pl.col("pnl").cast(metrics.AMOUNT))
    profits = trades.group_by("closed_at", maintain_order=True).agg(pl.col("pnl").sum()).with_columns(pl.col("pnl").cum_sum())
    balance = (pl.col("pnl") + Decimal("0.01") * SCALE).cast(metrics.AMOUNT).alias("equity")
    return trades, profits.select(pl.col("closed_at").cast(pl.Datetime("us", "UTC")).alias("at"), balance)


def test_trade_figures_agree_with_freqtrade() -> None:
    trades, _ = freqtrade_frames()
    expected = freqtrade_result()
    assert float((metrics.expectancy(trades).value or 0) / SCALE) == pytest.approx(5.820687070932315e-06, rel=1e-9)
    assert float(metrics.profit_factor(trades).value or 0) == pytest.approx(expected["profit_factor"], rel=1e-9)
    assert metrics.win_rate(trades).value == metrics.divide(Decimal(170), Decimal(179))


def test_the_deepest_drawdown_agrees_with_freqtrade() -> None:
    """freqtrade knows the balance at the trades' ends only, and tells two relative figures of the same fall of 0.0002 BTC:
    0.018740 of the account at its peak, as we do, and 0.29753914 of the profit at its peak (a starting balance of 0). Of several
    trades that end at one time it may take a loss before a gain; both of us take them together here, as one bar's close does.
    """
    _, balance = freqtrade_frames()
    cash = Decimal("0.01") * SCALE
    row = drawdown_table(balance, cash, 300_000).row(0, named=True)
    assert float(row["share"]) == pytest.approx(freqtrade_result()["max_drawdown_account"], rel=1e-9)
    assert (row["started_at"], row["trough_at"]) == (
        datetime(2018, 1, 16, 19, 30, tzinfo=UTC),
        datetime(2018, 1, 16, 22, 25, tzinfo=UTC),
    )
    peak = balance.filter(pl.col("at") == row["started_at"])["equity"][0]
    assert float(row["share"] * peak / (peak - cash)) == pytest.approx(0.29753914, abs=1e-8)


@pytest.mark.parametrize(("first", "last", "days", "expected"), [(64_900, 176_000, 1_095, 0.3945), (1_000, 1_500, 100, 3.3927)])
def test_annual_growth_agrees_with_freqtrade(first: int, last: int, days: int, expected: float) -> None:
    """The rest of its annual figures is not compared: its Sharpe and Sortino divide the mean profit a day by the deviation of
    the profits of single trades, and its Calmar annualises without compounding; ours are of daily returns."""
    found = growth(first, last, days)
    assert float(found["annualised_return"].value or 0) == pytest.approx(expected, abs=5e-5)


def growth(first: int, last: int, days: int) -> Figures:
    """An account that stood still and moved on its last day."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    rows: list[dict[str, object]] = [
        {"at": start + timedelta(days=place + 1), "equity": Decimal(first), "open_positions": 0} for place in range(days - 1)
    ]
    equity = frame_of("equity", [*rows, {"at": start + timedelta(days=days), "equity": Decimal(last), "open_positions": 0}])
    return figures_from_frames(equity, deals(), pair_trades(deals()), Decimal(first), DAY_MS)
