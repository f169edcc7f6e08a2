"""The report of a comparison: runs side by side, and what differs between them."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from html import escape
from pathlib import Path

import polars as pl

from candlewick.figures import FIGURES
from candlewick.metrics import Measure
from candlewick.reports.backtest_view import ComparisonView, RunFacts
from candlewick.reports.charts import kept_points
from candlewick.reports.figures import DIGIT_PX, Document, Value, time_layout, y_axis
from candlewick.reports.html import report_name
from candlewick.reports.measures import TITLES, cell_text, figure_title, figure_unit, figure_value
from candlewick.reports.numbers import MISSING, format_money, format_time
from candlewick.reports.page import render_page, write_page
from candlewick.reports.run_figures import DASHES, SERIES, frame_document, legend
from candlewick.reports.run_sections import CHART_HINT, NO_SCRIPT, PAGE_CHART, callouts, figure_html
from candlewick.reports.sections import minus, section, table
from candlewick.timeframes import timeframe_ms

_NUMBER, _TIME, _TEXT = "n", "t", "text"


def letter(place: int) -> str:
    """What a run is called in tables and charts: A, B, ... Z, A1, B1 ..."""
    return chr(65 + place % 26) + (str(place // 26) if place >= 26 else "")


def _settings(run: RunFacts) -> Mapping[str, str]:
    """Everything a run was asked for, as text."""
    found = {
        "strategy": run.strategy,
        "market": run.market,
        "symbols": ", ".join(run.symbols),
        "timeframe": run.timeframe,
        "detail": run.detail_timeframe or "none",
        "from (UTC)": format_time(run.since_at),
        "to (UTC)": format_time(run.until_at),
        "initial cash": f"{format_money(run.initial_cash, run.quote)} {run.quote}",
        "code": run.code_version,
    }
    found |= {f"parameter {name}": cell_text("", value, run.quote) for name, value in run.parameters.items()}
    found |= {f"rule {name}": value for name, value in run.rules.items()}
    return found | {f"candles {symbol}": digest for symbol, digest in run.candle_digests.items()}


def setting_differences(view: ComparisonView) -> list[tuple[str, tuple[str, ...]]]:
    """Settings that are not the same in all runs: name and one text a run; a dash where a run has none."""
    settings = [_settings(run) for run in view.runs]
    names = dict.fromkeys(name for own in settings for name in own)
    rows = [(name, tuple(own.get(name, MISSING) for own in settings)) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def figure_rows(view: ComparisonView) -> list[tuple[str, tuple[Measure, ...]]]:
    """Every figure that any run has, one measure a run, in the order readers know."""
    nothing = Measure(None, "the run has no such figure")
    known = dict.fromkeys(name for own in view.figures.values() for name in own)
    names = [name for name in TITLES if name in known] + [name for name in known if name not in TITLES]
    return [(name, tuple(view.figures.get(run.run_id, {}).get(name, nothing) for run in view.runs)) for name in names]


def difference_text(name: str, first: Measure, other: Measure, quote: str) -> str:
    """``+1.20`` in the figure's own unit; a share's difference in percentage points. Empty where one is undefined."""
    if first.value is None or other.value is None:
        return ""
    change: Decimal = other.value - first.value
    text = figure_value(name, change, quote)
    if not any(digit in text for digit in "123456789"):
        text = text.removeprefix("+")
    elif text[0] not in "+-":
        text = f"+{text}"
    return f"{text.removesuffix('%')} pp" if figure_unit(name).endswith("share") else text


def _lines(view: ComparisonView) -> Document:
    """Growth of one unit of cash in each run, on a common axis."""
    data: list[Value] = []
    first, last, top, step = 0, 1, 1.0, 1
    for place, run in enumerate(view.runs):
        own = view.equity.filter(pl.col("run_id") == run.run_id).select(
            pl.col("at").dt.epoch("ms"), pl.col("growth").cast(pl.Float64)
        )
        if own.is_empty():
            continue
        own = own[kept_points(own["growth"].to_numpy()).tolist()]
        times, grown = own["at"].to_list(), own["growth"].round(6).to_list()
        step = max(step, timeframe_ms(run.timeframe))
        first, last = (min(first, times[0]) if data else times[0]), max(last, times[-1])
        top = max(top, *grown)
        name = f"{letter(place)} {run.strategy}"
        look: Document = {
            "color": f"@series-{place % len(SERIES['light'])}",
            "width": 1.7,
            "dash": DASHES[(place + place // len(DASHES)) % len(DASHES)],
        }
        shown = f"{letter(place)} <b>%{{y:.4~f}}</b><extra></extra>"
        line: Document = {"type": "scatter", "mode": "lines", "meta": "fit", "name": escape(name, quote=False), "line": look}
        data.append({**line, "x": times, "y": grown, "hovertemplate": shown})
    one: Document = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "layer": "below"}
    layout = time_layout((first - step, max(last, first + step) + step), DIGIT_PX * (len(f"{top:,.2f}") + 2) + 12, "y")
    return {
        "step": step,
        "data": data,
        "layout": {**layout, "showlegend": True, "legend": legend(), "yaxis": y_axis(".3~f"), "shapes": [one]},
    }


def _runs_table(view: ComparisonView) -> str:
    columns = [("", _TIME), ("Run", _TEXT), ("Strategy", _TEXT), ("Span (UTC)", _TIME), ("Look-ahead check", _TEXT)]
    rows = []
    for place, run in enumerate(view.runs):
        swatch = f'<span class="swatch s{place % len(SERIES["light"])}"></span><b>{letter(place)}</b>'
        chosen = ", ".join(f"{name} {cell_text('', value, run.quote)}" for name, value in run.parameters.items())
        strategy = f"<b>{escape(run.strategy)}</b> {escape(chosen)}"
        span = f"{format_time(run.since_at)} to {format_time(run.until_at)}"
        rows.append(
            [swatch, f"{escape(run.title)}<br><code>{escape(run.run_id)}</code>", strategy, span, escape(run.check or "not done")]
        )
    return table(columns, rows)


def _figures_table(view: ComparisonView) -> str:
    quote = view.runs[0].quote
    columns = [("Figure", _TIME), *((letter(place), _NUMBER) for place in range(len(view.runs)))]
    columns += [(f"{letter(place)} − A", _NUMBER) for place in range(1, len(view.runs))]
    rows = []
    for name, measures in figure_rows(view):
        best = _best(name, measures)
        cells = [
            f'<span title="{escape(one.reason or "")}">{MISSING}</span>'
            if one.value is None
            else f"<b>{figure_html(name, one.value, run.quote)}</b>"
            if one.value in best
            else figure_html(name, one.value, run.quote)
            for one, run in zip(measures, view.runs, strict=True)
        ]
        changes = [minus(difference_text(name, measures[0], one, quote)) for one in measures[1:]]
        rows.append([escape(figure_title(name)), *cells, *changes])
    return table(columns, rows)


def _best(name: str, measures: Sequence[Measure]) -> set[Decimal]:
    """The best of the values, where a way is better and they are not all equal."""
    values = [one.value for one in measures if one.value is not None]
    better = FIGURES[name].better if name in FIGURES else "neither"
    if better == "neither" or len(set(values)) < 2:
        return set()
    return {max(values) if better == "higher" else min(values)}


def _trade_counts(view: ComparisonView) -> str:
    """How many trades of each run another run opened too."""
    if view.trade_counts is None or view.trade_counts.is_empty():
        return ""
    letters = {run.run_id: letter(place) for place, run in enumerate(view.runs)}
    columns = [("Run", _TIME), ("Trades", _NUMBER), ("Opened by another run too", _NUMBER), ("By no other", _NUMBER)]
    counts = view.trade_counts.select("run_id", "trades", "shared", "alone")
    rows = [[letters.get(run_id, escape(run_id)), *(f"{count:,}" for count in own)] for run_id, *own in counts.iter_rows()]
    return section("Trades in common", table(columns, rows), note="The same trade: same symbol, side and opening bar.")


def _notices(view: ComparisonView) -> tuple[str, ...]:
    """The comparison's own notices, then every run's with its letter."""
    return (*view.notices, *(f"{letter(place)}: {notice}" for place, run in enumerate(view.runs) for notice in run.notices))


def _checks(view: ComparisonView) -> tuple[str, bool | None]:
    """The runs' verdicts in one: failed where one failed, passed where all did."""
    failed = [f"{letter(place)}: {run.check}" for place, run in enumerate(view.runs) if run.check_passed is False]
    open_ones = [letter(place) for place, run in enumerate(view.runs) if run.check_passed is None]
    if failed:
        return "; ".join(failed), False
    return (f"not done for {', '.join(open_ones)}", None) if open_ones else ("passed by every run's strategy", True)


def render_comparison_report(view: ComparisonView) -> str:
    """The report as HTML; equal views give equal pages. ``view`` has at least one run."""
    check, passed = _checks(view)
    named = f'<p class="kicker">Candlewick comparison</p><h1>{escape(view.title)}</h1>'
    header = f'<header class="top"><div class="named">{named}</div></header>'
    differing = setting_differences(view)
    columns = [("Setting", _TIME), *((letter(place), _TEXT) for place in range(len(view.runs)))]
    settings = table(columns, [[escape(name), *map(escape, values)] for name, values in differing])
    quotes = dict.fromkeys(run.quote for run in view.runs)
    note = "The best of each figure is bold. Differences to A; of shares in percentage points." if len(view.runs) > 1 else ""
    if len(quotes) > 1:
        note += f" Amounts are in {escape(', '.join(quotes))}, each run in its own; their differences mean little."
    command = f'<p>The same again:</p><pre class="command"><code>{escape(view.command)}</code></pre>' if view.command else ""
    chart = (
        f'<div id="equity-chart" {PAGE_CHART} aria-label="Growth of each run"></div><p class="note">{CHART_HINT}</p>{NO_SCRIPT}'
    )
    parts = [
        header,
        callouts(check, passed, _notices(view)),
        section("Runs", _runs_table(view), len(view.runs)),
        f'<section class="whole"><header><h2>Equity over initial cash</h2></header>{chart}</section>',
        section("Figures", _figures_table(view), note=note),
        _trade_counts(view),
        section(
            "What differs", settings if differing else '<p class="soft">The runs were asked for the same.</p>', len(differing)
        ),
        section("How to repeat it", command + _commands(view)),
    ]
    document: Document = {**frame_document(), "equity": _lines(view)}
    body = _swatches() + "\n".join(part for part in parts if part)
    footer = f"Amounts in {escape(', '.join(quotes))}, times in UTC."
    return render_page(f"{view.title}: Candlewick comparison", body, footer, document, "backtest.js", "backtest.css")


def _commands(view: ComparisonView) -> str:
    """Each run's own command."""
    shown = ((letter(place), run) for place, run in enumerate(view.runs) if run.command)
    return "".join(
        f'<p class="note">{name}</p><pre class="command"><code>{escape(run.command)}</code></pre>' for name, run in shown
    )


def _swatches() -> str:
    """The lines' colours for the table of runs, by scheme."""
    rules = {
        scheme: "".join(f".s{number}{{border-color:{colour}}}" for number, colour in enumerate(colours))
        for scheme, colours in SERIES.items()
    }
    return f"<style>{rules['light']}@media screen and (prefers-color-scheme: dark){{{rules['dark']}}}</style>"


def comparison_name(view: ComparisonView) -> str:
    """File name of a comparison: the same runs in the same order have the same one."""
    digest = sha256("\n".join(run.run_id for run in view.runs).encode()).hexdigest()[:12]
    return report_name(f"comparison-{digest}")


def write_comparison_report(view: ComparisonView, directory: Path) -> Path:
    """Write ``comparison-<digest of the run ids>.html`` and return its path.

    Raises CandlewickError when the folder cannot be written or is full.
    """
    return write_page(render_comparison_report(view), directory / comparison_name(view), "the runs are stored all the same")
