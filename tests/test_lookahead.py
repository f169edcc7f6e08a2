"""The look-ahead check: every kind of peek is found, with bar and column; honest strategies pass."""

import asyncio
from functools import lru_cache

import numpy as np
import polars as pl
import pytest

from candlewick.check_report import CheckFinding, CheckReport
from candlewick.errors import InvalidCandles, StrategyFailed, UsageError
from candlewick.lookahead import FEWEST_BARS, check_strategy
from candlewick.lookahead_cuts import FUTURES, continued, plan_cuts
from candlewick.market.sample import SampleMarket
from candlewick.strategies.buy_and_hold import BuyAndHold
from candlewick.strategies.catalog import BUILT_IN, load_strategy
from candlewick.strategies.contract import SIGNAL_SCHEMA, Actions, Strategy, complete_signals
from candlewick.strategies.fibonacci_golden_zone import FibonacciGoldenZone
from candlewick.strategies.rsi_reversion import RsiReversion
from candlewick.strategies.sma_cross import SmaCross
from candlewick.timeframes import parse_utc, timeframe_ms
from tests import peeking
from tests.shared_data import real_candles

BTC = "BTC/USDT"
BUILT_IN_ALL = [
    *(load_strategy(name, {}) for name in BUILT_IN),
    SmaCross(fast=1, slow=2, stop_loss_bps=300),
    RsiReversion(period=2, oversold=10, overbought=90, stop_loss_atr=2, take_profit_1_atr=3),
    FibonacciGoldenZone(lookback_bars=24, min_swing_bps=0, confirmation="none", one_entry_per_swing=False),
    BuyAndHold(target_weight=0.25),
]
PEEKING = [
    (peeking.Shifted(), "action"),
    (peeking.Shifted(bars=40), "action"),
    (peeking.Centred(), "action"),
    (peeking.NormalisedByMaximum(share=0.99), "action"),
    (peeking.NormalisedByMean(), "action"),
    (peeking.FilledBackward(), "stop_loss"),
    (peeking.Interpolated(), "action"),
    (peeking.Ranked(), "action"),
    (peeking.Newest(), "action"),
    (peeking.TrailingByTheFuture(), "trailing_stop_bps"),
    (peeking.ReasonKnowsTheEnd(), "reason"),
]


@lru_cache(maxsize=8)
def sample(timeframe: str, bars: int, symbol: str = BTC) -> pl.DataFrame:
    """The newest ``bars`` candles of the sample market at the end of 2025."""
    now_ms = parse_utc("2026-01-01")
    page = asyncio.run(SampleMarket(now_ms).fetch(symbol, timeframe, now_ms - 2 * bars * timeframe_ms(timeframe), now_ms))
    return page.candles.tail(bars)


def check(strategy: Strategy, candles: pl.DataFrame, cuts: int = 40) -> CheckReport:
    return check_strategy(strategy, {BTC: candles}, cuts=cuts)


def failure(report: CheckReport) -> CheckFinding:
    assert report.verdict == "failed"
    assert report.first_failure is not None
    return report.first_failure


def earliest_change(strategy: Strategy, candles: pl.DataFrame) -> tuple[int, str]:
    """The first bar, and its first column, that differs for any cut: by trying all of them."""
    whole = complete_signals(strategy, candles)
    earliest = (candles.height, "")
    for cut in range(1, candles.height):
        other = complete_signals(strategy, candles.head(cut))
        for column in SIGNAL_SCHEMA:
            rows = whole[column].head(cut).ne_missing(other[column]).arg_true()
            if rows.len() and rows[0] < earliest[0]:
                earliest = (rows[0], column)
    return earliest


# --- peeks


@pytest.mark.parametrize(("strategy", "column"), PEEKING, ids=lambda one: repr(one) if isinstance(one, Strategy) else one)
def test_a_strategy_that_peeks_is_named_with_the_bar_the_column_and_both_values(strategy: Strategy, column: str) -> None:
    candles = sample("1h", 3_000)
    found = failure(check(strategy, candles))
    assert (found.kind, found.symbol, found.column) == ("look_ahead", BTC, column)
    row, cut = (candles["opened_at"].to_list().index(at) for at in (found.bar, found.cut))
    assert complete_signals(strategy, candles)[column][row] == found.full
    histories = [candles.head(cut + 1), *(continued(candles, cut + 1, future) for future in FUTURES)]
    assert found.truncated in [complete_signals(strategy, history)[column][row] for history in histories]
    assert found.full != found.truncated
    assert str(found.bar)[:10] in found.text


@pytest.mark.parametrize("strategy", [one for one, _ in PEEKING], ids=repr)
def test_the_bar_named_is_the_first_one_that_any_cut_changes(strategy: Strategy) -> None:
    candles = sample("1h", 300)
    found = failure(check(strategy, candles))
    row, column = earliest_change(strategy, candles)
    named = candles["opened_at"].to_list().index(found.bar)
    # A made-up future may show that an even earlier bar is not safe.
    assert named <= row
    assert named < row or found.column == column


def largest_moves(candles: pl.DataFrame, *, falls: bool) -> tuple[int, float]:
    """The bar before the largest move from close to close, and a limit that only this move exceeds."""
    moves = (candles["close"].shift(-1) / candles["close"]).drop_nulls()
    ranked = moves.sort(descending=not falls)
    row = moves.arg_min() if falls else moves.arg_max()
    assert row is not None
    return row, float(ranked[0] + ranked[1]) / 2


def test_a_peek_that_shows_on_one_bar_of_five_thousand_is_found() -> None:
    candles = sample("15m", 5_000)
    row, limit = largest_moves(candles, falls=False)
    honest = complete_signals(peeking.OneAdded(rise=9), candles)["action"]
    assert honest[row] == "HOLD"
    assert (honest != "HOLD").sum() > 100
    found = failure(check(peeking.OneAdded(rise=limit), candles))
    assert (found.bar, found.column, found.full, found.truncated) == (candles["opened_at"][row], "action", "BUY", "HOLD")


def test_a_peek_that_only_ever_suppresses_one_action_is_found_by_a_made_up_crash() -> None:
    candles = sample("15m", 5_000)
    _, limit = largest_moves(candles, falls=True)
    found = failure(check(peeking.OneSuppressed(fall=limit), candles))
    assert (found.kind, found.column, found.full, found.truncated) == ("look_ahead", "action", "BUY", "HOLD")
    assert "made-up prices of 0.5 times" in found.text


def test_a_number_that_changes_in_its_last_digits_fails_as_rounding() -> None:
    found = failure(check(peeking.Rounding(), sample("1h", 3_000)))
    assert (found.kind, found.column) == ("rounding", "stop_loss")


# --- state, chance, mutation


def test_a_strategy_that_draws_random_numbers_fails() -> None:
    found = failure(check(peeking.Random(), sample("1h", 3_000)))
    assert (found.kind, found.column) == ("not_repeatable", "action")
    assert found.bar is not None


def test_a_strategy_that_counts_its_calls_fails() -> None:
    assert failure(check(peeking.Counting(), sample("1h", 3_000))).kind == "not_repeatable"


def test_a_strategy_that_remembers_other_candles_fails_as_keeping_state_not_as_peeking() -> None:
    peeking.SEEN.clear()
    report = check(peeking.Remembering(), sample("1h", 3_000))
    assert {finding.kind for finding in report.findings} == {"keeps_state"}
    assert failure(report).column == "action"


@pytest.mark.parametrize(("strategy", "column"), [(peeking.Mutating(), "mean"), (peeking.Replacing(), "close")], ids=repr)
def test_a_strategy_that_changes_its_candles_fails_and_the_candles_stay_as_they_were(strategy: Strategy, column: str) -> None:
    candles = sample("1h", 500)
    before = candles.clone()
    found = failure(check(strategy, candles))
    assert (found.kind, found.column) == ("mutates_input", column)
    assert candles.equals(before)


def test_an_error_on_a_shorter_history_fails_but_within_the_warm_up_it_is_a_warning() -> None:
    candles = sample("1h", 500)
    found = failure(check(peeking.NeedsBars(needed=30), candles))
    assert (found.kind, found.bar) == ("error", candles["opened_at"][0])
    assert "ValueError: needs 30" in found.text
    lenient = check(peeking.NeedsBars(needed=30, warm=40), candles)
    assert lenient.verdict == "passed"
    assert "short_history" in {finding.kind for finding in lenient.findings}


# --- honest strategies


@pytest.mark.parametrize("strategy", BUILT_IN_ALL, ids=repr)
@pytest.mark.parametrize("market", ["binance_BTCUSDT_1d", "binance_SOLUSDT_4h", "binance_BTCUSDT_1h_2017-2024"])
def test_the_built_in_strategies_pass_on_real_candles(strategy: Strategy, market: str) -> None:
    report = check_strategy(strategy, {BTC: real_candles(market).head(8_000)}, cuts=15)
    assert [finding.text for finding in report.findings if finding.fails] == []
    assert report.symbols[0].acting_checked > 0


@pytest.mark.parametrize("strategy", BUILT_IN_ALL, ids=repr)
def test_the_built_in_strategies_pass_on_the_sample_market(strategy: Strategy) -> None:
    symbols = {symbol: sample("1h", 2_000, symbol) for symbol in (BTC, "DOGE/USDT")}
    report = check_strategy(strategy, symbols, cuts=20)
    assert [finding.text for finding in report.findings if finding.fails] == []
    assert [one.symbol for one in report.symbols] == list(symbols)


def test_a_short_history_is_cut_after_every_bar() -> None:
    (one,) = check(peeking.Honest(), sample("1h", 400)).symbols
    assert one.cuts >= 399
    assert one.acting_checked >= one.acting - 1


def test_the_same_seed_gives_the_same_report() -> None:
    candles = {BTC: sample("1h", 3_000)}
    first, second = (check_strategy(peeking.Honest(), candles, seed=7) for _ in range(2))
    assert first.to_document() == second.to_document()


def test_a_report_read_back_from_its_document_is_the_same() -> None:
    for strategy in (peeking.Shifted(), peeking.TrailingByTheFuture(), peeking.Honest()):
        report = check(strategy, sample("1h", 400))
        assert CheckReport.from_document(report.to_document()) == report
        assert report.to_document()["verdict"] == report.verdict
    with pytest.raises(UsageError, match="not the document of a look-ahead check"):
        CheckReport.from_document({"verdict": "passed"})


# --- warm-up


def test_the_measured_warm_up_of_a_smoothed_average_is_where_a_billionth_is_left() -> None:
    (one,) = check(peeking.Honest(span=10, warm=20), sample("1h", 3_000)).symbols
    # Each bar leaves 9/11 of what was; candles of this market differ by a few per cent at most between two starts.
    forgotten = np.log(1e-9) / np.log(9 / 11)
    assert one.warmup_measured is not None
    assert 0.6 * forgotten < one.warmup_measured <= forgotten
    report = check(peeking.Honest(span=10, warm=20), sample("1h", 3_000))
    assert (report.verdict, [finding.kind for finding in report.findings]) == ("passed", ["warmup"])
    assert check(peeking.Honest(span=10, warm=110), sample("1h", 3_000)).findings == ()


def test_an_average_too_long_for_the_history_is_not_forgotten_within_it() -> None:
    report = check(peeking.Honest(span=5_000), sample("1h", 1_000))
    assert report.symbols[0].warmup_measured is None
    assert "not within 500 bars" in report.findings[0].text


def test_a_moving_average_has_forgotten_after_its_window() -> None:
    report = check(SmaCross(fast=10, slow=30), sample("1h", 5_000))
    measured = report.symbols[0].warmup_measured
    assert measured is not None
    assert 10 < measured <= 30
    assert report.findings == ()


def test_a_strategy_that_never_acts_passes_with_a_warning() -> None:
    report = check(peeking.Idle(), sample("1h", 400))
    assert (report.verdict, [finding.kind for finding in report.findings]) == ("passed", ["no_action"])


# --- the quick way


class Quick(peeking.Honest):
    """Honest, with a quick way that is wrong as told."""

    wrong: str = ""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        stop = pl.lit(500.0).alias("stop_loss_bps")
        return candles.select(peeking.buys(peeking.ENTERS_DIP, stop))

    def actions(self, candles: pl.DataFrame) -> Actions | None:
        rows = (complete_signals(self, candles)["action"] == "BUY").arg_true().to_numpy().astype(np.int64)
        if self.wrong == "missing" and rows.size > 3:
            rows = np.delete(rows, 2)
        if self.wrong == "outside":
            rows = np.append(rows, candles.height)
        side = -1 if self.wrong == "side" else 1
        constants = {"stop_loss_bps": 400.0 if self.wrong == "constant" else 500.0}
        return Actions(rows, np.full(rows.size, side, dtype=np.int8), {} if self.wrong == "none" else constants)


@pytest.mark.parametrize(
    ("wrong", "column"),
    [("missing", "action"), ("side", "action"), ("constant", "stop_loss_bps"), ("none", "stop_loss_bps")],
)
def test_a_quick_way_that_decides_otherwise_than_the_signals_fails(wrong: str, column: str) -> None:
    found = failure(check(Quick(wrong=wrong), sample("1h", 1_500)))
    assert (found.kind, found.column) == ("actions_differ", column)
    assert found.bar is not None


def test_a_quick_way_that_names_a_bar_there_is_not_is_an_error() -> None:
    with pytest.raises(StrategyFailed, match=r"Quick.actions answered .* rows that are no candle: \[1500\]"):
        check(Quick(wrong="outside"), sample("1h", 1_500))


def test_a_quick_way_that_says_what_the_signals_say_passes() -> None:
    assert check(Quick(), sample("1h", 1_500)).verdict == "passed"


# --- what is refused, and what is cut


def test_too_little_history_is_refused_with_what_is_needed() -> None:
    candles = sample("1h", 500)
    with pytest.raises(UsageError, match=r"49 candles are too few .* warm-up of 30 bars; at least 50 are needed"):
        check(SmaCross(), candles.head(30 + FEWEST_BARS - 1))
    assert check(SmaCross(), candles.head(30 + FEWEST_BARS)).verdict == "passed"
    with pytest.raises(UsageError, match="at least one symbol"):
        check_strategy(SmaCross(), {})
    with pytest.raises(UsageError, match="asked for were 0"):
        check(SmaCross(), candles, cuts=0)


def test_candles_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidCandles, match="not in the order of their times"):
        check(SmaCross(), sample("1h", 500).reverse())


def test_a_strategy_that_fails_on_the_whole_history_says_so() -> None:
    with pytest.raises(StrategyFailed, match="needs 1000"):
        check(peeking.NeedsBars(needed=1_000), sample("1h", 500))


def test_the_work_of_a_long_history_with_many_actions_is_capped() -> None:
    acting = np.arange(30, 1_000_000, 2)
    plan = plan_cuts(acting, 1_000_000, 30, 40, 1, np.random.default_rng(0))
    assert plan.truncated.size + plan.continued.size * len(FUTURES) < 200
    plan = plan_cuts(np.arange(30, 5_000), 5_000, 30, 40, 1, np.random.default_rng(0))
    assert 950 < plan.truncated.size <= 1_000 + 40 + 10
    shared = plan_cuts(np.arange(30, 5_000), 5_000, 30, 40, 10, np.random.default_rng(0))
    assert shared.truncated.size <= 100 + 40 + 10


def test_a_made_up_future_is_made_of_valid_candles() -> None:
    candles = sample("1h", 500)
    for future in FUTURES:
        longer = continued(candles, 400, future)
        assert longer.schema == candles.schema
        assert longer.height == 400 + future.bars
        assert longer["opened_at"].is_sorted()
        assert longer.filter((pl.col("high") < pl.max_horizontal("open", "close")) | (pl.col("low") <= 0)).is_empty()
