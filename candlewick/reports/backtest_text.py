"""What a backtesting run says at its end: to the terminal, and to Prefect's artifacts. Nothing here depends on colour."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from candlewick.metrics import Measure
from candlewick.reports.backtest_view import BacktestView, ComparisonView, RunFacts, SweepView, WalkForwardView
from candlewick.reports.comparison import difference_text, figure_rows, letter, setting_differences
from candlewick.reports.measures import cell_text, figure_title, figure_value, kind_title, measure_text, ordered
from candlewick.reports.numbers import MISSING, format_money, format_price, format_share, format_time
from candlewick.reports.summary import heading, indented, markdown_cell
from candlewick.reports.sweep import best_text, sets_text, sweep_figures, top_frame
from candlewick.reports.walk_forward import kept_text, window_columns, windows_frame

HEADLINES = ("final_equity", "total_return", "benchmark_return", "sharpe", "max_drawdown", "trades", "win_rate", "profit_factor")
"""What a trader reads first."""
SHOWN_TRADES = 5
SHOWN_SYMBOLS = 10
SET_FIGURES = ("total_return", "sharpe", "max_drawdown", "trades", "win_rate")
"""Beside its parameters and the objective, what a terminal has room for of each of the best sets; the report shows more."""
SHOWN_WINDOWS = 12
MAX_ARTIFACT_ROWS = 50


_NUMBER = re.compile(r"[+-]?[\d,.]+( ?(%|[A-Za-z]+))?|")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of ready text: its title, the columns' titles and rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


# ------------------------------------------------------------------------------------------------- contents


def run_sentence(facts: RunFacts) -> str:
    """What ran on what, in one line."""
    names = ", ".join(facts.symbols[:5]) + (f" and {len(facts.symbols) - 5:,} more" if len(facts.symbols) > 5 else "")
    chosen = " ".join(f"{name}={cell_text('', value, facts.quote)}" for name, value in facts.parameters.items())
    span = f"{format_time(facts.since_at)} to {format_time(facts.until_at)} UTC"
    return f"{facts.strategy} {chosen}".strip() + f" on {names} ({facts.market} {facts.timeframe}), {span}"


def check_sentence(facts: RunFacts) -> str:
    """The look-ahead verdict; it begins with FAILED where the check did."""
    lead = "FAILED, " if facts.check_passed is False else ""
    return f"Look-ahead check: {lead}{facts.check or 'not done'}"


def _figure_grid(figures: Mapping[str, Measure], quote: str, title: str = "Figures") -> Grid:
    rows = tuple((figure_title(name), measure_text(name, measure, quote)) for name, measure in ordered(figures))
    return Grid(title, ("Figure", "Value"), rows)


def frame_grid(
    title: str, frame: pl.DataFrame, quote: str, limit: int, known: Mapping[str, tuple[str, str]] | None = None
) -> Grid:
    """A frame's first rows as text; ``known`` as in run_sections.frame_table. The title says how many rows are left out."""
    titles = {name: (known or {}).get(name, (figure_title(name), name)) for name in frame.columns}
    shown = frame.head(limit)
    rows = tuple(tuple(cell_text(titles[name][1], row[name], quote) for name in titles) for row in shown.iter_rows(named=True))
    more = f" (the first {limit:,} of {frame.height:,})" if frame.height > limit else ""
    return Grid(title + more, tuple(one for one, _ in titles.values()), rows)


def _trade_grid(view: BacktestView, limit: int) -> Grid:
    """The newest trades."""
    rows = []
    for trade in view.trades.tail(limit).reverse().iter_rows(named=True):
        closed = format_time(trade["closed_at"]) if trade["closed_at"] is not None else "open"
        cells = [format_time(trade["opened_at"]), closed, trade["symbol"], trade["side"] or "long"]
        cells += [format_price(trade["entry_price"]), format_price(trade["exit_price"])]
        rows.append((*cells, format_money(trade["pnl"], view.quote, sign=True), format_share(trade["return_share"], sign=True)))
    columns = ("Opened", "Closed", "Symbol", "Side", "Entry", "Exit", f"P&L {view.quote}", "Return")
    count = view.trades.height
    title = "Trades" if count <= limit else f"Trades (the newest {limit:,} of {count:,})"
    return Grid(title, columns, tuple(rows))


def _month_grid(view: BacktestView) -> Grid:
    """Returns by month, a year a row, a dash where there is none."""
    shares = {(year, month): share for year, month, share in view.months.select("year", "month", "return_share").iter_rows()}
    years = sorted({year for year, _ in shares})
    rows = tuple(
        (str(year), *(cell_text("total_return", shares.get((year, month)), "") for month in range(1, 13))) for year in years
    )
    return Grid("Months", ("Year", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), rows)


def _sweep_grids(view: SweepView, limit: int, only: Sequence[str] | None = None) -> list[Grid]:
    """Headline figures, and the best sets with their parameters, the objective and all other figures or ``only`` these."""
    rows = tuple(
        (name, text if measure.value is not None else f"{MISSING} ({measure.reason})", why)
        for name, measure, text, why in sweep_figures(view)
    )
    top = top_frame(view)
    if only is not None:
        kept = ("rank", *view.grid, view.objective, *only)
        top = top.select(name for name in top.columns if name in kept)
    known = {name: (name, "") for name in view.grid}
    return [Grid("Figures", ("Figure", "Value", "What it is"), rows), frame_grid("Best sets", top, view.quote, limit, known)]


def _comparison_grids(view: ComparisonView) -> list[Grid]:
    letters = tuple(letter(place) for place in range(len(view.runs)))
    quote = view.runs[0].quote
    rows = []
    for name, measures in figure_rows(view):
        values = [figure_value(name, one.value, run.quote) for one, run in zip(measures, view.runs, strict=True)]
        rows.append((figure_title(name), *values, *(difference_text(name, measures[0], one, quote) for one in measures[1:])))
    figures = Grid("Figures", ("Figure", *letters, *(f"{one} - A" for one in letters[1:])), tuple(rows))
    differing = tuple((name, *values) for name, values in setting_differences(view))
    return [figures, Grid("What differs", ("Setting", *letters), differing)]


# ------------------------------------------------------------------------------------------------- terminal


def _grid_table(grid: Grid) -> list[RenderableType]:
    """A grid for the terminal: first column to the left, the others to the right where they are numbers."""
    blocks: list[RenderableType] = [heading(grid.title)]
    if not grid.rows:
        return [*blocks, indented("none")]
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, name in enumerate(grid.columns):
        is_number = place > 0 and all(_NUMBER.fullmatch(row[place]) for row in grid.rows if row[place] != MISSING)
        shown.add_column(name.replace(MISSING, "-"), justify="right" if is_number else "left", overflow="fold")
    for row in grid.rows:
        shown.add_row(*(Text(cell.replace(MISSING, "-")) for cell in row))
    return [*blocks, Padding(shown, (0, 0, 0, 2))]


def _facts_blocks(facts: RunFacts) -> list[RenderableType]:
    blocks: list[RenderableType] = [Text(f"{kind_title(facts.kind).upper()}  {facts.title}", style="bold")]
    blocks.append(indented(run_sentence(facts)))
    blocks.append(indented(check_sentence(facts), style="" if facts.check_passed else "bold"))
    return blocks


def _ending(notices: Sequence[str], report: str | None, command: str) -> list[RenderableType]:
    blocks: list[RenderableType] = []
    if notices:
        blocks += [heading("Notices"), *(indented(f"- {notice}") for notice in notices)]
    if report:
        blocks += [heading("Report"), indented(report)]
    if command:
        blocks += [heading("The same again"), indented(command)]
    return blocks


def _headline_blocks(figures: Mapping[str, Measure], quote: str) -> list[RenderableType]:
    """The figures read first, two lines of four; those undefined with the reason below."""
    names = [name for name in HEADLINES if name in figures]
    grid = Table.grid(padding=(0, 3, 0, 0))
    for start in range(0, len(names), 4):
        own = names[start : start + 4]
        grid.add_row(*(Text(figure_title(name), style="dim") for name in own))
        grid.add_row(*(Text(figure_value(name, figures[name].value, quote).replace(MISSING, "-"), style="bold") for name in own))
    why = [
        f"{figure_title(name)}: {figures[name].reason}" for name in names if figures[name].value is None and figures[name].reason
    ]
    return [Padding(grid, (1, 0, 0, 2)), *(indented(line, style="dim") for line in why)]


def render_backtest(view: BacktestView, report: str | None = None) -> RenderableType:
    """A backtest for the terminal; ``report`` is where its HTML stands."""
    others = {name: measure for name, measure in view.figures.items() if name not in HEADLINES}
    blocks = [*_facts_blocks(view), *_headline_blocks(view.figures, view.quote)]
    blocks += _grid_table(_figure_grid(others, view.quote, "More figures"))
    if len(view.symbols) > 1:
        blocks += _grid_table(frame_grid("Symbols", view.symbols_table, view.quote, SHOWN_SYMBOLS))
    blocks += _grid_table(_trade_grid(view, SHOWN_TRADES))
    return Group(*blocks, *_ending(view.notices, report, view.command))


def render_sweep(view: SweepView, report: str | None = None) -> RenderableType:
    """A sweep for the terminal: the best set, what luck explains, the best sets."""
    blocks = [*_facts_blocks(view), indented(f"{sets_text(view)}. Best {figure_title(view.objective)}: {best_text(view)}.")]
    for grid in _sweep_grids(view, view.top, SET_FIGURES):
        blocks += _grid_table(grid)
    return Group(*blocks, *_ending(view.notices, report, view.command))


def render_walk_forward(view: WalkForwardView, report: str | None = None) -> RenderableType:
    """A walk-forward for the terminal: out-of-sample figures first, then the windows."""
    blocks = [*_facts_blocks(view), *_headline_blocks(view.figures, view.quote)]
    blocks.append(indented(f"{kept_text(view)}; efficiency {measure_text('efficiency', view.efficiency, view.quote)}."))
    frame = windows_frame(view).drop("train").with_columns(pl.col("test").str.split(" to ").list.first().alias("test"))
    blocks += _grid_table(
        frame_grid("Windows, by the day their test begins", frame, view.quote, SHOWN_WINDOWS, window_columns(view))
    )
    blocks += _grid_table(frame_grid("How steady the choice was", view.stability, view.quote, SHOWN_SYMBOLS))
    blocks += [heading("Is it luck"), *(indented(text) for text in view.texts)] if view.texts else []
    return Group(*blocks, *_ending(view.notices, report, view.command))


def render_comparison(view: ComparisonView, report: str | None = None) -> RenderableType:
    """A comparison for the terminal: which run is which, figures side by side, what differs."""
    blocks: list[RenderableType] = [Text(f"COMPARISON  {view.title}", style="bold")]
    for place, run in enumerate(view.runs):
        blocks.append(indented(f"{letter(place)}  {run.run_id}: {run_sentence(run)}. {check_sentence(run)}"))
    for grid in _comparison_grids(view):
        blocks += _grid_table(grid)
    return Group(*blocks, *_ending(view.notices, report, view.command))


# ------------------------------------------------------------------------------------------------- artifacts


def _markdown_grid(grid: Grid) -> list[str]:
    if not grid.rows:
        return [f"### {grid.title}", "", "None.", ""]
    marks = ["---", *("--:" for _ in grid.columns[1:])]
    lines = [f"### {grid.title}", "", _markdown_row(grid.columns), f"|{'|'.join(marks)}|"]
    return [*lines, *map(_markdown_row, grid.rows), ""]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_cell, cells)) + " |"


def _markdown_head(facts: RunFacts) -> list[str]:
    verdict = markdown_cell(check_sentence(facts))
    lines = [f"## {kind_title(facts.kind).capitalize()}: {markdown_cell(facts.title)}", ""]
    lines += [f"{markdown_cell(run_sentence(facts))}.", "", verdict if facts.check_passed else f"**{verdict}**", ""]
    return lines + [f"- {markdown_cell(notice)}" for notice in facts.notices] + [""]


def _markdown_end(facts: RunFacts) -> list[str]:
    lines = [f"Run `{facts.run_id}`, code `{facts.code_version}`."]
    lines += ["", "```", facts.command.replace("```", "` ` `"), "```"] if facts.command else []
    digests = [(symbol, digest) for symbol, digest in facts.candle_digests.items()][:MAX_ARTIFACT_ROWS]
    return [*lines, "", *(f"- {markdown_cell(symbol)}: `{digest}`" for symbol, digest in digests)]


def backtest_markdown(view: BacktestView) -> str:
    """A backtest as a Markdown artifact."""
    grids = [_figure_grid(view.figures, view.quote), _month_grid(view)]
    if len(view.symbols) > 1:
        grids.append(frame_grid("Symbols", view.symbols_table, view.quote, MAX_ARTIFACT_ROWS))
    grids.append(_trade_grid(view, MAX_ARTIFACT_ROWS))
    lines = [line for grid in grids for line in _markdown_grid(grid)]
    return "\n".join([*_markdown_head(view), *lines, *_markdown_end(view)]) + "\n"


def sweep_markdown(view: SweepView) -> str:
    """A sweep as a Markdown artifact."""
    lines = [line for grid in _sweep_grids(view, MAX_ARTIFACT_ROWS) for line in _markdown_grid(grid)]
    texts = [f"{markdown_cell(text)}\n" for text in (f"{sets_text(view)}.", *view.texts)]
    return "\n".join([*_markdown_head(view), *texts, *lines, *_markdown_end(view)]) + "\n"


def walk_forward_markdown(view: WalkForwardView) -> str:
    """A walk-forward as a Markdown artifact."""
    figures = {"efficiency": view.efficiency, **view.figures}
    grids = [
        _figure_grid(figures, view.quote, "Out of sample"),
        frame_grid("Windows", windows_frame(view), view.quote, MAX_ARTIFACT_ROWS, window_columns(view)),
        frame_grid("How steady the choice was", view.stability, view.quote, MAX_ARTIFACT_ROWS),
    ]
    lines = [line for grid in grids for line in _markdown_grid(grid)]
    texts = [f"{markdown_cell(text)}\n" for text in (f"{kept_text(view)}.", *view.texts)]
    return "\n".join([*_markdown_head(view), *texts, *lines, *_markdown_end(view)]) + "\n"


def comparison_markdown(view: ComparisonView) -> str:
    """A comparison as a Markdown artifact."""
    lines = [f"## Comparison: {markdown_cell(view.title)}", ""]
    for place, run in enumerate(view.runs):
        lines += [
            f"- **{letter(place)}** `{run.run_id}`: {markdown_cell(run_sentence(run))}. {markdown_cell(check_sentence(run))}"
        ]
    lines += ["", *(f"- {markdown_cell(notice)}" for notice in view.notices), ""]
    lines += [line for grid in _comparison_grids(view) for line in _markdown_grid(grid)]
    lines += ["```", view.command.replace("```", "` ` `"), "```"] if view.command else []
    return "\n".join(lines) + "\n"


def trade_rows(view: BacktestView) -> list[dict[str, str]]:
    """The newest trades as rows of a table artifact."""
    grid = _trade_grid(view, MAX_ARTIFACT_ROWS)
    return [dict(zip(grid.columns, row, strict=True)) for row in grid.rows]


def set_rows(view: SweepView) -> list[dict[str, str]]:
    """The best sets as rows of a table artifact."""
    grid = _sweep_grids(view, MAX_ARTIFACT_ROWS)[1]
    return [dict(zip(grid.columns, row, strict=True)) for row in grid.rows]
