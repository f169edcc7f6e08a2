"""A session's status for people and programs: the terminal, Prefect's artifact, JSON. Nothing here depends on colour."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from candlewick.json_text import Json, plain
from candlewick.monitoring.liveness import ALIVE, Liveness, health, process_text
from candlewick.monitoring.status import SessionStatus
from candlewick.monitoring.status_rows import (
    NARROW_COLUMNS,
    SYMBOL_COLUMNS,
    Concern,
    age_text,
    by_urgency,
    concerns,
    money,
    narrow_row,
    risk_rows,
    state_word,
    symbol_row,
)
from candlewick.reports.numbers import format_count, format_share, format_span
from candlewick.reports.summary import heading, indented, markdown_cell

MOST_CONCERNS = 12
MOST_NOTICES = 12
MOST_MARKDOWN_SYMBOLS = 250
"""Rows of the artifact: those that need attention come first, so what is left out runs as it should."""
_LONGEST_CELL = 120
_WITHIN = "ok"
_NARROW = 150
_WIDEST_STATE = 50
_RIGHT = ("age", "position", "unrealized", "errors", "restarts", "failures")
_STYLES = {"QUARANTINED": "bold red", "ERROR": "red", "RECOVERING": "yellow", "PAUSED": "yellow"}


# ------------------------------------------------------------------------------------------------- sentences


def health_text(status: SessionStatus) -> str:
    """`197 of 200 symbols healthy`."""
    return f"{status.healthy_symbols:,} of {format_count(len(status.symbols), 'symbol')} healthy"


def title_text(status: SessionStatus, alive: Liveness = ALIVE) -> str:
    """Desk, state, healthy symbols and uptime in one line."""
    state = status.state if alive.verdict in ("alive", "ended") else alive.verdict.upper()
    planned = format_span(status.ends_at - status.started_at)
    when = "" if alive.verdict == "alive" else "at its last heartbeat "
    return f"{state}  desk {status.name}: {when}{health_text(status)}, up {_uptime(status)} of {planned}"


def origin_text(status: SessionStatus, now: datetime) -> str:
    """What is traded where, and by which process."""
    beat = age_text(max(now - status.heartbeat_at, timedelta(0)))
    return (
        f"{status.strategy} on {status.market} {status.timeframe}; session {status.session_id}, "
        f"process {process_text(status.process)}, heartbeat {beat} ago"
    )


def counts_text(status: SessionStatus) -> str:
    """What the session has done so far."""
    rejected = f" ({status.rejections:,} rejected)" if status.rejections else ""
    parts = [
        format_count(status.bars, "bar"),
        format_count(status.signals, "signal") + rejected,
        format_count(status.orders, "order"),
        format_count(status.fills, "fill"),
        format_count(status.errors, "error"),
        format_count(status.restarts, "restart"),
    ]
    return ", ".join(parts)


def connections_text(status: SessionStatus) -> str:
    """How fast bars are committed, what answers, and what still waits to be sent."""
    lags = "no bar yet"
    if status.lag_p50_s is not None and status.lag_p99_s is not None:
        lags = f"p50 {status.lag_p50_s:.2f} s, p99 {status.lag_p99_s:.2f} s"
    redis = {None: "Redis not set", True: "Redis connected", False: "REDIS DOES NOT ANSWER"}[status.bus_connected]
    store = "store connected" if status.store_connected else "THE LAST COMMIT FAILED"
    waiting = ", ".join(f"{sink} {count:,}" for sink, count in status.outbox_waiting.items() if count) or "nothing"
    failed = f" ({status.bus_failures:,} handlers failed)" if status.bus_failures else ""
    return (
        f"Bar close to commit: {lags}. {store[0].upper()}{store[1:]}, {redis}. Bus: {format_count(status.bus_events, 'event')}"
        f"{failed}; to be sent outside: {waiting}. Memory {status.memory_mb:,.0f} MB."
    )


def figures(status: SessionStatus) -> dict[str, str]:
    """Equity, results and exposure by their titles."""
    return {
        "Equity": f"{money(status.equity, status)} {status.quote}",
        "Day P&L": money(status.day_pnl, status, sign=True),
        "Drawdown": format_share(status.drawdown_share),
        "Positions": f"{status.open_positions:,}",
        "Gross": money(status.gross_exposure, status),
        "Net": money(status.net_exposure, status),
    }


def status_json(status: SessionStatus, alive: Liveness = ALIVE) -> dict[str, Json]:
    """Everything a status says, JSON-ready, and what is concluded from it (``health``: success, partial or failure)."""
    document = plain(status)
    assert isinstance(document, dict)
    concluded: dict[str, Json] = {
        "verdict": alive.verdict,
        "message": alive.sentence or None,
        "health": health(status, alive),
        "is_healthy": health(status, alive) == "success",
        "healthy_symbols": status.healthy_symbols,
        "total_symbols": len(status.symbols),
    }
    return concluded | document


def _uptime(status: SessionStatus) -> str:
    return age_text(timedelta(seconds=status.uptime_s))


# ------------------------------------------------------------------------------------------------- terminal


class _SymbolsTable:
    """One line a symbol, as the terminal's width allows. On a narrow one the reasons stand above the table only."""

    def __init__(self, status: SessionStatus, now: datetime) -> None:
        self._status = status
        self._now = now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        narrow = options.max_width < _NARROW
        table = Table(box=None, padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False, header_style="dim")
        columns = NARROW_COLUMNS if narrow else SYMBOL_COLUMNS
        for key, title in columns.items():
            wraps = key in (("symbol", "signal") if narrow else ("state", "signal"))
            table.add_column(
                title,
                justify="right" if key in _RIGHT else "left",
                no_wrap=not wraps,
                overflow="fold",
                max_width=_WIDEST_STATE if key == "state" else None,
            )
        for one in by_urgency(self._status.symbols):
            row = symbol_row(self._status, one, self._now)
            cells = narrow_row(row) if narrow else row
            style = _STYLES.get(state_word(one), "")
            table.add_row(*(Text(cells[key], style=style if key == "state" else "") for key in columns))
        yield table


def render_status(status: SessionStatus, now: datetime, alive: Liveness = ALIVE) -> RenderableType:
    """The status for the terminal; readable at 80 columns and without colour. What needs attention comes first."""
    well = health(status, alive)
    style = {"success": "bold", "partial": "bold yellow", "failure": "bold red"}[well]
    blocks: list[RenderableType] = [Text(title_text(status, alive), style=style)]
    if alive.sentence:
        blocks.append(indented(f"{alive.sentence[0].upper()}{alive.sentence[1:]}.", style="bold"))
    blocks += [indented(origin_text(status, now), style="dim"), _figures_grid(status)]
    blocks += [indented(counts_text(status)), indented(connections_text(status))]
    if found := concerns(status):
        blocks += [heading("Out of the ordinary"), *_concern_lines(found)]
    blocks += [heading("Symbols (times UTC)"), _SymbolsTable(status, now)]
    if rows := risk_rows(status):
        blocks += [heading("Global risk"), _RiskTable(rows)]
    if status.notices:
        left = len(status.notices) - MOST_NOTICES
        blocks += [heading("Notices"), *(indented(f"- {notice}") for notice in status.notices[:MOST_NOTICES])]
        blocks += [indented(f"... and {left:,} more")] if left > 0 else []
    return Group(*blocks)


def _figures_grid(status: SessionStatus) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    shown = figures(status)
    grid.add_row(*(Text(title, style="dim") for title in shown))
    grid.add_row(*(Text(value, style="bold") for value in shown.values()))
    return Padding(grid, (1, 0, 1, 2))


def _concern_lines(found: Sequence[Concern]) -> list[RenderableType]:
    lines: list[RenderableType] = [indented(str(one), style=_STYLES.get(one.state, "")) for one in found[:MOST_CONCERNS]]
    left = sum(len(one.symbols) for one in found[MOST_CONCERNS:])
    return [*lines, indented(f"... and {format_count(left, 'symbol')} more, see the table")] if left else lines


class _RiskTable:
    """One line a limit; on a narrow terminal a sentence, since what is compared may be long."""

    def __init__(self, rows: Sequence[dict[str, str]]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width < _NARROW:
            for row in self._rows:
                text = f"{row['State']}  {row['Limit']}: {row['Now']}, limit {row['At most']}"
                yield indented(
                    text if row["State"] == _WITHIN else f"{text}; {row['Then']}, lifted: {row['Lifted']}", style=_risk_style(row)
                )
            return
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for title in self._rows[0]:
            table.add_column(title, overflow="fold")
        for row in self._rows:
            table.add_row(*(Text(value, style=_risk_style(row)) for value in row.values()))
        yield table


def _risk_style(row: dict[str, str]) -> str:
    return "" if row["State"] == _WITHIN else "bold red"


# ------------------------------------------------------------------------------------------------- artifact


def status_markdown(status: SessionStatus, alive: Liveness = ALIVE) -> str:
    """The status as a Markdown artifact, as of its heartbeat. Bounded: MOST_MARKDOWN_SYMBOLS rows, cells of 120 characters."""
    now = status.heartbeat_at
    lines = [f"## {markdown_cell(title_text(status, alive))}", ""]
    lines += [f"**{markdown_cell(alive.sentence)}**", ""] if alive.sentence else []
    lines += [f"{now:%Y-%m-%d %H:%M:%S} UTC. {markdown_cell(origin_text(status, now))}.", ""]
    lines += _markdown_table([figures(status)])
    lines += [counts_text(status), "", connections_text(status), ""]
    if found := concerns(status):
        lines += ["### Out of the ordinary", "", *(f"- {_cut(str(one))}" for one in found[:MOST_CONCERNS]), ""]
    ordered = by_urgency(status.symbols)
    shown = ordered[:MOST_MARKDOWN_SYMBOLS]
    rows = [symbol_row(status, one, now) for one in shown]
    lines += ["### Symbols", "", *_markdown_table([{SYMBOL_COLUMNS[key]: text for key, text in row.items()} for row in rows])]
    if len(shown) < len(ordered):
        lines += [f"{len(ordered) - len(shown):,} more are left out here; `python -m flows.monitoring status` shows all.", ""]
    if limits := risk_rows(status):
        lines += ["### Global risk", "", *_markdown_table(limits)]
    if status.notices:
        lines += ["### Notices", "", *(f"- {_cut(notice)}" for notice in status.notices[:MOST_NOTICES]), ""]
    return "\n".join(lines)


def _markdown_table(rows: Sequence[dict[str, str]]) -> list[str]:
    """A table with an empty line after it; nothing where there are no rows."""
    if not rows:
        return []
    cells = [list(rows[0]), ["---"] * len(rows[0]), *([_cut(value) for value in row.values()] for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]


def _cut(text: str) -> str:
    """A cell that is neither markup nor longer than it may be."""
    return markdown_cell(text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…")
