"""The HTML report: complete, self-contained, safe, equal for equal input, and drawn by a real browser."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
from plotly.offline import get_plotlyjs

from candlewick.candles import candle_digest
from candlewick.errors import CandlewickError
from candlewick.reports import charts, figures
from candlewick.reports.html import render_report, write_report
from candlewick.reports.view import AccountView
from candlewick.trades import pair_trades
from tests.account_views import GENERATED_AT, SHARED_CANDLES, new_view, planned_view, real_candles, walked_candles
from tests.browser import CHROMIUM, DARK, browse, source_of


@pytest.fixture(scope="module")
def view() -> AccountView:
    return planned_view(walked_candles())


@pytest.fixture(scope="module")
def page(view: AccountView) -> str:
    return render_report(view, GENERATED_AT)


def document_in(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_the_report_names_the_account_its_strategy_and_its_headline_figures(page: str) -> None:
    for text in (
        "demo",
        "binance",
        "fibonacci_golden_zone",
        "lookback_bars",
        "Max drawdown",
        "Win rate",
        "Profit factor",
        "Exposure",
    ):
        assert text in page
    assert "2026-04-30 04:01:30" in page


def test_every_fill_stands_in_the_report_with_its_reason(view: AccountView, page: str) -> None:
    reasons = view.fills["reason"].to_list()
    assert page.count("<li>") >= len(reasons)
    for reason in reasons:
        assert reason.replace("&", "&amp;") in page


def test_refusals_runs_signals_and_digests_are_listed(view: AccountView, page: str) -> None:
    assert page.count("insufficient cash") == view.orders.filter(pl.col("status") == "refused").height > 0
    for run_id in view.runs["run_id"]:
        assert run_id in page
    assert "entry ordered" in page
    for frame in view.candles.values():
        assert candle_digest(frame) in page


def test_an_incomplete_last_run_is_called_out(view: AccountView) -> None:
    runs = view.runs.with_columns(pl.lit("partial").alias("status"), pl.lit("S01: no answer").alias("error"))
    assert "The last run ended as partial: S01: no answer" in render_report(replace(view, runs=runs), GENERATED_AT)


def test_equal_input_gives_an_equal_report(page: str) -> None:
    assert render_report(planned_view(walked_candles()), GENERATED_AT) == page


def test_the_report_loads_nothing_from_anywhere(page: str) -> None:
    assert page.count(get_plotlyjs()) == 1
    own = page.replace(get_plotlyjs(), "")
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b|\bsrc\s*=|\bhref\s*=|@import|url\(|https?://|fetch\(", own)
    config = document_in(page)["config"]
    assert (config["showSendToCloud"], config["displaylogo"], config["plotlyServerURL"]) == (False, False, "")  # type: ignore[index]


def test_the_report_may_reach_nothing_and_run_nothing_but_its_own_two_scripts(page: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = " ".join(source_of(script) for script in scripts)
    assert policy is not None
    assert policy[1] == f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    assert len(scripts) == 2


def test_text_from_outside_is_escaped_everywhere(view: AccountView) -> None:
    evil = "</script><script>alert(1)</script><b>"
    columns = {"fills": ["reason"], "orders": ["reason", "rule"], "signals": ["outcome"], "runs": ["error", "code_version"]}
    frames = {
        table: getattr(view, table).with_columns(pl.lit(evil).alias(name) for name in names) for table, names in columns.items()
    }
    named = replace(view, account=evil, market=evil, strategy=evil, parameters={evil: evil}, **frames)
    page = render_report(named, GENERATED_AT)
    assert page.count("<script>") == 2
    assert page.count("</script") == 3
    assert "<b>alert" not in page
    assert evil not in page
    assert "&lt;/script&gt;" in page
    shown = [text for symbol in document_in(page)["symbols"] for trace in symbol["data"] for text in trace.get("text", [])]  # type: ignore[attr-defined]
    assert len(shown) == view.fills.height
    assert all("&lt;script&gt;" in text and "<script" not in text for text in shown)


def test_an_account_without_bars_has_a_report(tmp_path: Path) -> None:
    page = render_report(new_view(), GENERATED_AT)
    assert "no bar was processed yet" in page
    assert "NaN" not in page.split("<script")[0]
    assert "None" not in page.split("<script")[0].split("</style>")[1]


def test_the_charts_hold_every_bar_at_its_own_time_so_that_a_gap_stays_a_gap(view: AccountView, page: str) -> None:
    document = document_in(page)
    for symbol, data in zip(view.symbols, document["symbols"], strict=True):  # type: ignore[call-overload]
        frame, bars = view.candles[symbol], data["data"][0]
        assert bars["x"] == frame["opened_at"].dt.epoch("ms").to_list()
        assert [bars[name] for name in charts.PRICE_COLUMNS] == [frame[name].to_list() for name in charts.PRICE_COLUMNS]
    axis = document["candles"]["layout"]["xaxis"]  # type: ignore[index]
    assert axis["type"] == "date"
    assert "rangebreaks" not in axis


def test_plotly_knows_every_property_of_the_figures(view: AccountView) -> None:
    document = json.loads(json.dumps(figures.chart_document(view, pair_trades(view.fills))))
    go.Figure({key: document["equity"][key] for key in ("data", "layout")})
    for symbol in document["symbols"]:
        traces = [trace | own for trace, own in zip(document["candles"]["data"], symbol["data"], strict=True)]
        go.Figure(data=traces, layout=document["candles"]["layout"] | {"annotations": symbol["annotations"]})
    for scheme in document["templates"].values():
        for template in scheme.values():
            go.layout.Template(template)


def test_every_fill_is_a_marker_that_tells_time_deal_and_reason(view: AccountView, page: str) -> None:
    for symbol, data in zip(view.symbols, document_in(page)["symbols"], strict=True):  # type: ignore[call-overload]
        fills = view.fills.filter(pl.col("symbol") == symbol)
        markers = sorted(
            (x, y, text) for trace in data["data"][5:] for x, y, text in zip(*map(trace.get, ("x", "y", "text")), strict=True)
        )
        assert [marker[0] for marker in markers] == sorted(fills["bar_opened_at"].dt.epoch("ms"))
        texts = " ".join(text.replace("<br>", " ").replace("&amp;", "&") for _, _, text in markers)
        assert all(reason in texts for reason in fills["reason"])
        assert all(f"{at:%Y-%m-%d %H:%M}" in texts for at in fills["bar_opened_at"])


def test_each_scheme_colours_every_trace_of_both_charts(view: AccountView) -> None:
    styles, candles = figures.templates(), figures.candle_figure()["data"]
    for scheme, colours in figures.SCHEMES.items():
        template = styles[scheme]["candles"]  # type: ignore[index, call-overload]
        assert len(template["data"]["scatter"]) + 1 == len(candles)  # type: ignore[arg-type]
        assert template["layout"]["paper_bgcolor"] == colours["card"]
    assert figures.SCHEMES["light"].keys() == figures.SCHEMES["dark"].keys()


def test_stops_and_targets_are_drawn_while_they_stood(view: AccountView) -> None:
    trades = pair_trades(view.fills)
    levels = charts.trade_levels(view, trades)
    for trade, own in zip(trades.iter_rows(named=True), levels, strict=True):
        assert {"stop", "target_1", "target_2"} <= {level.leg for level in own}
        end = trade["closed_at"] or view.watermark_at + timedelta(hours=4)
        assert all(trade["opened_at"] <= level.since <= level.until <= end for level in own)


def test_a_stop_that_moved_to_the_entry_is_drawn_lower_until_the_first_target(view: AccountView) -> None:
    trades = pair_trades(view.fills)
    moved = trades["exit_legs"].list.first() == "target_1"
    assert moved.any()
    for row in moved.arg_true().to_list():
        entry = trades["entry_price"][row]
        stops = [level for level in charts.trade_levels(view, trades)[row] if level.leg == "stop"]
        target = next(level for level in charts.trade_levels(view, trades)[row] if level.leg == "target_1")
        assert [stop.price < entry for stop in stops] == [True, False]
        assert stops[0].until == stops[1].since == target.until


def test_levels_come_from_the_signal_where_no_protective_order_is_in_the_ledger(view: AccountView) -> None:
    bare = replace(view, orders=view.orders.filter(pl.col("leg") == "entry"))
    trades = pair_trades(view.fills)
    closed = trades["closed_at"].is_not_null().to_list()
    for is_closed, own in zip(closed, charts.trade_levels(bare, trades), strict=True):
        assert {level.leg for level in own} == {"stop", "target_1", "target_2"} or not is_closed


def test_an_open_positions_stop_is_drawn_where_it_stands_now(view: AccountView) -> None:
    moved = replace(view, positions=view.positions.with_columns(pl.lit("99.5").cast(pl.Decimal(38, 18)).alias("stop_loss")))
    trades = pair_trades(view.fills)
    levels = charts.trade_levels(moved, trades)
    now = [levels[row] for row in trades["closed_at"].is_null().arg_true().to_list()]
    assert now
    assert all(str(next(level.price for level in own if level.leg == "stop")).startswith("99.5") for own in now)


def test_a_year_of_hours_for_many_symbols_stays_small() -> None:
    candles = walked_candles(symbols=100, bars=2_000, step_h=1)
    long = {
        symbol: pl.concat([frame.with_columns(pl.col("opened_at") + timedelta(hours=2_000 * k)) for k in range(4)])
        for symbol, frame in candles.items()
    }
    view = replace(new_view(), symbols=tuple(long), candles=long, timeframe="1h")
    page = render_report(view, GENERATED_AT)
    assert len(page) < len(get_plotlyjs()) + 8_000_000
    document = document_in(page)["symbols"]
    assert {symbol["merged"] for symbol in document} == {7}  # type: ignore[attr-defined]


def test_merged_bars_keep_first_open_highest_high_lowest_low_and_last_close() -> None:
    frame = walked_candles(symbols=1, bars=5)["S00/USDT"]
    merged = charts.merge_bars(frame, 2)
    assert merged["opened_at"].to_list() == frame["opened_at"].gather([0, 2, 4]).to_list()
    assert merged.row(0)[1:5] == (frame["open"][0], max(frame["high"][:2]), min(frame["low"][:2]), frame["close"][1])


def test_price_decimals_are_the_fewest_that_hold_the_prices() -> None:
    def frame(price: float) -> pl.DataFrame:
        return pl.DataFrame({name: [price] for name in ("open", "high", "low", "close")})

    assert [charts.price_decimals(frame(price)) for price in (100.0, 75924.24, 0.5123, 0.00001234)] == [2, 2, 4, 8]


def test_the_report_is_written_whole_under_the_accounts_name(view: AccountView, page: str, tmp_path: Path) -> None:
    path = write_report(view, tmp_path / "reports", GENERATED_AT)
    assert path == tmp_path / "reports" / "demo.html"
    assert path.read_text(encoding="utf-8") == page
    assert [found.name for found in path.parent.iterdir()] == ["demo.html"]


def test_an_accounts_name_cannot_lead_out_of_the_folder(view: AccountView, tmp_path: Path) -> None:
    path = write_report(replace(view, account="../../etc/x"), tmp_path, GENERATED_AT)
    assert path.parent == tmp_path


def test_a_folder_that_is_none_is_a_clear_error_and_leaves_nothing(view: AccountView, tmp_path: Path) -> None:
    blocked = tmp_path / "reports"
    blocked.write_text("a file stands here")
    with pytest.raises(CandlewickError, match=r"report .*demo\.html cannot be written \(File exists\)"):
        write_report(view, blocked, GENERATED_AT)
    assert [found.name for found in tmp_path.iterdir()] == ["reports"]


def test_a_full_disk_is_a_clear_error_and_the_old_report_stays(
    view: AccountView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_report(view, tmp_path, GENERATED_AT)
    before = path.read_bytes()

    def no_space(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", no_space)
    with pytest.raises(CandlewickError, match="No space left on device"):
        write_report(view, tmp_path, GENERATED_AT + timedelta(hours=4))
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["demo.html"]


# ------------------------------------------------------------------------------------------------- in a browser

PROBE = """
addEventListener("error", (event) => document.body.setAttribute("data-failed", event.message));
setTimeout(() => {
  const candles = document.getElementById("candle-chart"), equity = document.getElementById("equity-chart"), body = document.body;
  const all = (node, selector) => [...node.querySelectorAll(selector)];
  const frame = () => candles.querySelector(".nsewdrag").getBoundingClientRect();
  const inside = ({ left, right, width }) => width > 0 && right > frame().left && left < frame().right;
  const bars = () => all(candles, "path.box").filter((path) => inside(path.getBoundingClientRect())).length;
  const seen = [bars()];
  const jump = () => (document.querySelectorAll("button.jump")[3] ?? body).click();
  const after = (act, next) => { act(); setTimeout(() => { seen.push(bars()); next(); }, 300); };
  const press = (value) => () => document.querySelector(`#range-picker button[value="${value}"]`).click();
  after(press("all"), () => {
    body.setAttribute("data-markers", all(candles, ".scatterlayer .points path").length);
    if (candles.data[5].x.length) Plotly.Fx.hover(candles, { xval: candles.data[5].x[0] });
    body.setAttribute("data-hover", candles.querySelector(".hoverlayer").textContent);
    after(press("in"), () => after(jump, () => {
      const fills = all(candles, "path.box, .points path").map((path) => getComputedStyle(path).fill);
      body.setAttribute("data-colours", new Set(fills).size);
      body.setAttribute("data-seen", seen.join(" "));
      body.setAttribute("data-curves", all(equity, "path.js-line").filter((path) => path.getTotalLength() > 200).length);
      body.setAttribute("data-ground", equity.querySelector(".main-svg").style.background);
      body.setAttribute("data-overflow", document.documentElement.scrollWidth - document.documentElement.clientWidth);
    }));
  });
}, 500);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_and_moves_the_charts_without_an_error(view: AccountView, tmp_path: Path, width: int) -> None:
    found, console = browse(render_report(view, GENERATED_AT), PROBE, tmp_path, width)
    assert console == ""
    assert "failed" not in found
    first, everything, zoomed, jumped = map(int, found["seen"].split())
    assert 0 < first < everything
    assert everything == 537
    assert 0 < zoomed < everything
    assert 0 < jumped < everything
    fills = view.fills.filter(pl.col("symbol") == view.symbols[0])
    assert int(found["markers"]) == fills.height
    assert f"{fills['bar_opened_at'][0]:%Y-%m-%d %H:%M}: buy" in found["hover"]
    assert "stop price" in found["hover"]
    assert "market order at the open" in found["hover"]
    assert int(found["colours"]) >= 4
    assert int(found["curves"]) == 2
    assert int(found["overflow"]) <= 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_that_prefers_dark_gets_dark_charts(view: AccountView, tmp_path: Path) -> None:
    page = render_report(view, GENERATED_AT)
    light, _ = browse(page, PROBE, tmp_path, 1280)
    dark, console = browse(page, PROBE, tmp_path, 1280, DARK)
    assert console == ""
    assert (light["ground"], dark["ground"]) == ("rgb(255, 255, 255)", "rgb(23, 28, 34)")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_opens_the_report_of_an_account_without_bars(tmp_path: Path) -> None:
    page = render_report(new_view(), GENERATED_AT)
    _, console = browse(page, PROBE, tmp_path, 1280)
    assert console == ""


@pytest.mark.skipif(not SHARED_CANDLES.exists(), reason="the shared candles are not beside this checkout")
def test_real_candles_add_less_than_a_quarter_of_a_megabyte_to_plotly() -> None:
    page = render_report(planned_view(real_candles()), GENERATED_AT)
    assert len(page) < len(get_plotlyjs()) + 250_000
    assert "BTC/USDT" in page
