"""The parts that the backtesting reports share: who ran what, the warnings, the figures, months, tables, and how to repeat it."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape
from types import MappingProxyType

import polars as pl

from candlewick.figures import FIGURES
from candlewick.metrics import Measure
from candlewick.reports.backtest_view import MonteCarlo, RunFacts
from candlewick.reports.measures import (
    MEANINGS,
    Cell,
    as_decimal,
    cell_text,
    figure_title,
    figure_unit,
    figure_value,
    kind_title,
    ordered,
)
from candlewick.reports.numbers import MISSING, format_money, format_share, format_time
from candlewick.reports.sections import figure, minus, section, signed_money, signed_share, table

NAMED_SYMBOLS = 8
_NUMBER, _TIME, _TEXT = "n", "t", "text"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FULL_TINT_SHARE = Decimal("0.12")
_TINT_PERCENT = 55
PAGE_CHART = 'class="chart" tabindex="0" role="img"'
CHART_HINT = (
    '<span class="screen mouse">Drag to move, Ctrl + wheel to zoom, double-click for everything; arrow keys, + and − work too. '
    '</span><span class="screen touch">Tap the chart for its figures. </span>'
)
NO_SCRIPT = '<noscript><p class="note">The charts need JavaScript; the figures are in the tables as well.</p></noscript>'


def parameters_html(parameters: Mapping[str, str | int | float | bool]) -> str:
    """``fast 10, slow 50``, as code."""
    shown = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in parameters.items())
    return ", ".join(f"{escape(name)} <code>{escape(text)}</code>" for name, text in shown) or "no parameters"


def symbols_text(symbols: Sequence[str]) -> str:
    """The first symbols by name, and how many more there are."""
    more = len(symbols) - NAMED_SYMBOLS
    return ", ".join(symbols[:NAMED_SYMBOLS]) + (f" and {more:,} more, listed at the end" if more > 0 else "")


def timeframe_text(facts: RunFacts) -> str:
    """``1h candles, stops and targets ordered by 1m candles``."""
    detail = f", what happened first inside a bar is read from {facts.detail_timeframe}" if facts.detail_timeframe else ""
    return f"{facts.timeframe} candles{detail}"


def run_header(facts: RunFacts, headline: str = "") -> str:
    """Title, headline (ready HTML) and the facts of a run."""
    rows = [
        ("Market", f"{escape(facts.market)}, {escape(timeframe_text(facts))}", ""),
        ("Span (UTC)", f"{format_time(facts.since_at)} to {format_time(facts.until_at)}", ""),
        ("Started with", f"{format_money(facts.initial_cash, facts.quote)} {escape(facts.quote)}", ""),
        ("Run", f"<code>{escape(facts.run_id)}</code>", ""),
        ("Strategy", f"<b>{escape(facts.strategy)}</b>: {parameters_html(facts.parameters)}", "wide"),
        (f"Symbols ({len(facts.symbols):,})", escape(symbols_text(facts.symbols)), "wide"),
    ]
    items = "".join(f'<div class="{kind}"><dt>{name}</dt><dd>{value}</dd></div>' for name, value, kind in rows)
    kind = escape(kind_title(facts.kind))
    return (
        f'<header class="top"><div class="named"><p class="kicker">Candlewick {kind}</p><h1>{escape(facts.title)}</h1></div>'
        f'{headline}</header><dl class="facts">{items}</dl>'
    )


def headline(name: str, value: str, unit: str, below: str) -> str:
    """The one figure beside the title. All but ``name`` are ready HTML."""
    shown = f"<strong>{value} <small>{unit}</small></strong>"
    return f'<div class="equity"><span class="kicker">{escape(name)}</span>{shown}{below}</div>'


def callouts(check: str, check_passed: bool | None, notices: Sequence[str]) -> str:
    """The look-ahead verdict and the run's notices; a warning where the check did not pass or something is to be said."""
    lead = {True: "Look-ahead check", False: "The look-ahead check failed", None: "Look-ahead check"}[check_passed]
    verdict = f"<b>{lead}:</b> {escape(check)}" if check else f"<b>{lead}:</b> not done"
    good = f'<p class="verdict" role="note">{verdict}</p>' if check_passed else ""
    warned = "" if check_passed else f'<div class="callout" role="alert">{verdict}</div>'
    items = "".join(f"<li>{escape(notice)}</li>" for notice in notices)
    told = f'<div class="callout" role="note"><b>Notices</b><ul>{items}</ul></div>' if notices else ""
    return warned + told + good


def figure_html(name: str, value: Decimal | None, quote: str) -> str:
    """A figure as coloured text where its sign matters."""
    unit = figure_unit(name)
    if value is not None and unit == "signed money":
        return signed_money(value, quote)
    if value is not None and unit == "signed share":
        return signed_share(value)
    return minus(figure_value(name, value, quote))


def figures_section(figures: Mapping[str, Measure], quote: str, skip: Sequence[str] = ()) -> str:
    """Every figure in a box; an undefined one is a dash with its reason below and as tooltip."""
    items = []
    for name, measure in ordered(figures):
        if name in skip:
            continue
        if measure.value is None:
            reason = escape(measure.reason or "not defined")
            items.append(figure(figure_title(name), f'<span title="{reason}">{MISSING}</span>', reason))
            continue
        money = f"{escape(quote)} " if figure_unit(name).endswith("money") else ""
        items.append(
            figure(figure_title(name), figure_html(name, measure.value, quote), (money + MEANINGS.get(name, "")).strip())
        )
    return f'<section class="figures whole" aria-label="Headline figures">{"".join(items)}</section>' if items else ""


# ------------------------------------------------------------------------------------------------- months


def _tinted(share: Decimal | None) -> str:
    """A month's cell: the return with its sign, on a ground as strong as the return is large."""
    if share is None:
        return '<td class="n"></td>'
    strength = min(Decimal(1), abs(share) / _FULL_TINT_SHARE)
    ground = "gain" if share > 0 else "loss"
    tint = f' style="background:color-mix(in srgb,var(--{ground}) {strength * _TINT_PERCENT:.0f}%,transparent)"' if share else ""
    return f'<td class="n"{tint}>{minus(format_share(share, sign=True))}</td>'


def months_section(months: pl.DataFrame) -> str:
    """Returns by month and year. A year's return compounds the months shown."""
    if months.is_empty():
        return section("Months", '<p class="soft">No month has a return.</p>')
    shares: dict[int, dict[int, Decimal]] = {}
    for year, month, share in months.select("year", "month", "return_share").sort("year", "month").iter_rows():
        value = as_decimal(share)
        own = shares.setdefault(year, {})
        if value is not None:
            own[month] = value
    names = "".join(f'<th scope="col" class="n">{name}</th>' for name in (*_MONTHS, "Year"))
    head = f"<thead><tr><th></th>{names}</tr></thead>"
    rows = []
    for year, own in shares.items():
        grown = Decimal(1)
        for share in own.values():
            grown *= 1 + share
        cells = "".join(_tinted(own.get(month)) for month in range(1, 13))
        rows.append(f'<tr><th scope="row">{year}</th>{cells}<td class="n year">{signed_share(grown - 1)}</td></tr>')
    body = f'<div class="scroll"><table class="months">{head}<tbody>{"".join(rows)}</tbody></table></div>'
    return section(
        "Months", body, note="A year compounds its months. Colours are at their strongest from 12 % on; the sign says the same."
    )


# ------------------------------------------------------------------------------------------------- tables


def _cell(name: str, value: object, quote: str) -> str:
    """A frame's cell as ready HTML."""
    if isinstance(value, datetime):
        return format_time(value)
    plain: Cell = value if value is None or isinstance(value, str | int | float | bool | Decimal) else str(value)
    if figure_unit(name).startswith("signed") and as_decimal(plain) is not None:
        return figure_html(name, as_decimal(plain), quote)
    text = cell_text(name, plain, quote)
    return escape(text) if isinstance(plain, str) else minus(text)


def frame_table(frame: pl.DataFrame, quote: str, known: Mapping[str, tuple[str, str]] = MappingProxyType({})) -> str:
    """Any frame as a table: columns named as figures are written in their units, texts are escaped.

    ``known`` has the title and the figure's name of columns that are not called as a figure is.
    """
    titles = {name: known.get(name, (figure_title(name), name)) for name in frame.columns}
    columns = []
    for name, kind in frame.schema.items():
        text = kind in (pl.String(), pl.Boolean()) or kind.is_temporal()
        columns.append((titles[name][0], _TIME if text else _NUMBER))
    rows = [[_cell(titles[name][1], value, quote) for name, value in row.items()] for row in frame.iter_rows(named=True)]
    return table(columns, rows)


def symbols_section(frame: pl.DataFrame, quote: str) -> str:
    """What each symbol did."""
    if frame.is_empty():
        return section("Symbols", '<p class="soft">No symbol has figures.</p>')
    return section("Symbols", frame_table(frame, quote), frame.height)


def monte_carlo_section(monte_carlo: MonteCarlo | None, quote: str) -> str:
    """What the same trades in another order would have given."""
    if monte_carlo is None:
        return ""
    names = ("p05", "p25", "p50", "p75", "p95")
    heads = ("5 %", "25 %", "Median", "75 %", "95 %")
    rows = [
        [escape(figure_title(row["figure"])), *(figure_html(row["figure"], as_decimal(row[name]), quote) for name in names)]
        for row in monte_carlo.quantiles.iter_rows(named=True)
    ]
    body = table([("Figure", _TIME), *((head, _NUMBER) for head in heads)], rows)
    note = f"{monte_carlo.draws:,} random orders of the trades, seed {monte_carlo.seed}. {escape(monte_carlo.text)}"
    return section("The same trades in another order", body, note=note)


def texts_html(texts: Sequence[str]) -> str:
    """Explanations as notes."""
    return "".join(f'<p class="note">{escape(text)}</p>' for text in texts)


def _formulas() -> str:
    """What each figure is, by whom."""
    rows = [[escape(one.title), escape(one.formula), escape(one.source)] for one in FIGURES.values()]
    listed = table([("Figure", _TIME), ("Formula", _TEXT), ("Source", _TEXT)], rows)
    return f"<details><summary>How the figures are computed</summary>{listed}</details>"


def provenance_section(facts: RunFacts) -> str:
    """What the run was made of, how its figures are computed, and the command that repeats it."""
    command = (
        f'<p>The same run again:</p><pre class="command"><code>{escape(facts.command)}</code></pre>' if facts.command else ""
    )
    versions = f'<p class="note">Code <code>{escape(facts.code_version)}</code>, run <code>{escape(facts.run_id)}</code>.</p>'
    rules = [[escape(name.replace("_", " ")), escape(value)] for name, value in facts.rules.items()]
    digests = [[escape(symbol), escape(digest)] for symbol, digest in facts.candle_digests.items()]
    body = command + versions
    if rules:
        listed = table([("Rule", _TIME), ("Value", _TEXT)], rules)
        body += f'<details open><summary>Rules</summary><div class="rules">{listed}</div></details>'
    if digests:
        shown = "open" if len(digests) <= NAMED_SYMBOLS else ""
        listed = table([("Symbol", _TIME), ("SHA-256 of the candles", "digest")], digests)
        body += f"<details {shown}><summary>Candles</summary>{listed}</details>"
    return section(
        "How to repeat it", body, note="Equal candles, code, rules and parameters give the same orders, fills and figures."
    )
