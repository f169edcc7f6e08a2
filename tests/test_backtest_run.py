"""One backtest from its options to the store: what it computes, keeps, says, and refuses before it begins."""

import asyncio
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick.backtest_request import BacktestOptions, read_backtest
from candlewick.backtesting.playing import play
from candlewick.backtesting.simulation import backtest
from candlewick.errors import (
    CandlewickError,
    InvalidCandles,
    SettingsError,
    StrategyPeeks,
    UnknownStrategy,
    UnknownSymbol,
    UsageError,
)
from candlewick.figures import FIGURES
from candlewick.market.sample import SampleMarket
from candlewick.periods import figures_from_frames
from candlewick.timeframes import parse_utc
from tests.kept_backtests import folder, inputs_of, kept, options, store_of
from tests.shared_data import SHARED, real_candles

__all__ = ["folder"]
HOUR_MS = 3_600_000


def write_candles(directory: Path, name: str, rows: list[tuple[int, float, float, float, float, float]]) -> None:
    directory.mkdir(exist_ok=True)
    columns = ["ts", "open", "high", "low", "close", "volume"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(directory / f"{name}.csv")


def wavy(start: str, bars: int) -> list[tuple[int, float, float, float, float, float]]:
    """Hourly candles that rise and fall, so that averages cross."""
    begin = parse_utc(start)
    closes = [100.0 + 10 * ((bar // 7) % 2) + bar % 7 for bar in range(bars)]
    return [(begin + bar * HOUR_MS, close, close + 1, close - 1, close, 5.0) for bar, close in enumerate(closes)]


# -- what a run computes and keeps


def test_a_run_is_kept_with_its_inputs_figures_trades_fills_equity_and_report(folder: Path) -> None:
    done = kept(options())
    store = store_of(folder)
    run = store.find(done.run.run_id)
    assert run.status == "success"
    assert set(run.figures) == set(FIGURES)
    assert set(run.candle_digests) == {"BTC/USDT", "ETH/USDT"}
    assert run.check_verdict == "passed"
    assert run.parameters["fast"] == 10
    assert store.trades(run.run_id).height == int(run.figures["trades"].value or 0) > 5
    assert store.fills(run.run_id).height >= 2 * store.trades(run.run_id).height
    assert store.equity(run.run_id)["equity"][-1] == run.figures["final_equity"].value
    assert run.report is not None
    assert Path(run.report).read_text(encoding="utf-8").count("sma_cross on BTC/USDT, ETH/USDT")


def test_the_kept_rows_give_the_kept_figures(folder: Path) -> None:
    run = store_of(folder).find(kept(options()).run.run_id)
    store = store_of(folder)
    rows = store.equity(run.run_id), store.fills(run.run_id), store.trades(run.run_id)
    benchmark = run.figures["benchmark_return"].value
    again = figures_from_frames(*rows, run.initial_cash, 4 * HOUR_MS, None if benchmark is None else float(benchmark))
    assert dict(again) == run.figures


def test_a_second_equal_run_works_and_says_which_was_first(folder: Path) -> None:
    first, second = kept(options()), kept(options())
    assert any(first.run.run_id in notice and "same figures" in notice for notice in second.run.notices)
    assert not any("in the store already" in notice for notice in first.run.notices)
    assert store_of(folder).trades(first.run.run_id).equals(store_of(folder).trades(second.run.run_id))


@pytest.mark.parametrize("change", [{"parameters": {"fast": 9}}, {"rules": {"slippage_bps": "3"}}, {"until": "2026-06-02"}])
def test_a_run_with_anything_else_is_another_run(folder: Path, change: dict[str, object]) -> None:
    kept(options())
    other = kept(options(**change))  # type: ignore[arg-type]
    assert not any("in the store already" in notice for notice in other.run.notices)


def test_a_run_is_the_backtest_of_the_library(folder: Path) -> None:
    done, inputs = kept(options()), inputs_of(options())
    strategy = read_backtest(options()).strategy()
    assert dict(backtest(inputs.terms, strategy, inputs.candles, beside=inputs.beside).figures()) == done.run.figures


def test_decisions_without_a_frame_give_the_same_fills_as_those_with_reasons(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, strategy = inputs_of(options()), read_backtest(options()).strategy()
    reasoned = play(inputs, strategy)
    monkeypatch.setattr("candlewick.backtesting.playing.REASONED_BARS", 0)
    quick = play(inputs, strategy)
    assert quick.journal.fills.equals(reasoned.journal.fills)
    assert quick.equity.equals(reasoned.equity)
    assert quick.trades.drop("entry_reason").equals(reasoned.trades.drop("entry_reason"))
    assert all("crossed above" in reason for reason in reasoned.trades["entry_reason"].to_list())


def test_a_trade_says_why_the_strategy_entered_and_how_that_filled(folder: Path) -> None:
    trades = store_of(folder).trades(kept(options()).run.run_id)
    assert all("SMA(10)" in text and "filled at the next open" in text for text in trades["entry_reason"].to_list())


def test_perpetuals_are_traded_on_both_sides_with_their_funding(folder: Path) -> None:
    asked = options(symbols=("BTC/USDT:USDT", "ETH/USDT:USDT"), rules={"direction": "both", "max_drawdown_share": "none"})
    done = kept(asked)
    assert set(store_of(folder).trades(done.run.run_id)["side"].to_list()) == {"long", "short"}
    assert done.run.figures["funding"].value != 0
    assert set(done.run.funding_digests) == {"BTC/USDT:USDT", "ETH/USDT:USDT"}
    assert store_of(folder).find(done.run.run_id).rules.direction == "both"


def test_detail_bars_decide_inside_a_bar_and_are_among_the_inputs(folder: Path) -> None:
    stops: dict[str, str | int | float | bool] = {"fast": 2, "slow": 5, "stop_loss_bps": 40, "take_profit_1_bps": 40}
    asked = {"symbols": ("BTC/USDT",), "parameters": stops, "since": "2026-05-01"}
    coarse = kept(options(**asked))  # type: ignore[arg-type]
    fine = kept(options(**asked, detail="1m"))  # type: ignore[arg-type]
    assert set(fine.run.candle_digests) == {"BTC/USDT", "BTC/USDT 1m"}
    assert fine.run.detail_timeframe == "1m"
    assert fine.run.figures["final_equity"] != coarse.run.figures["final_equity"]


def test_a_halt_that_stopped_the_strategy_is_said(folder: Path) -> None:
    done = kept(options(rules={"max_drawdown_share": "0.02"}))
    assert any("the drawdown halt" in notice and "max_drawdown_share" in notice for notice in done.run.notices)


def test_real_candles_of_a_folder_are_all_played_where_no_span_is_asked_for(folder: Path) -> None:
    frame, directory = real_candles("binance_ETHUSDT_1h"), SHARED / "data" / "candles"
    asked = options(market=f"files:{directory}#binance", symbols=("ETH/USDT",), timeframe="1h", since=None, until=None)
    done = kept(asked)
    assert done.run.bars == frame.height
    assert any("gap" in notice for notice in done.run.notices)


def test_what_repeats_a_run_gives_the_same_run(folder: Path) -> None:
    done = kept(options(symbols=("BTC/USDT:USDT",), rules={"direction": "both"}, parameters={"fast": 5}))
    assert done.view is not None
    words = done.view.command.split()
    assert words[:4] == ["python", "-m", "flows.backtesting", "run"]
    given = dict(zip(words[4::2], words[5::2], strict=True))
    again = BacktestOptions(
        market=given["--market"], symbols=(given["--symbols"],), timeframe=given["--timeframe"], strategy=given["--strategy"],
        parameters=dict([given["--param"].split("=")]), rules=dict([given["--rule"].split("=")]), since=given["--since"],
        until=given["--until"], cash=Decimal(given["--cash"]),
    )  # fmt: skip
    assert any(done.run.run_id in notice for notice in kept(again).run.notices)


# -- what is refused, before anything is written


REFUSED: list[tuple[dict[str, object], type[CandlewickError], str]] = [
    ({"strategy": "sma_crow"}, UnknownStrategy, "did you mean sma_cross"),
    ({"parameters": {"fast": "1000000"}}, UnknownStrategy, "fast is '1000000'"),
    ({"parameters": {"fats": 3}}, UnknownStrategy, "fats"),
    ({"rules": {"direction": "both"}}, UsageError, "cannot be sold short"),
    ({"rules": {"leverage": "x"}}, SettingsError, "rules.leverage"),
    ({"rules": {"leverge": 1}}, SettingsError, "did you mean rules.leverage"),
    ({"since": "2026-06-01", "until": "2026-03-01"}, UsageError, "there is no bar between them"),
    ({"since": "2026-05-30", "until": "2026-06-01"}, UsageError, "too few for a strategy"),
    ({"since": "2126-05-30", "until": None}, UsageError, "there is no bar of 4h"),
    ({"detail": "7m"}, UsageError, "7m"),
    ({"detail": "1d"}, UsageError, "not finer"),
    ({"timeframe": "5x"}, SettingsError, "paper.timeframe"),
    ({"symbols": ("BTC/USDT", "ETH/EUR")}, SettingsError, "quote currency"),
    ({"cash": Decimal(-3)}, SettingsError, "paper.cash"),
    ({"market": "files:nowhere"}, UsageError, "not a folder"),
]


@pytest.mark.parametrize(("asked", "error", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_a_senseless_request_is_refused_before_anything_is_kept(
    folder: Path, asked: dict[str, object], error: type[CandlewickError], words: str
) -> None:
    with pytest.raises(error, match=words):
        kept(options(**asked))  # type: ignore[arg-type]
    assert not (folder / "ledger.duckdb").exists()


def test_symbols_without_a_common_span_are_named_with_where_they_end_and_begin(folder: Path) -> None:
    files = folder / "files"
    write_candles(files, "made_AAAUSDT_1h", wavy("2026-01-01", 60))
    write_candles(files, "made_BBBUSDT_1h", wavy("2026-02-01", 60))
    asked = options(market=f"files:{files}", symbols=("AAA/USDT", "BBB/USDT"), timeframe="1h", since=None, until=None)
    with pytest.raises(UsageError, match=r"no common span.*AAA/USDT ends at 2026-01-03 11:00 UTC, before BBB/USDT begins"):
        kept(asked)


def test_a_symbol_without_candles_in_the_span_is_named(folder: Path) -> None:
    files = folder / "files"
    write_candles(files, "made_AAAUSDT_1h", wavy("2026-01-01", 60))
    with pytest.raises(UsageError, match=r"no candle of AAA/USDT from 2026-03-01"):
        kept(options(market=f"files:{files}", symbols=("AAA/USDT",), timeframe="1h"))


def test_a_backtest_ends_where_its_first_symbol_ends_and_says_so(folder: Path) -> None:
    files = folder / "files"
    write_candles(files, "made_AAAUSDT_1h", wavy("2026-01-01", 120))
    write_candles(files, "made_BBBUSDT_1h", wavy("2026-01-01", 100))
    asked = options(market=f"files:{files}", symbols=("AAA/USDT", "BBB/USDT"), timeframe="1h", since=None, until=None)
    done = kept(asked)
    assert done.run.bars == 100
    assert any("where the candles of BBB/USDT end" in notice for notice in done.run.notices)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((0, float("nan"), 101.0, 99.0, 100.0, 5.0), "open"),
        ((0, 100.0, 101.0, -3.0, 100.0, 5.0), "low"),
        ((0, 100.0, 99.0, 99.5, 100.0, 5.0), "high"),
    ],
    ids=["NaN", "negative", "high below low"],
)
def test_candles_that_cannot_be_are_refused_by_bar(
    folder: Path, row: tuple[int, float, float, float, float, float], words: str
) -> None:
    files, rows = folder / "files", wavy("2026-01-01", 120)
    rows[50] = (rows[50][0], *row[1:])
    write_candles(files, "made_AAAUSDT_1h", rows)
    with pytest.raises(InvalidCandles, match=words):
        kept(options(market=f"files:{files}", symbols=("AAA/USDT",), timeframe="1h", since=None, until=None))
    assert not (folder / "ledger.duckdb").exists()


def test_candles_out_of_order_are_sorted_and_give_the_same_run(folder: Path) -> None:
    rows = wavy("2026-01-01", 120)
    for name, given in (("sorted", rows), ("mixed", rows[60:] + rows[:60])):
        write_candles(folder / name, "made_AAAUSDT_1h", given)
    asked = {"symbols": ("AAA/USDT",), "timeframe": "1h", "since": None, "until": None}
    ran = [kept(options(market=f"files:{folder / name}", **asked)) for name in ("sorted", "mixed")]  # type: ignore[arg-type]
    assert ran[0].run.figures == ran[1].run.figures
    assert ran[0].run.candle_digests == ran[1].run.candle_digests


def test_a_symbol_that_the_folder_does_not_have_is_unknown(folder: Path) -> None:
    write_candles(folder / "files", "made_AAAUSDT_1h", wavy("2026-01-01", 60))
    with pytest.raises(UnknownSymbol):
        kept(options(market=f"files:{folder / 'files'}", symbols=("CCC/USDT",), timeframe="1h"))


# -- the look-ahead gate


def test_a_strategy_that_peeks_is_refused_and_its_failure_is_kept(folder: Path) -> None:
    asked = options(strategy="tests.peeking:Shifted", symbols=("BTC/USDT",))
    for _ in range(2):
        with pytest.raises(StrategyPeeks, match="--allow-peeking"):
            kept(asked)
    assert store_of(folder).list_runs() == ()


def test_a_strategy_that_peeks_runs_where_that_is_allowed_and_the_report_says_so(folder: Path) -> None:
    done = kept(options(strategy="tests.peeking:Shifted", symbols=("BTC/USDT",), allow_peeking=True))
    assert done.run.check_verdict == "failed"
    assert any("failed its look-ahead check" in notice for notice in done.run.notices)
    assert done.view is not None
    assert done.view.check_passed is False


def test_a_history_too_short_to_check_is_said_to_be_unchecked(folder: Path) -> None:
    done = kept(options(symbols=("BTC/USDT",), parameters={"fast": 3, "slow": 8}, since="2026-05-29", until="2026-06-01"))
    assert done.run.check_verdict is None
    assert done.view is not None
    assert done.view.check.startswith("not done")


# -- the lake


def test_a_later_span_than_the_lake_has_is_fetched_without_a_hole(folder: Path) -> None:
    kept(options(since="2026-03-01", until="2026-04-01"))
    apart = kept(options(since="2026-05-01", until="2026-06-01"))
    alone = kept(options(since="2026-01-01", until="2026-02-01"))
    whole = inputs_of(options(since="2026-01-01", until="2026-06-01"))
    market = SampleMarket(parse_utc("2026-06-01"))
    assert apart.run.bars
    assert alone.run.bars
    for symbol in ("BTC/USDT", "ETH/USDT"):
        page = asyncio.run(market.fetch(symbol, "4h", parse_utc("2026-01-01"), parse_utc("2026-06-01")))
        assert whole.candles[symbol]["opened_at"].to_list() == page.candles["opened_at"].to_list()
