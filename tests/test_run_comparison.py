"""Runs side by side: what is best, what they were given that differs, and which trades they share."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick.backtest_rows import BacktestRun
from candlewick.errors import UsageError
from candlewick.metrics import Measure
from candlewick.rules import Rules
from candlewick.run_comparison import TRADES_SCHEMA, ComparedRun, compare_runs
from candlewick.store.backtests import Backtests, Outcome
from candlewick.store.database import Database
from tests.backtest_run_rows import BEGUN, BTC, HOUR, begun, ended, equity, trades


def figures(**values: str | None) -> dict[str, Measure]:
    return {name: Measure(None, "undefined") if text is None else Measure(Decimal(text)) for name, text in values.items()}


def run(run_id: str, **cells: object) -> BacktestRun:
    return ended(begun(run_id), **cells)


def compared(*runs: BacktestRun) -> list[ComparedRun]:
    """Runs with the same curve and the same trades."""
    return [ComparedRun(one, equity(), trades()) for one in runs]


def test_the_best_figure_is_marked_whichever_way_is_better() -> None:
    one = run("one", figures=figures(sharpe="1.5", max_drawdown="0.2", trades="7", profit_factor=None, odd="3"))
    two = run("two", figures=figures(sharpe="0.5", max_drawdown="0.1", trades="9", profit_factor="2"))
    three = run("three", figures=figures(sharpe="1.50", max_drawdown="0.3", trades="9", profit_factor=None))
    rows = {row.name: row for row in compare_runs(compared(one, two, three)).figures}
    assert list(rows) == ["sharpe", "max_drawdown", "trades", "profit_factor", "odd"]
    assert rows["sharpe"].best == (True, False, True)
    assert rows["max_drawdown"].best == (False, True, False)
    assert rows["trades"].best == (False, False, False), "more trades are not better"
    assert rows["profit_factor"].best == (False, False, False), "one value alone is not the best"
    assert rows["odd"].measures == (Measure(Decimal(3)), *[Measure(None, "the run has no such figure")] * 2)
    assert rows["max_drawdown"].title == "Max drawdown"


def test_equal_figures_have_no_best() -> None:
    same = figures(sharpe="1")
    assert compare_runs(compared(run("a", figures=same), run("b", figures=same))).figures[0].best == (False, False)


def test_amounts_of_accounts_that_began_with_other_cash_are_not_ranked() -> None:
    own = figures(final_equity="20000", sharpe="2")
    other = figures(final_equity="900", sharpe="1")
    rows = compare_runs(compared(run("a", figures=own), run("b", figures=other, initial_cash=Decimal("500.50"))))
    assert [row.best for row in rows.figures] == [(False, False), (True, False)]
    assert "these runs began with different cash: 10000 USDT (a); 500.5 USDT (b)" in rows.notices


def test_runs_that_were_given_the_same_have_nothing_to_note() -> None:
    found = compare_runs(compared(run("a"), run("b")))
    assert (found.notices, found.parameters, found.rules) == ((), (), ())


def test_parameters_and_rules_that_differ_are_named_with_every_runs_value() -> None:
    one = run("a", parameters={"fast": 10, "slow": 50, "flag": 1, "name": "x"}, rules=Rules(slippage_bps=Decimal(5)))
    two = run("b", parameters={"fast": 10.0, "slow": 60, "flag": True, "extra": None})
    found = compare_runs(compared(one, two))
    assert [(row.name, row.values) for row in found.parameters] == [
        ("slow", ("50", "60")),
        ("flag", ("1", "true")),
        ("name", ("x", None)),
        ("extra", (None, "null")),
    ]
    assert [(row.name, row.values) for row in found.rules] == [("slippage_bps", ("5", "2"))]
    assert found.notices == ("these runs have different rules: slippage_bps",)


@pytest.mark.parametrize(
    ("cells", "notice"),
    [
        ({"kind": "sweep"}, "are of different kinds: run (a and b); sweep (c)"),
        ({"market": "files:x"}, "are of different markets: sample (a and b); files:x (c)"),
        ({"timeframe": "4h"}, "have bars of different length: 1h (a and b); 4h (c)"),
        ({"detail_timeframe": "1m"}, "look into their bars differently: not at all (a and b); by 1m bars (c)"),
        ({"quote": "USDC"}, "count in different currencies: USDT (a and b); USDC (c)"),
        ({"code_version": "0.2.0"}, "come from different code: 0.1.0+abc (a and b); 0.2.0 (c)"),
        ({"strategy_version": "s2"}, "come from different code of the strategy: s1 (a and b); s2 (c)"),
        ({"strategy": "rsi", "strategy_version": "s2"}, "run different strategies: sma_cross (a and b); rsi (c)"),
        ({"candle_digests": {"BTC/USDT": "d2"}}, "saw different candles of BTC/USDT: a and b | c"),
        ({"funding_digests": {"BTC/USDT": "f2"}}, "saw different funding of BTC/USDT: a and b | c"),
        (
            {"instruments": (replace(BTC, taker_fee_bps=Decimal(1)),)},
            "traded BTC/USDT by different exchange rules or fees: a and b | c",
        ),
    ],
)
def test_whatever_runs_were_given_that_differs_is_noted(cells: dict[str, object], notice: str) -> None:
    known = {"funding_digests": {"BTC/USDT": "f1"}}
    found = compare_runs(compared(run("a", **known), run("b", **known), run("c", **{**known, **cells})))
    assert f"these runs {notice}" in found.notices
    if "quote" not in cells:
        assert len(found.notices) == 1


def test_candles_that_differ_because_the_spans_do_are_said_to() -> None:
    later = run("b", since_at=BEGUN - 50 * HOUR, candle_digests={"BTC/USDT": "d2"})
    found = compare_runs(compared(run("a"), later))
    assert found.notices == (
        "these runs cover different spans: 2026-06-26T20:00:00Z to 2026-07-01T00:00:00Z (a); "
        "2026-06-28T22:00:00Z to 2026-07-01T00:00:00Z (b)",
        "these runs saw different candles of BTC/USDT, as their spans differ: a | b",
    )


def test_symbols_that_not_all_trade_and_another_order_of_them_are_noted() -> None:
    both, swapped = ("BTC/USDT", "ETH/USDT"), ("ETH/USDT", "BTC/USDT")
    assert compare_runs(compared(run("a", symbols=both), run("b"))).notices == ("ETH/USDT is traded only by a",)
    order = "act on symbols in different order: BTC/USDT, ETH/USDT (a); ETH/USDT, BTC/USDT (b)"
    assert compare_runs(compared(run("a", symbols=both), run("b", symbols=swapped))).notices == (f"these runs {order}",)


def test_a_run_that_is_a_part_or_peeked_is_no_fair_match() -> None:
    found = compare_runs(compared(run("a", status="interrupted", error="killed"), run("b", check_verdict="failed")))
    assert found.notices == (
        "a did not complete (interrupted: killed); its figures, if any, are of a part",
        "the strategy of b failed its look-ahead check: its figures may know the future",
    )


def test_curves_are_growth_of_each_runs_own_cash_and_meet_where_both_are() -> None:
    slow = ComparedRun(run("slow"), equity(3, step=Decimal(100), every=2 * HOUR), trades(0))
    rich = run("rich", initial_cash=Decimal(20_000))
    quick = ComparedRun(rich, equity(5, start=Decimal(30_000), step=Decimal(300), every=HOUR), trades(0))
    found = compare_runs([slow, quick])
    growth = found.equity.filter(pl.col("run_id") == "rich")["growth"].to_list()
    assert growth == pytest.approx([1.5, 1.515, 1.53, 1.545, 1.56])
    wide = found.common_equity
    assert wide.columns == ["at", "slow", "rich"]
    assert wide["at"].to_list() == [BEGUN + hours * HOUR for hours in (2, 3, 4, 5)]
    assert wide["slow"].to_list() == pytest.approx([1, 1, 1.01, 1.01])
    assert wide["rich"].to_list() == pytest.approx([1, 30600 / 30300, 30900 / 30300, 31200 / 30300])


def test_runs_without_a_common_span_have_no_common_curve() -> None:
    early = ComparedRun(run("early"), equity(3), trades())
    late_curve = equity(3).with_columns(pl.col("at") + timedelta(days=9))
    for other in (ComparedRun(run("late"), late_curve, trades()), ComparedRun(run("none"), equity(0), trades(0))):
        found = compare_runs([early, other])
        assert found.common_equity.height == 0
        assert found.common_equity.columns == ["at", "early", other.run.run_id]
        assert found.equity.height == 3 + other.equity.height


def test_trades_are_paired_by_symbol_side_and_bar() -> None:
    first, second = trades(4), trades(3)
    second = second.with_columns(pnl=pl.when(pl.col("entry_order") == "cw-1").then(Decimal(9)).otherwise(pl.col("pnl")))
    alone = second.head(1).with_columns(symbol=pl.lit("ETH/USDT"))
    found = compare_runs(
        [ComparedRun(run("a"), equity(), first), ComparedRun(run("b"), equity(), pl.concat([alone, second]))],
    )
    assert found.trades.schema == pl.Schema(TRADES_SCHEMA)
    rows = [(row["symbol"], row["side"], row["run_ids"], row["identical"]) for row in found.trades.to_dicts()]
    assert rows == [
        ("BTC/USDT", "long", ["a", "b"], True),
        ("ETH/USDT", "long", ["b"], True),
        ("BTC/USDT", "short", ["a", "b"], False),
        ("BTC/USDT", "long", ["a", "b"], False),
        ("BTC/USDT", "short", ["a"], True),
    ]
    assert found.trades["pnl"].to_list()[2] == [Decimal(1), Decimal(9)]
    assert [(one.run_id, one.trades, one.shared, one.alone) for one in found.trade_counts] == [("a", 4, 3, 1), ("b", 4, 3, 1)]


def test_a_side_that_one_bar_opens_twice_is_two_trades() -> None:
    twice = pl.concat([trades(2).head(1), trades(2).head(1)])
    found = compare_runs([ComparedRun(run("a"), equity(), twice), ComparedRun(run("b"), equity(), trades(2).head(1))])
    assert found.trades["run_ids"].to_list() == [["a", "b"], ["a"]]
    assert [one.alone for one in found.trade_counts] == [1, 0]


def test_one_run_and_a_run_against_itself_are_no_comparison() -> None:
    for runs, text in (((), "0 given"), ((run("a"),), "1 given"), ((run("a"), run("b"), run("a")), "run a is named twice")):
        with pytest.raises(UsageError, match=text):
            compare_runs(compared(*runs))


def test_what_the_store_answers_can_be_compared(tmp_path: Path) -> None:
    store = Backtests(Database(str(tmp_path / "ledger.duckdb")))
    for run_id in ("one", "two"):
        store.begin(begun(run_id))
        store.finish(ended(begun(run_id)), Outcome(equity=equity(), trades=trades()))
    store.begin(begun("without"))
    store.finish(ended(begun("without")))
    found = compare_runs(
        [ComparedRun(store.find(id_), store.equity(id_), store.trades(id_)) for id_ in ("one", "two", "without")]
    )
    assert found.trade_counts[0].shared == 3
    assert found.common_equity.height == 0
    assert found.notices == ()
