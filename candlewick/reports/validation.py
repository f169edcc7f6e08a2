"""The report of a validation: one HTML file with the verdict, its criteria, pictures, and every hole and disagreement."""

from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from html import escape
from pathlib import Path

from candlewick.quality.comparison import HISTOGRAM_EDGES_BPS, BarRun, Source, SourceComparison
from candlewick.quality.disagreements import Disagreement
from candlewick.reports.curves import step_text
from candlewick.reports.html import report_name
from candlewick.reports.numbers import MISSING, format_count, format_time
from candlewick.reports.page import render_page, write_page
from candlewick.reports.run_sections import CHART_HINT, NO_SCRIPT, PAGE_CHART
from candlewick.reports.sections import figure, minus, section, table
from candlewick.reports.validation_figures import drawn_step_ms, validation_document
from candlewick.reports.validation_view import ValidationView
from candlewick.timeframes import format_utc, utc

MAX_ROWS = 200
"""Rows of a table; beyond, the longest holes and the largest disagreements."""
_NUMBER, _TIME, _TEXT = "n", "t", "text"
_STYLE = (
    "<style>#equity-chart{height:760px}#histogram,#lag{height:300px}.no{color:var(--loss);font-weight:600}"
    "@media (max-width:640px){#equity-chart{height:640px}}</style>"
)


def render_validation_report(view: ValidationView) -> str:
    """The report as HTML; equal views give equal pages."""
    found = view.comparison
    parts = [
        _header(view),
        _callouts(view),
        _figures(found),
        _pictures(found),
        _criteria(view),
        _distribution(found),
        _holes(found),
        _disagreements(found),
        _kept(view),
        _repeat(view),
    ]
    body = _STYLE + "\n".join(part for part in parts if part)
    footer = "Differences are those of our price from the other source's, in basis points of the other's. Times are in UTC."
    return render_page(
        f"{view.title}: Candlewick validation", body, footer, validation_document(found), "backtest.js", "backtest.css"
    )


def validation_name(view: ValidationView) -> str:
    """File name: the same two series over the same span have the same one."""
    found = view.comparison
    digest = sha256(f"{found.ours}\n{found.other}\n{found.span}".encode()).hexdigest()[:8]
    plain = f"{found.ours.label} {found.other.label} {found.ours.series.timeframe}".replace("/", "").replace(" ", "-")
    return report_name(f"validation-{plain}-{digest}")


def write_validation_report(view: ValidationView, directory: Path) -> Path:
    """Write ``validation-<sources>-<digest>.html`` and return its path.

    Raises CandlewickError when the folder cannot be written or is full.
    """
    return write_page(render_validation_report(view), directory / validation_name(view), "the findings are stored all the same")


# ------------------------------------------------------------------------------------------------- above the pictures


def _header(view: ValidationView) -> str:
    found = view.comparison
    facts = [(f"{source.name}", f"{escape(source.label)}, {_bars_text(source, found)}") for source in (found.ours, found.other)]
    facts.append(("Common span (UTC)", str(found.span) if found.span else "none: the sources do not meet in time"))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in facts)
    colour = "gain" if view.judgement.verdict == "agree" else "loss"
    verdict = (
        f'<div class="equity"><span class="kicker">Verdict</span><strong class="{colour}">{view.judgement.verdict}</strong></div>'
    )
    named = f'<div class="named"><p class="kicker">Candlewick validation</p><h1>{escape(view.title)}</h1></div>'
    return f'<header class="top">{named}{verdict}</header><dl class="facts">{items}</dl>'


def _bars_text(source: Source, found: SourceComparison) -> str:
    span, bars = (found.ours_span, found.ours_bars) if source is found.ours else (found.other_span, found.other_bars)
    if span is None:
        return "no bar"
    return f"{format_count(bars, 'bar')} in the common span<br>there from {span}"


def _callouts(view: ValidationView) -> str:
    sentence = escape(view.sentence)
    said = f'<p class="verdict" role="note">{sentence}</p>'
    if view.judgement.verdict != "agree":
        said = f'<div class="callout" role="alert">{sentence}</div>'
    items = "".join(f"<li>{escape(notice)}</li>" for notice in view.all_notices)
    return said + (f'<div class="callout" role="note"><b>Notices</b><ul>{items}</ul></div>' if items else "")


def _figures(found: SourceComparison) -> str:
    difference, volume, ranges, lag = found.difference, found.volume, found.ranges, found.lag
    boxes = [
        figure("Common bars", f"{found.common_bars:,}", f"{found.identical_bars:,} of them identical"),
        figure(f"Missing at {escape(found.ours.name)}", f"{found.only_other_bars:,}", _runs(found.only_other)),
        figure(f"Missing at {escape(found.other.name)}", f"{found.only_ours_bars:,}", _runs(found.only_ours)),
    ]
    if difference is not None:
        at = format_time(utc(difference.max_at_ms))
        boxes += [
            figure("Median difference", _bps(difference.median_bps), f"bps; mean {_bps(difference.mean_bps)}"),
            figure("95th percentile", _bps(difference.p95_bps), f"bps; 99th {_bps(difference.p99_bps)}"),
            figure("Largest difference", _bps(difference.max_bps), f"bps, {at} UTC"),
            figure("Bias", _bps(difference.bias_bps, sign=True), "bps, median of the signed difference"),
        ]
    boxes.append(figure("Disagreements", f"{len(found.disagreements):,}", f"{found.disagreeing_bars:,} bars about a price"))
    if volume is not None:
        zero = f"zero: {volume.ours_zero_share:.2%} here, {volume.other_zero_share:.2%} there"
        boxes.append(figure("Volume ratio", MISSING if volume.median is None else f"{volume.median:.4g}", zero))
    if ranges is not None:
        why = f"{ranges.overlap_at_level_share:.1%} of ranges meet, level aside"
        boxes.append(figure("Close inside the other's range", f"{ranges.close_inside_share:.1%}", why))
    if lag is not None:
        boxes.append(
            figure("Shift in time", minus(f"{lag.best_bars:+d}") if lag.best_bars else "none", f"correlation {lag.best:.3f}")
        )
    return f'<section class="figures whole" aria-label="Headline figures">{"".join(boxes)}</section>'


def _runs(runs: Sequence[BarRun]) -> str:
    return f"bars in {format_count(len(runs), 'run')}" if runs else "it has all that the other has"


def _bps(value: float, *, sign: bool = False) -> str:
    text = f"{value:{'+' if sign else ''},.1f}"
    return minus("0.0" if float(text.replace(",", "")) == 0 else text)


# ------------------------------------------------------------------------------------------------- pictures and tables


def _pictures(found: SourceComparison) -> str:
    parts = []
    if found.bars.height:
        label = "Closes of both sources, their difference, the ratio of volumes and the bars there are, over time"
        step = step_text(drawn_step_ms(found))
        note = f'<p class="note">{CHART_HINT}A point is {step}: its last closes, its lowest, median and highest difference.</p>'
        chart = f'<div id="equity-chart" {PAGE_CHART} aria-label="{label}"></div>{note}{NO_SCRIPT}'
        parts.append(f'<section class="whole"><header><h2>Over time</h2></header>{chart}</section>')
    still = [("histogram", "Distribution of the difference")] if found.bars.height else []
    still += [("lag", "Shifted in time")] if found.lag is not None else []
    charts = [(title, f'<div id="{name}" {PAGE_CHART} aria-label="{title}"></div>') for name, title in still]
    cards = "".join(f'<section class="whole"><header><h2>{title}</h2></header>{chart}</section>' for title, chart in charts)
    return "".join(parts) + (f'<div class="panels">{cards}</div>' if cards else "")


def _criteria(view: ValidationView) -> str:
    rows = [
        [
            escape(one.name),
            escape(one.value),
            escape(one.limit),
            "met" if one.is_met else '<span class="no">not met</span>',
            escape(one.reason),
        ]
        for one in view.judgement.criteria
    ]
    columns = [("Criterion", _TIME), ("Value", _NUMBER), ("Limit", _TIME), ("", _TIME), ("", _TEXT)]
    note = "One that is not met makes the verdict differ, of the first four unusable. docs/data.md has the reasons of the limits."
    return section("Criteria", table(columns, rows), note=note)


def _distribution(found: SourceComparison) -> str:
    difference = found.difference
    if difference is None:
        return ""
    rows, below = [], 0
    for low, high, bars in zip(HISTOGRAM_EDGES_BPS[:-1], HISTOGRAM_EDGES_BPS[1:], difference.histogram, strict=True):
        below += bars
        name = f"{low:,g} and more" if high == float("inf") else f"{low:,g} to {high:,g}"
        rows.append([name, f"{bars:,}", f"{bars / found.common_bars:.2%}", f"{below / found.common_bars:.2%}"])
    columns = [("Absolute difference, bps", _TIME), ("Bars", _NUMBER), ("Share", _NUMBER), ("Up to here", _NUMBER)]
    return section("How far apart", f'<div class="narrow">{table(columns, rows)}</div>')


def _holes(found: SourceComparison) -> str:
    holes = [(found.ours, run) for run in found.only_other] + [(found.other, run) for run in found.only_ours]
    if not holes:
        return section(
            "Bars that one of them lacks", '<p class="soft">None: both have the same bars over the common span.</p>', 0
        )
    shown = sorted(sorted(holes, key=lambda hole: -hole[1].bars)[:MAX_ROWS], key=lambda hole: hole[1].since_ms)
    columns = [("Missing at", _TIME), ("From (UTC)", _TIME), ("To (UTC)", _TIME), ("Bars", _NUMBER)]
    rows = [[escape(source.label), format_utc(run.since_ms), format_utc(run.until_ms), f"{run.bars:,}"] for source, run in shown]
    note = f"The {len(shown):,} longest of {len(holes):,}." if len(shown) < len(holes) else ""
    return section("Bars that one of them lacks", f'<div class="narrow">{table(columns, rows)}</div>', len(holes), note)


def _disagreements(found: SourceComparison) -> str:
    count = len(found.disagreements)
    if not count:
        return section("Disagreements", '<p class="soft">None.</p>', 0)
    worst = sorted(found.disagreements, key=lambda one: -abs(one.difference_bps))[:MAX_ROWS]
    shown = sorted(worst, key=lambda one: one.since_ms)
    columns = [
        *(("From (UTC)", _TIME), ("Bars", _NUMBER), ("Kind", _TIME), ("Largest at (UTC)", _TIME), ("", _TIME)),
        *((found.ours.name, _NUMBER), (found.other.name, _NUMBER), ("bps", _NUMBER), ("Robust z", _NUMBER)),
    ]
    note = f"The {len(shown):,} largest of {count:,}. " if len(shown) < count else ""
    note += (
        "Beyond: far from the other's close, whatever the days around. Outlier: far from the level of the bars around. "
        "Wick: a high or low that only one source has. Not identical: the sources tell one feed, and this bar differs."
    )
    return section("Disagreements", table(columns, [_disagreement(one) for one in shown]), count, note)


def _disagreement(one: Disagreement) -> list[str]:
    values = (f"{Decimal(repr(value)):,f}" for value in (one.ours, one.other))
    return [
        format_utc(one.since_ms),
        f"{one.bars:,}",
        one.cause.replace("_", " "),
        format_utc(one.at_ms),
        one.column,
        *values,
        minus(f"{one.difference_bps:+,.1f}"),
        MISSING if one.z is None else minus(f"{one.z:.1f}"),
    ]


def _kept(view: ValidationView) -> str:
    """What a look into the quality table finds, by kind."""
    if not view.findings:
        return ""
    note = "Findings about our series: repair, status and every run that asks whether its window is clean see them."
    return section("Kept in the quality table", f"<p>{escape(view.found_text)}</p>", len(view.findings), note)


def _repeat(view: ValidationView) -> str:
    if not view.command:
        return ""
    return section("How to repeat it", f'<pre class="command"><code>{escape(view.command)}</code></pre>')
