"""The report, the text and the artifact of a validation: complete, self-contained, safe, and drawn by a real browser."""

import json
import re
from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import polars as pl
import pytest
from plotly.offline import get_plotlyjs
from rich.console import Console

from candlewick.candles import PRICE_COLUMNS
from candlewick.errors import CandlewickError
from candlewick.json_text import to_json
from candlewick.quality.comparison import Source
from candlewick.reports.validation import render_validation_report, write_validation_report
from candlewick.reports.validation_figures import MAX_POINTS, drawn_bars
from candlewick.reports.validation_text import disagreement_rows, render_validation, validation_markdown
from candlewick.reports.validation_view import ValidationView
from tests.browser import CHROMIUM, DARK, browse
from tests.compared_markets import changed, compared, elsewhere, judged, market, validation_view

EVIL = "</script><script>alert(1)</script><b>"
PROBE = """
setTimeout(() => {
  const body = document.body, charts = [...document.querySelectorAll(".chart")];
  body.dataset.drawn = charts.filter((one) => one.querySelector(".main-svg")).map(({ id }) => id).join(" ");
  body.dataset.wide = Math.max(0, document.documentElement.scrollWidth - window.innerWidth);
  body.dataset.marks = document.querySelectorAll("#equity-chart .point").length;
  body.dataset.cut = charts.filter((one) => [...one.querySelectorAll(".ytick text, .y2tick text, .y4tick text")]
    .some((text) => text.getBoundingClientRect().right > one.getBoundingClientRect().right + 1)).map(({ id }) => id).join(" ");
}, 2500);
"""


def faulty(bars: int = 800) -> ValidationView:
    """Two holes, a bad print and a wick."""
    whole = market(bars)
    ours = changed(whole, [77], high=pl.col("high") * 1.05).filter(~pl.int_range(pl.len()).is_in([300, 301, 302]))
    other = changed(elsewhere(whole), [500], close=pl.col("close") * 1.01).filter(pl.int_range(pl.len()) != 42)
    return validation_view(ours, other, ("bitstamp has no BTC/USDT: BTC/USD was taken",), "python -m flows.market_data validate")


def views() -> dict[str, ValidationView]:
    whole = market(300)
    return {
        "faulty": faulty(),
        "identical": validation_view(whole, whole),
        "shifted": validation_view(whole, elsewhere(whole).with_columns(pl.col("opened_at").dt.offset_by("1h"))),
        "volume alone": validation_view(whole, changed(whole, [7], volume=pl.col("volume") + 1)),
        "without volume": validation_view(whole, elsewhere(whole).with_columns(volume=pl.lit(0.0))),
        "apart in time": validation_view(whole, elsewhere(whole).with_columns(pl.col("opened_at").dt.offset_by("1000h"))),
        "nothing": validation_view(whole, whole.clear()),
        "one bar": validation_view(whole, whole.tail(1)),
    }


@pytest.fixture(scope="module", params=views())
def view(request: pytest.FixtureRequest) -> ValidationView:
    return views()[request.param]


def document_in(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def visible(page: str) -> str:
    return re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)


def test_every_comparison_has_a_report_that_loads_nothing_and_that_plotly_understands(view: ValidationView) -> None:
    page = render_validation_report(view)
    assert page == render_validation_report(view)
    own = page.replace(get_plotlyjs(), "")
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b|\bsrc\s*=|\bhref\s*=|@import|url\(|https?://|fetch\(", own)
    document = document_in(page)
    drawn = [document["equity"]] if "equity" in document else []
    drawn += [figure for chart in document["still"].values() for figure in chart["figures"]]  # type: ignore[attr-defined]
    named = {name[2:-1] for name in re.findall(r'"@[a-z0-9-]+"', own)}
    assert all(named <= set(colours) for colours in document["colours"].values())  # type: ignore[attr-defined]
    for figure in drawn:
        plain = re.sub(r'"@[a-z0-9-]+"', '"#123456"', json.dumps({key: figure[key] for key in ("data", "layout")}))  # type: ignore[index]
        go.Figure(json.loads(plain))
    for text in (view.judgement.verdict, view.title):
        assert text in visible(page)


def test_every_comparison_is_told_as_text_markdown_and_json(view: ValidationView) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render_validation(view, Path("data/reports/x.html")))
    text = console.export_text()
    assert text.startswith(f"{view.judgement.verdict.upper()}  {view.title}")
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    markdown = validation_markdown(view, Path("x.html"))
    assert markdown.startswith(f"## {view.judgement.verdict.capitalize()}: {view.title}")
    document = json.loads(to_json(view.to_document()))
    assert document["comparison"]["common_bars"] == view.comparison.common_bars
    assert len(document["comparison"]["disagreements"]) == len(view.comparison.disagreements)


def test_the_report_tells_every_hole_and_disagreement() -> None:
    view = faulty()
    text = visible(render_validation_report(view))
    assert "2024-01-13 12:00" in text
    assert "2024-01-13 15:00" in text
    for one in view.comparison.disagreements:
        assert f"{one.difference_bps:+,.1f}".replace("-", "−") in text
    assert view.notices[0] in text
    rows = disagreement_rows(view)
    assert [row["kind"] for row in rows] == [
        "missing at bitstamp BTC/USD",
        "wick",
        "missing at binance BTC/USDT",
        "outlier",
    ]


@pytest.mark.parametrize("lacking", ["ours", "other", "both"])
def test_holes_are_named_once_in_the_legend_whoever_has_them(lacking: str) -> None:
    whole, other = market(300), elsewhere(market(300))
    hole = ~pl.int_range(pl.len()).is_in([100, 101])
    view = validation_view(
        whole.filter(hole) if lacking == "ours" else whole, other.filter(hole) if lacking == "other" else other
    )
    if lacking == "both":
        view = validation_view(whole.filter(hole), other.filter(pl.int_range(pl.len()) != 200))
    traces = document_in(render_validation_report(view))["equity"]["data"]  # type: ignore[index]
    assert [trace["showlegend"] for trace in traces if trace.get("name") == "missing"].count(True) == 1


def test_a_criterion_that_is_not_met_is_a_warning_with_its_value_and_limit() -> None:
    whole = market(300)
    dearer = elsewhere(whole).with_columns(pl.col(name) * 1.004 for name in PRICE_COLUMNS)
    page = visible(render_validation_report(validation_view(whole, dearer)))
    assert '<div class="callout" role="alert">The sources differ: closes are' in page
    assert '<span class="no">not met</span>' in page
    assert "at most 25 bps" in page


def test_long_series_are_thinned_and_keep_their_extremes() -> None:
    whole = market(30_000)
    found = compared(whole, changed(elsewhere(whole), [12_345], close=pl.col("close") * 1.2))
    rows = drawn_bars(found)
    assert rows.height <= MAX_POINTS
    assert rows["low"].min() == round(float(found.bars["difference_bps"].min()), 2)  # type: ignore[arg-type]


def test_text_from_outside_is_escaped() -> None:
    view = faulty()
    ours = Source(replace(view.comparison.ours.series, symbol=EVIL), EVIL)
    odd = replace(view, comparison=replace(view.comparison, ours=ours, other=ours), notices=(EVIL,), command=EVIL)
    page = render_validation_report(replace(odd, judgement=judged(odd.comparison)))
    assert EVIL not in page
    assert page.count("<script>") == 2
    assert "&lt;/script&gt;" in page
    assert "<script>" not in validation_markdown(odd, None)


def test_the_report_is_written_whole_and_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write_validation_report(faulty(), tmp_path / "reports")
    assert [found.name for found in (tmp_path / "reports").iterdir()] == [path.name]
    assert path.name.startswith("validation-binance-BTCUSDT-bitstamp-BTCUSD-1h-")
    (tmp_path / "blocked").write_text("a file stands here")
    with pytest.raises(CandlewickError, match=r"cannot be written .*the findings are stored all the same"):
        write_validation_report(faulty(), tmp_path / "blocked")


@pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed")
@pytest.mark.parametrize(("width", "more"), [(1200, ()), (500, (DARK,))], ids=["desk", "phone, dark"])
def test_a_browser_draws_it_without_a_word_and_nothing_is_cut(tmp_path: Path, width: int, more: tuple[str, ...]) -> None:
    found, console = browse(render_validation_report(faulty()), PROBE, tmp_path, width, *more)
    assert console == ""
    assert found["drawn"] == "equity-chart histogram lag"
    assert found["wide"] == "0"
    assert found["cut"] == ""
    assert int(found["marks"]) >= 4  # two disagreements, two holes
