"""What backtesting runs say in the terminal and in Prefect's artifacts: headline first, nothing lost, no markup from outside."""

import io
from dataclasses import replace
from decimal import Decimal

import pytest
from rich.console import Console, RenderableType

from candlewick.metrics import Measure
from candlewick.reports.backtest_text import (
    MAX_ARTIFACT_ROWS,
    SHOWN_TRADES,
    backtest_markdown,
    comparison_markdown,
    render_backtest,
    render_comparison,
    render_sweep,
    render_walk_forward,
    set_rows,
    sweep_markdown,
    trade_rows,
    walk_forward_markdown,
)
from candlewick.reports.sweep import ranked
from tests.backtest_views import backtest_view, comparison_view, sweep_view, walk_forward_view


def shown(renderable: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_backtest_in_the_terminal_begins_with_what_ran_its_check_and_its_return() -> None:
    view = backtest_view(bars=300, trades=20)
    lines = shown(render_backtest(view, "reports/run.html"), 160).splitlines()
    assert lines[0].startswith("BACKTEST  sma_cross on S00/USDT")
    assert "sma_cross fast=10 slow=50 confirm=yes on S00/USDT, S01/USDT, S02/USDT (files:/data/candles 1h)" in lines[1]
    assert lines[2].strip() == f"Look-ahead check: {view.check}"
    text = "\n".join(lines)
    assert text.index("Final equity") < text.index("Volatility a year") < text.index(f"newest {SHOWN_TRADES} of 20")
    for part in (*view.notices, view.command, "reports/run.html"):
        assert part in text


@pytest.mark.parametrize("width", [80, 120])
def test_every_text_fits_the_terminal(width: int) -> None:
    for one in (
        render_backtest(backtest_view(bars=300, trades=20)),
        render_sweep(sweep_view()),
        render_walk_forward(walk_forward_view(bars=300)),
        render_comparison(comparison_view(bars=100)),
    ):
        assert max(map(len, shown(one, width).splitlines())) <= width


def test_an_undefined_headline_says_why() -> None:
    text = shown(render_backtest(backtest_view(bars=300, trades=0)))
    assert "Win rate: no trade was closed yet" in text
    assert "| Win rate | — (no trade was closed yet) |" in backtest_markdown(backtest_view(bars=300, trades=0))


def test_a_failed_check_stands_out_in_words() -> None:
    view = replace(backtest_view(bars=50, trades=0), check="bar 7 of stop_loss changed", check_passed=False)
    assert "Look-ahead check: FAILED, bar 7 of stop_loss changed" in shown(render_backtest(view))
    assert "**Look-ahead check: FAILED, bar 7 of stop_loss changed**" in backtest_markdown(view)


def test_figures_are_written_as_the_view_has_them() -> None:
    view = replace(
        backtest_view(bars=50, trades=0),
        figures={"final_equity": Measure(Decimal("1234567.891")), "sharpe": Measure(Decimal("-0.456"))},
    )
    text = backtest_markdown(view)
    assert "| Final equity | 1,234,567.89 USDT |" in text
    assert "| Sharpe ratio | -0.46 |" in text


def test_a_sweep_names_its_best_set_what_was_left_out_and_what_luck_explains() -> None:
    view = sweep_view()
    best = ranked(view).row(0, named=True)
    for text in (shown(render_sweep(view), 160), sweep_markdown(view)):
        assert f"fast {best['fast']}, slow {best['slow']}" in text
        assert "12 sets left out: slow must be above fast" in text
        assert "87.31%" in text
        assert "fewer than 16 blocks of 30 days" in text
    assert [row["Rank"] for row in set_rows(view)] == [str(rank) for rank in range(1, view.top + 1)]


def test_a_walk_forward_says_how_many_test_windows_gained() -> None:
    view = walk_forward_view(bars=300)
    gained = sum(value > 0 for value in view.windows["out_of_sample_return"])
    for text in (shown(render_walk_forward(view), 160), walk_forward_markdown(view)):
        assert f"{gained} of 12 test windows gained" in text
        assert "0.43" in text


def test_a_comparison_names_the_runs_and_what_differs() -> None:
    view = comparison_view()
    for text in (shown(render_comparison(view), 200), comparison_markdown(view)):
        for part in ("run-0", "run-1", "run-2", "parameter fast", "rule fee_bps", "B - A", *view.notices):
            assert part in text


def test_text_from_outside_ends_no_cell_and_becomes_no_markup() -> None:
    evil = "a|b <script>\nx"
    view = replace(
        backtest_view(bars=50, trades=3), title=evil, strategy=evil, notices=(evil,), check=evil, market=evil, command=evil
    )
    walk = replace(walk_forward_view(2, bars=50), title=evil, texts=(evil,))
    sweep = replace(sweep_view({"a|b": [1, 2], "c": ["<i>", "x"]}), skipped={evil: 2})
    for text in (backtest_markdown(view), walk_forward_markdown(walk), sweep_markdown(sweep)):
        outside = "".join(text.split("```")[::2])
        assert "<script>" not in outside
        assert "<i>" not in outside
        widths = {
            line.replace("\\|", "").count("|")
            for line in outside.split("### Figures")[-1].split("### ")[0].splitlines()
            if line[:1] == "|"
        }
        assert len(widths) <= 1
    shown(render_backtest(replace(view, title="[bold]x[/]")))
    assert "[bold]x[/]" in shown(render_backtest(replace(view, title="[bold]x[/]")))


def test_an_artifact_lists_no_more_rows_than_it_should() -> None:
    view = backtest_view(bars=2_000, trades=200)
    assert len(trade_rows(view)) == MAX_ARTIFACT_ROWS
    assert f"the newest {MAX_ARTIFACT_ROWS} of 200" in backtest_markdown(view)
    assert trade_rows(view)[0]["Closed"] == "open"


def test_empty_runs_have_a_text() -> None:
    view, walk, sweep = backtest_view(bars=1, trades=0), walk_forward_view(1, bars=1), sweep_view({"fast": [1]})
    view = replace(
        view, equity=view.equity.clear(), months=view.months.clear(), symbols_table=view.symbols_table.clear(), figures={}
    )
    walk = replace(walk, windows=walk.windows.clear(), stability=walk.stability.clear(), figures={})
    sweep = replace(sweep, results=sweep.results.clear())
    texts = [shown(render_backtest(view)), backtest_markdown(view), shown(render_walk_forward(walk)), walk_forward_markdown(walk)]
    texts += [shown(render_sweep(sweep)), sweep_markdown(sweep)]
    assert all("None\n" not in text.replace("None.\n", "") for text in texts)
