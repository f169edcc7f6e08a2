"""The backtesting reports: complete, self-contained, safe, small, true to their view, and drawn by a real browser."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
from plotly.offline import get_plotlyjs

from candlewick.errors import CandlewickError
from candlewick.metrics import Measure
from candlewick.reports import curves
from candlewick.reports.backtest import PAGE_ROWS, render_backtest_report, write_backtest_report
from candlewick.reports.comparison import render_comparison_report, setting_differences, write_comparison_report
from candlewick.reports.numbers import format_money
from candlewick.reports.sweep import ranked, render_sweep_report, write_sweep_report
from candlewick.reports.sweep_figures import heat_map, sweep_axes
from candlewick.reports.walk_forward import render_walk_forward_report, write_walk_forward_report
from tests.backtest_views import NAMES, backtest_view, comparison_view, sweep_view, walk_forward_view, walked
from tests.browser import CHROMIUM, DARK, browse

EVIL = "</script><script>alert(1)</script><b>"
PAGES: dict[str, Callable[[], str]] = {
    "backtest": lambda: render_backtest_report(backtest_view(bars=800, trades=40)),
    "sweep": lambda: render_sweep_report(sweep_view()),
    "walk-forward": lambda: render_walk_forward_report(walk_forward_view(bars=800)),
    "comparison": lambda: render_comparison_report(comparison_view(bars=400)),
}


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


def document_in(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def visible(page: str) -> str:
    """The page without its scripts and styles."""
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)


# ------------------------------------------------------------------------------------------------- every report


def test_a_report_loads_nothing_from_anywhere(page: str) -> None:
    assert page.count(get_plotlyjs()) == 1
    own = page.replace(get_plotlyjs(), "")
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b|\bsrc\s*=|\bhref\s*=|@import|url\(|https?://|fetch\(", own)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    assert policy[1].split("; ")[3:] in ([], ["img-src data:"])
    assert page.count("<script>") == 2


def test_plotly_knows_every_property_of_a_reports_figures(page: str) -> None:
    document = document_in(page)
    drawn = [document["equity"]] if "equity" in document else []
    drawn += [figure for chart in document.get("still", {}).values() for figure in chart["figures"]]  # type: ignore[attr-defined]
    assert drawn
    for figure in drawn:
        plain = re.sub(r'"@[a-z0-9-]+"', '"#123456"', json.dumps({key: figure[key] for key in ("data", "layout")}))  # type: ignore[index]
        go.Figure(json.loads(plain))


def test_every_colour_a_figure_names_is_one_of_both_schemes(page: str) -> None:
    document = document_in(page)
    own = page.replace(get_plotlyjs(), "")
    named = {name[2:-1] for name in re.findall(r'"@[a-z0-9-]+"', own)}
    assert named
    for colours in document["colours"].values():  # type: ignore[attr-defined]
        assert named <= set(colours)


def test_equal_views_give_equal_reports() -> None:
    for name, render in PAGES.items():
        assert render() == render(), name


def test_verdict_notices_digest_code_and_command_stand_in_every_run_report() -> None:
    for render, view in (
        (render_backtest_report, backtest_view(bars=300, trades=5)),
        (render_sweep_report, sweep_view()),
        (render_walk_forward_report, walk_forward_view(bars=300)),
    ):
        text = visible(render(view))  # type: ignore[operator]
        assert isinstance(view.notices, tuple)
        for part in (view.check, *view.notices, *view.candle_digests.values(), view.code_version, view.command, view.run_id):
            assert part in text
        assert all(value in text for value in view.rules.values())
        assert text.index(view.check) < text.index('class="figures')
        assert text.index(view.notices[0]) < text.index('class="figures')


def test_a_failed_or_missing_look_ahead_check_is_a_warning() -> None:
    view = backtest_view(bars=100, trades=0)
    failed = visible(render_backtest_report(replace(view, check="bar 7 of stop_loss changed", check_passed=False)))
    assert '<div class="callout" role="alert"><b>The look-ahead check failed:</b> bar 7 of stop_loss changed' in failed
    missing = visible(render_backtest_report(replace(view, check="", check_passed=None)))
    assert 'role="alert"><b>Look-ahead check:</b> not done' in missing
    assert 'role="alert"' not in visible(render_backtest_report(view))


def test_text_from_outside_is_escaped_everywhere() -> None:
    common = {"title": EVIL, "market": EVIL, "strategy": EVIL, "parameters": {EVIL: EVIL}, "rules": {EVIL: EVIL}, "check": EVIL}
    common |= {"notices": (EVIL,), "command": EVIL, "code_version": EVIL, "run_id": EVIL, "quote": EVIL}
    view = backtest_view(bars=300, trades=8)
    trades = view.trades.with_columns(
        pl.lit(EVIL).alias("entry_reason"),
        pl.lit(EVIL).alias("symbol"),
        pl.lit([EVIL]).alias("exit_legs"),
        pl.lit([EVIL]).alias("exit_reasons"),
    )
    odd = replace(
        view,
        **common,
        symbols=(EVIL,),
        trades=trades,
        figures={"sharpe": Measure(None, EVIL)},
        candles={EVIL: walked(50, "1h", 1)},
    )
    sweep, walk, compared = sweep_view({EVIL: [1, 2], "b": [EVIL, "x"]}), walk_forward_view(bars=300), comparison_view(2, 100)
    windows = walk.windows.rename({"kind": EVIL})
    pages = [
        render_backtest_report(odd),
        render_sweep_report(replace(sweep, **common, texts=(EVIL,), skipped={EVIL: 1})),
        render_walk_forward_report(replace(walk, **common, texts=(EVIL,), windows=windows, grid=("fast", EVIL))),
        render_comparison_report(
            replace(compared, title=EVIL, notices=(EVIL,), runs=tuple(replace(run, **common) for run in compared.runs))
        ),
    ]
    for page in pages:
        assert EVIL not in page
        assert page.count("<script>") == 2
        assert page.count("</script") == 3
        assert "<b>alert" not in page
        assert "&lt;/script&gt;" in page


def test_a_report_is_written_whole_under_its_runs_name(tmp_path: Path) -> None:
    written = [
        write_backtest_report(replace(backtest_view(bars=50, trades=0), run_id="../../etc/x"), tmp_path / "reports"),
        write_sweep_report(sweep_view(), tmp_path / "reports"),
        write_walk_forward_report(walk_forward_view(2, bars=50), tmp_path / "reports"),
        write_comparison_report(comparison_view(2, 50), tmp_path / "reports"),
    ]
    assert sorted(found.name for found in (tmp_path / "reports").iterdir()) == sorted(path.name for path in written)
    assert {path.parent for path in written} == {tmp_path / "reports"}
    blocked = tmp_path / "blocked"
    blocked.write_text("a file stands here")
    with pytest.raises(CandlewickError, match=r"report .* cannot be written \(File exists\).*the run is stored all the same"):
        write_sweep_report(sweep_view(), blocked)


# ------------------------------------------------------------------------------------------------- a backtest


def test_every_figure_stands_in_the_report_as_the_view_has_it() -> None:
    view = backtest_view(bars=300, trades=5)
    known = {
        "final_equity": Measure(Decimal("1234567.891")),
        "sharpe": Measure(Decimal("-0.456")),
        "win_rate": Measure(Decimal("0.98765")),
    }
    known |= {
        "max_drawdown_days": Measure(Decimal("41.5")),
        "fees": Measure(Decimal("77.777")),
        "total_return": Measure(Decimal("-0.12345")),
    }
    text = visible(render_backtest_report(replace(view, figures=known)))
    for shown in ("1,234,567.89", "−0.46", "98.76%", "41.5 d", "77.78", "−12.34%"):
        assert shown in text


def test_an_undefined_figure_is_a_dash_with_its_reason_to_read_and_as_tooltip() -> None:
    view = replace(backtest_view(bars=50, trades=0), figures={name: Measure(None, f"no {name} here") for name in NAMES})
    text = visible(render_backtest_report(view))
    for name in set(NAMES) - {"final_equity"}:
        assert f'<span title="no {name} here">—</span></b><span class="why">no {name} here</span>' in text
    assert "no final_equity here" in text
    assert "None" not in text
    assert "nan" not in text.lower().replace("finance", "")


def test_the_list_has_every_trade_newest_first_and_its_numbers_are_the_views() -> None:
    view = backtest_view(bars=2_000, trades=120)
    listed = document_in(render_backtest_report(view))["trades"]
    newest = view.trades.reverse()
    assert listed["pnl"] == [None if one is None else float(one) for one in newest["pnl"]]  # type: ignore[index]
    assert listed["opened_at"] == newest["opened_at"].dt.epoch("s").to_list()  # type: ignore[index]
    assert [listed["texts"][place] for place in listed["entry_reason"]] == newest["entry_reason"].to_list()  # type: ignore[index]
    text = visible(render_backtest_report(view))
    assert text.count('<tr class="story">') == PAGE_ROWS
    gains = [format_money(one, "USDT", sign=True).replace("-", "−") for one in newest["pnl"][1:PAGE_ROWS]]
    assert all(gain in text for gain in gains)


def test_a_chart_of_a_year_of_minutes_merges_candles_and_keeps_the_extremes() -> None:
    candles = walked(525_600, "1m", 3)
    step = curves.chart_step_ms(525_600 * 60_000, 60_000, curves.MAX_CHART_BARS)
    merged = curves.merged_candles(candles, step, 60_000)
    assert merged.height <= curves.MAX_CHART_BARS
    assert curves.step_text(step) == "6h"
    assert (merged["high"].max(), merged["low"].min()) == (candles["high"].max(), candles["low"].min())
    assert (merged["open"][0], merged["close"][-1]) == (candles["open"][0], candles["close"][-1])
    assert merged["volume"].sum() == candles["volume"].sum()


def test_few_candles_are_drawn_as_they_are() -> None:
    candles = walked(1_200, "1h", 3)
    document = document_in(
        render_backtest_report(replace(backtest_view(bars=1_200, trades=3, symbols=1), candles={"S00/USDT": candles}))
    )
    drawn = document["symbols"][0]["chart"]  # type: ignore[index]
    assert drawn["text"] == "1h"
    assert drawn["close"] == candles["close"].to_list()
    assert [drawn["start"] + place * drawn["step"] for place in drawn["x"]] == candles["opened_at"].dt.epoch("ms").to_list()


def test_the_largest_gains_and_losses_have_a_window_in_the_runs_own_candles() -> None:
    view = backtest_view(bars=20_000, trades=200, symbols=1)
    windows = curves.trade_windows(view)
    closed = view.trades.with_row_index("row").filter(pl.col("pnl").is_not_null())
    best, worst = closed.sort("pnl")["row"][-1], closed.sort("pnl")["row"][0]
    assert {best, worst} <= {window.row for window in windows}
    assert len(windows) == 2 * curves.WINDOWS_A_SIDE
    drawn = document_in(render_backtest_report(view))["symbols"][0]  # type: ignore[index]
    assert drawn["chart"]["text"] != "1h"
    assert {window["text"] for window in drawn["windows"] if len(window["x"]) < curves.MAX_WINDOW_BARS} >= {"1h"}
    for window in windows:
        trade = view.trades.row(window.row, named=True)
        assert window.since_at < trade["opened_at"] <= trade["closed_at"] < window.until_at


def test_a_year_of_minutes_with_ten_thousand_trades_stays_small() -> None:
    page = render_backtest_report(backtest_view(bars=525_600, trades=10_000, symbols=1, timeframe="1m"))
    assert len(page) < len(get_plotlyjs()) + 3_000_000
    assert len(document_in(page)["trades"]["row"]) == 10_000  # type: ignore[index, call-overload, arg-type]


def test_trades_beyond_the_limit_are_left_out_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MAX_TRADES", 30)
    view = backtest_view(bars=2_000, trades=200, symbols=1)
    page = render_backtest_report(view)
    rows = document_in(page)["trades"]["row"]  # type: ignore[index, call-overload]
    assert set(range(170, 200)) <= set(rows)
    assert {window.row for window in curves.trade_windows(view)} <= set(rows)
    assert f"The {200 - len(rows)} oldest of 200 trades are not in this file" in visible(page)


def test_the_deepest_drawdown_and_the_extremes_of_equity_survive_thinning() -> None:
    view = backtest_view(bars=60_000, trades=0, symbols=1)
    rows = curves.equity_rows(view.equity)
    assert rows.height < 6_000
    values = view.equity["equity"].cast(pl.Float64)
    assert (rows["equity"].min(), rows["equity"].max(), rows["equity"][-1]) == (values.min(), values.max(), values[-1])
    assert rows["drawdown"].min() == round(-float(view.equity["drawdown_share"].max()), 5)  # type: ignore[arg-type]


def test_a_month_is_coloured_by_its_sign_and_a_year_compounds_its_months() -> None:
    months = pl.DataFrame({"year": [2024, 2024], "month": [2, 3], "return_share": [Decimal("0.10"), Decimal("-0.05")]})
    text = visible(render_backtest_report(replace(backtest_view(bars=50, trades=0), months=months)))
    assert "--gain) 46%" in text
    assert "--loss) 23%" in text
    assert '<span class="gain">+4.50%</span>' in text


# ------------------------------------------------------------------------------------------------- the other reports


def test_the_best_sets_are_ranked_and_an_undefined_objective_is_counted() -> None:
    view = sweep_view()
    best = ranked(view)
    assert best["sharpe"].to_list() == sorted((one for one in view.results["sharpe"] if one is not None), reverse=True)
    text = visible(render_sweep_report(view))
    assert f"fast {best['fast'][0]}, slow {best['slow'][0]}" in text
    assert "180 sets ran; 12 sets left out: slow must be above fast; 25 sets without a defined Sharpe ratio" in text
    assert "87.31%" in text
    assert "fewer than 16 blocks of 30 days" in text


def test_the_lowest_is_best_where_the_objective_is_to_be_low() -> None:
    view = replace(sweep_view(objective="max_drawdown"), lower_is_better=True)
    assert ranked(view)["max_drawdown"][0] == view.results["max_drawdown"].drop_nulls().min()


def test_a_heat_map_cell_is_the_best_or_the_mean_of_the_sets_that_share_it() -> None:
    results = pl.DataFrame({"a": [1, 1, 2, 2], "b": [5, 5, 5, 6], "c": [1, 2, 1, 1], "sharpe": [1.0, 3.0, None, 4.0]})
    view = replace(sweep_view(), results=results, grid=("a", "b", "c"))
    axes = sweep_axes(view)
    cells = {how: heat_map(view, results.drop_nulls(), axes["a"], axes["b"], how)["data"][0]["z"] for how in ("best", "mean")}  # type: ignore[index, call-overload]
    assert cells == {"best": [[3.0, None], [None, 4.0]], "mean": [[2.0, None], [None, 4.0]]}


def test_many_values_of_a_parameter_share_parts_of_its_range() -> None:
    view = sweep_view({"a": [place / 7 for place in range(300)], "b": [1, 2]})
    axis = sweep_axes(view)["a"]
    assert axis.is_binned
    assert len(axis.labels) == 30
    assert axis.codes.to_list()[0] == 0
    assert axis.codes.max() == 29


def test_the_threshold_of_luck_is_drawn_where_the_objective_is_the_sharpe_ratio() -> None:
    def lines(page: str) -> list[float]:
        return [shape["x0"] for shape in document_in(page)["still"]["distribution"]["figures"][0]["layout"]["shapes"]]  # type: ignore[index, call-overload]

    assert 0.91 in lines(render_sweep_report(sweep_view()))
    assert 0.91 not in lines(render_sweep_report(sweep_view(objective="calmar")))


def test_a_walk_forward_shows_each_window_in_and_out_of_sample() -> None:
    view = walk_forward_view(bars=800)
    page = render_walk_forward_report(view)
    bars = document_in(page)["still"]["windows"]["figures"][0]["data"]  # type: ignore[index, call-overload]
    assert bars[0]["y"] == view.windows["in_sample_objective"].to_list()
    assert bars[1]["y"] == view.windows["out_of_sample_objective"].to_list()
    text = visible(page)
    for row in view.windows.iter_rows(named=True):
        assert f"{row['test_since_at']:%Y-%m-%d} to {row['test_until_at']:%Y-%m-%d}" in text
    assert "efficiency 0.43" in text


def test_a_comparison_shows_what_differs_and_by_how_much() -> None:
    view = comparison_view()
    assert setting_differences(view) == [("parameter fast", ("10", "11", "12")), ("rule fee_bps", ("10", "9", "8"))]
    first, second = (view.figures[run.run_id]["final_equity"].value for run in view.runs[:2])
    assert first is not None
    assert second is not None
    text = visible(render_comparison_report(view))
    assert format_money(second - first, "USDT", sign=True).replace("-", "−") in text
    assert "no trade was closed yet" in text
    best = max(own["final_equity"].value or Decimal(0) for own in view.figures.values())
    assert f"<b>{format_money(best, 'USDT')}</b>" in text
    assert '<td class="t">C</td><td class="n">40</td><td class="n">31</td><td class="n">9</td>' in text


@pytest.mark.parametrize("bars", [0, 1])
def test_runs_without_bars_windows_or_sets_have_a_report(bars: int) -> None:
    view, walk, sweep = backtest_view(bars=1, trades=0), walk_forward_view(1, bars=1), sweep_view({"fast": [1]})
    if not bars:
        view = replace(view, equity=view.equity.clear(), months=view.months.clear(), bands=None, candles={})
        walk = replace(
            walk, windows=walk.windows.clear(), equity=walk.equity.clear(), figures={}, stability=walk.stability.clear()
        )
        sweep = replace(sweep, results=sweep.results.clear())
    for page in (render_backtest_report(view), render_walk_forward_report(walk), render_sweep_report(sweep)):
        assert "NaN" not in visible(page)
        assert "None" not in visible(page)


# ------------------------------------------------------------------------------------------------- in a browser

PROBE = """
addEventListener("error", (event) => document.body.setAttribute("data-failed", event.message));
setTimeout(() => {
  const list = document.getElementById("trades"), set = (name, value) => document.body.setAttribute("data-" + name, value);
  const change = (node, value, kind) => { node.value = value; node.dispatchEvent(new Event(kind, { bubbles: true })); };
  const cell = (place) => list.tBodies[0].rows[0].cells[place].textContent;
  const charts = [...document.querySelectorAll(".js-plotly-plot")];
  set("charts", charts.length);
  set("ground", charts[0]?.querySelector(".main-svg").style.background);
  set("cells", document.querySelectorAll("#heat image").length);
  set("overflow", document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (!list) return;
  set("rows", list.tBodies.length);
  document.querySelector('button.sort[value="pnl"]').click();
  set("most", cell(9));
  document.querySelector('button.sort[value="pnl"]').click();
  set("least", cell(9));
  change(document.querySelector("#trade-tools [name=side]"), "1", "input");
  set("side", new Set([...list.tBodies].map((one) => one.rows[0].cells[1].textContent)).size + cell(1));
  set("listed", document.querySelector("#trade-pager span").textContent);
  change(document.querySelector("#trade-tools [name=text]"), "no such reason", "input");
  set("none", document.querySelector("#trade-pager span").textContent);
  change(document.querySelector("#trade-tools [name=text]"), "", "input");
  const windows = document.getElementById("window-picker");
  set("windows", windows.options.length - 1);
  change(windows, windows.options[1].value, "change");
  setTimeout(() => {
    set("note", document.getElementById("candle-note").textContent);
    set("markers", document.querySelectorAll("#candle-chart .points path").length);
  }, 300);
}, 500);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_a_backtest_and_sorts_and_filters_its_trades(tmp_path: Path, width: int) -> None:
    view = backtest_view(bars=6_000, trades=240, symbols=2)
    found, console = browse(render_backtest_report(view), PROBE, tmp_path, width)
    assert console == ""
    assert "failed" not in found
    assert (found["charts"], found["rows"], int(found["overflow"]) <= 0) == ("2", str(PAGE_ROWS), True)
    most, least = view.trades["pnl"].max(), view.trades["pnl"].min()
    assert isinstance(most, Decimal)
    assert isinstance(least, Decimal)
    assert found["most"] == format_money(most, "USDT", sign=True)
    assert found["least"] == format_money(least, "USDT", sign=True).replace("-", "−")
    shorts = view.trades.filter(pl.col("side") == "short").height
    assert (found["side"], found["listed"]) == ("1short", f"1 to 50 of {shorts}")
    assert found["none"] == "No trade is like that."
    assert found["windows"] == str(2 * curves.WINDOWS_A_SIDE)
    assert "Every candle is one of the run's 1h candles" in found["note"].replace("&#39;", "'")
    assert int(found["markers"]) >= 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("kind", "charts"), [("sweep", 3), ("walk-forward", 4), ("comparison", 1)])
def test_a_browser_draws_the_other_reports_light_dark_and_narrow(tmp_path: Path, kind: str, charts: int) -> None:
    page = PAGES[kind]()
    light, console = browse(page, PROBE, tmp_path, 500)
    dark, more = browse(page, PROBE, tmp_path, 1280, DARK)
    assert console + more == ""
    assert "failed" not in light | dark
    assert (light["charts"], dark["charts"]) == (str(charts), str(charts))
    assert (light["ground"], dark["ground"]) == ("rgb(255, 255, 255)", "rgb(23, 28, 34)")
    assert int(light["overflow"]) <= 0
    assert (light["cells"] == "1") == (kind == "sweep")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_opens_a_backtest_without_bars(tmp_path: Path) -> None:
    view = backtest_view(bars=1, trades=0)
    empty = replace(view, equity=view.equity.clear(), months=view.months.clear(), bands=None, candles={})
    for one in (view, empty):
        _, console = browse(render_backtest_report(one), PROBE, tmp_path, 1280)
        assert console == ""
