"""Walk-forwards: train windows choose, test windows are played with what they chose, and count as one account."""

import json
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.amounts import from_units
from candlewick.backtesting.simulation import backtest, lay_out_span
from candlewick.backtesting.stitching import deepest_drawdown, longest_drawdown_ms, stitch
from candlewick.backtesting.walking import Choice, cut_window, walk
from candlewick.candles import opened_at_ms
from candlewick.errors import UsageError
from candlewick.figures import FigureInputs
from candlewick.json_text import to_json
from candlewick.store.backtests import Backtests
from candlewick.store.database import Database
from candlewick.strategies.sma_cross import SmaCross
from candlewick.timeframes import DAY_MS
from candlewick.walk_forward import Window, plan_windows
from flows.search_steps import SearchResult
from tests.paper_flow import Workplace
from tests.searches import HOUR_MS, asked, chunk_files, run_search, search_window, write_market

BARS = 3_000


def windows_of(bars: int = BARS) -> tuple[Window, ...]:
    whole = search_window(bars)
    return plan_windows(whole.since_ms, whole.until_ms, train_ms=40 * DAY_MS, test_ms=30 * DAY_MS, timeframe="1h", warmup_bars=40)


CHOICE = Choice({"fast": 5, "slow": 20}, 1.0, {})


# ------------------------------------------------------------------------------------------------- stitching


def test_one_stretch_stitched_is_what_it_was() -> None:
    window = search_window(BARS)
    whole = backtest(window.terms, SmaCross(fast=5, slow=20), window.candles, curve="every bar")
    times = lay_out_span(window.terms, window.candles, None, None).market.times
    stitched = stitch([whole], [times], window.terms.initial_cash, whole.benchmark_return)
    for field in fields(FigureInputs):
        assert np.array_equal(getattr(stitched.inputs, field.name), getattr(whole.figure_inputs(), field.name)), field.name


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(1, 12))
@settings(deadline=None)
def test_drawdowns_are_those_of_a_slow_count(closes: list[int], initial: int) -> None:
    values, opens = np.array(closes, dtype=np.int64), np.arange(len(closes), dtype=np.int64) * HOUR_MS
    peak, peak_at, deepest, longest = initial, 0, (0.0, 0, 0), 0
    for row, value in enumerate(closes):
        closed = (row + 1) * HOUR_MS
        if value >= peak:
            longest = max(longest, closed - peak_at) if row and closes[row - 1] < peak else longest
            peak, peak_at = value, closed
        else:
            longest = max(longest, closed - peak_at)
            if (peak - value) / peak > deepest[0] + 1e-15:
                deepest = ((peak - value) / peak, peak, value)
    assert deepest_drawdown(values, initial) == deepest[1:]
    assert longest_drawdown_ms(values, opens, initial, HOUR_MS) == longest


# ------------------------------------------------------------------------------------------------- test windows


def test_a_test_window_is_a_backtest_that_starts_flat_with_what_the_one_before_left() -> None:
    whole, windows = search_window(BARS), windows_of()
    walked = walk(whole, windows, [CHOICE] * len(windows))
    assert len(windows) > 1
    cash = whole.terms.initial_cash
    for one in walked.windows:
        span = one.window.test
        known = {
            symbol: frame.filter(pl.col("opened_at").dt.epoch("ms") < span.until_ms) for symbol, frame in whole.candles.items()
        }
        alone = backtest(
            replace(whole.terms, initial_cash=cash),
            SmaCross(fast=5, slow=20),
            known,
            since_ms=span.since_ms,
            until_ms=span.until_ms,
        )
        assert one.figures is not None
        assert to_json(dict(one.figures)) == to_json(dict(alone.figures()))
        cash = from_units(int(alone.state.account[0]["equity"]), 8)
    assert walked.figures["final_equity"].value == cash
    assert walked.equity["equity"][-1] == cash


def test_candles_after_a_window_change_nothing_in_it() -> None:
    whole, windows = search_window(BARS), windows_of()
    first = windows[0].test
    later = pl.col("opened_at").dt.epoch("ms") >= first.until_ms
    changed = {
        symbol: frame.with_columns(
            pl.when(later).then(pl.col(name) * 3).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close")
        )
        for symbol, frame in whole.candles.items()
    }
    cuts = [cut_window(one, first) for one in (whole, replace(whole, candles=changed))]
    for symbol in whole.candles:
        assert cuts[0].candles[symbol].equals(cuts[1].candles[symbol])
        assert int(opened_at_ms(cuts[0].candles[symbol])[-1]) < first.until_ms


def test_a_window_without_a_choice_stays_in_cash() -> None:
    whole, windows = search_window(BARS), windows_of()
    walked = walk(whole, windows, [None, *[CHOICE] * (len(windows) - 1)])
    assert walked.windows[0].test is None
    assert walked.windows[1].test is not None
    assert walked.stitched.times[0] >= windows[1].test.since_ms
    assert walked.stitched.inputs.initial_cash == 10_000 * 10**8
    with pytest.raises(UsageError, match="no test window could be played"):
        walk(whole, windows, [None] * len(windows))


# ------------------------------------------------------------------------------------------------- the flow


def walked_forward(**options: object) -> SearchResult:
    from flows.walk_forward import walk_forward

    result = run_search(walk_forward, **options)
    assert isinstance(result, SearchResult)
    return result


def test_a_walk_forward_is_kept_drawn_and_repeated_from_its_chunks(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    options = asked(write_market(workplace.directory / "market", BARS), train="40d", test="30d")
    first = walked_forward(**options)
    store = Backtests(Database(str(workplace.directory / "ledger.duckdb")))
    kept, windows = store.find(first.run.run_id), store.windows(first.run.run_id)
    assert (kept.kind, kept.status, kept.sets, kept.sets_done) == ("walk-forward", "success", 12, 9)
    assert windows.height == 2
    assert first.view is not None
    assert store.equity(first.run.run_id)["equity"][-1] == kept.figures["final_equity"].value
    assert first.report is not None
    assert "Out-of-sample return" in Path(first.report).read_text()
    files = chunk_files(workplace.directory / "lake")
    monkeypatch.setattr("candlewick.backtesting.set_runner.SetRunner.compute", lambda *_: pytest.fail("computed again"))
    again = walked_forward(**options)
    assert chunk_files(workplace.directory / "lake") == files
    assert again.run.figures == first.run.figures
    assert store.windows(again.run.run_id).equals(windows)


def test_each_window_chose_the_best_of_a_sweep_over_its_train_span(workplace: Workplace) -> None:
    from flows.sweep import sweep

    market = write_market(workplace.directory / "market", BARS)
    result = walked_forward(**asked(market, train="40d", test="30d", objective="total_return"))
    store = Backtests(Database(str(workplace.directory / "ledger.duckdb")))
    row = store.windows(result.run.run_id).row(0, named=True)
    options = asked(market, until=row["train_end"].isoformat(), objective="total_return")
    trained = run_search(sweep, **options, since=row["train_start"].isoformat())
    assert isinstance(trained, SearchResult)
    # The sweep's signals begin with its span; those of a train window are warmed up before it. So the choices may differ by what
    # happens within the warm-up, and the chosen set's place among the sweep's sets says whether the same thing was looked for.
    sets = store.sets(trained.run.run_id).sort("objective", descending=True)
    places = [json.loads(text) for text in sets["parameters"]]
    assert places.index(json.loads(row["parameters"])) < 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--train", "soon"], "soon"),
        (["--since", "2024-01-01", "--until", "2024-02-01"], "train 180d and test 30d need 210d"),
        (["--test", "30d", "--step", "10d"], "step"),
        (["--objective", "trades"], "--objective trades"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    from candlewick.cli import run_command
    from flows.backtesting import app

    monkeypatch.chdir(tmp_path)
    span = [] if "--since" in options else ["--since", "2022-01-01", "--until", "2024-01-01"]
    given_options = ["--strategy", "sma_cross", "--param", "fast=5,10", *span, *options]
    assert run_command(app, ["walk-forward", *given_options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_stitched_cash_is_exact() -> None:
    whole, windows = search_window(BARS), windows_of()
    walked = walk(whole, windows, [CHOICE] * len(windows))
    last = walked.windows[-1].test
    assert last is not None
    assert walked.figures["final_equity"].value == from_units(int(last.state.account[0]["equity"]), 8) != Decimal(10_000)
