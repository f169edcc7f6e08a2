"""What a cycle says at its end: to the terminal, and to Prefect's artifacts. Nothing here depends on colour."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from candlewick.reports.cycle_data import LONG
from candlewick.reports.numbers import (
    MISSING,
    format_count,
    format_money,
    format_price,
    format_quantity,
    format_rule_value,
    format_share,
    format_time,
)
from candlewick.reports.statement import AccountStatement
from candlewick.results import CycleData, CycleResult, FillRow, OrderRow

_NAMES = {"signals": "signal", "orders": "order", "fills": "fill"}
_AFTER_FAILURE = (
    "The ledger holds what was committed before. Once the cause is gone, the same command continues at the watermark."
)
MAX_LISTED = 12
SHOWN_FILLS = 5
"""In the terminal, where each takes two lines; the artifact and the report have the others."""


# ------------------------------------------------------------------------------------------------- sentences


def _counts_text(counts: dict[str, int]) -> str:
    parts = [format_count(counts[kind], noun) for kind, noun in _NAMES.items() if kind in counts]
    parts += [f"{number:,} {kind}" for kind, number in counts.items() if kind not in _NAMES and number]
    return ", ".join(parts)


def _progress_text(data: CycleData) -> str:
    """What the cycle moved. The watermark is the open time of the last bar that was processed."""
    mark, before = f"{format_time(data.watermark_at)} UTC", f"{format_time(data.watermark_before)} UTC"
    if not data.acted:
        return f"This cycle changed nothing: another one of account {data.account} is at work. The account stands at {mark}."
    would = "would process" if data.dry_run else "processed"
    if data.bars == 0 and data.watermark_at is None:
        return "Nothing new: no bar has closed yet. The account starts with the first one."
    if data.bars == 0:
        return f"Nothing new since the watermark {mark}: no later bar has closed. The next cycle continues there."
    bars = format_count(data.bars, "bar")
    if data.watermark_before is None:
        opened = "Account opened. " if data.created and not data.dry_run else ""
        return f"{opened}This cycle {would} {bars} from the start to the watermark {mark}."
    return f"Continues at the watermark {before}. This cycle {would} {bars}; the watermark is now {mark}."


def _trouble_text(result: CycleResult) -> list[str]:
    """What went wrong or stood in the way, and what happens next; empty where nothing did."""
    if result.status == "success":
        return [result.error] if result.error else []
    error = result.error or "no reason was given"
    if result.status == "partial":
        kept = (
            "Nothing was written."
            if result.data is not None and result.data.dry_run
            else "Everything else of this cycle is committed."
        )
        return [f"Incomplete: {error}", f"{kept} The next cycle tries again and catches up from the watermark."]
    return [f"Failed: {error}", _AFTER_FAILURE]


def _next_steps(result: CycleResult, python: str) -> list[tuple[str, str]]:
    """Commands worth trying now, with what each is for; ``python`` is how the user starts this project's Python."""
    data = result.data
    if data is None or result.status == "failure":
        return []
    if data.dry_run:
        return [("the same without --dry-run", "to let it trade")]
    steps = [("the same command again", "to continue at the watermark")]
    steps += [(f"{python} -m flows.accounts show {data.account}", "to look into the account")]
    steps += [("make serve", "to run it on a schedule, with Prefect's UI")]
    if data.market == "sample":
        steps += [(f"{python} -m flows.paper_trading --account real --market binance", "to trade real prices, no key needed")]
    return steps


def _amount_text(row: OrderRow, quote: str) -> str:
    if row.quantity is not None:
        return format_quantity(row.quantity)
    return f"for {format_money(row.budget, quote)} {quote}" if row.budget is not None else ""


def order_text(row: OrderRow, quote: str) -> str:
    """An order in one line, without its reason."""
    price = f" at {format_price(row.price)}" if row.price is not None else ""
    deal = f"{row.leg.replace('_', ' ')}: {row.side.lower()} {_amount_text(row, quote)}".rstrip() + price
    text = f"{format_time(row.decided_at)}  {row.symbol}  {deal}"
    if row.status == "open":
        part = f", {format_quantity(row.filled_quantity)} filled so far" if row.filled_quantity else ""
        return f"{text}{part}{f', until {format_time(row.expires_at)} UTC' if row.expires_at else ''}, open"
    if row.status == "refused":
        limit, value = (format_rule_value(row.rule, number, quote) for number in (row.rule_limit, row.rule_value))
        return f"{text}, refused by {(row.rule or 'a rule').replace('_', ' ')}: {value}, limit {limit}"
    return f"{text}, {row.status}"


def leg_text(row: FillRow) -> str:
    """Which order of which position: `entry`, `short stop`."""
    leg = row.leg.replace("_", " ")
    return leg if row.position_side == LONG else f"{row.position_side} {leg}"


def margin_text(data: CycleData | AccountStatement) -> str | None:
    """What positions on margin reserve and what funding came to, where there is either."""
    if not data.margin and not data.funding and all(row.margin is None for row in data.positions):
        return None
    funding = f"funding received less paid {format_money(data.funding, data.quote, sign=True)}"
    return f"Margin of open positions {format_money(data.margin, data.quote)}, part of the cash; {funding}"


def fill_text(row: FillRow, quote: str) -> str:
    """A fill in one line, without its reason."""
    text = f"{format_time(row.at)}  {row.symbol}  {leg_text(row)}: {row.side.lower()} {format_quantity(row.quantity)}"
    gain = f", P&L {format_money(row.realized_pnl, quote, sign=True)}" if row.realized_pnl is not None else ""
    return f"{text} at {format_price(row.price)}{gain}"


# ------------------------------------------------------------------------------------------------- terminal


def heading(text: str) -> Text:
    """A block's title, with an empty line above it."""
    return Text(f"\n{text}", style="bold")


def indented(text: str, columns: int = 2, style: str = "") -> RenderableType:
    """A paragraph that stays indented where it wraps."""
    return Padding(Text(text, style=style, overflow="fold"), (0, 0, 0, columns))


def stories(rows: Sequence[tuple[str, str]]) -> list[RenderableType]:
    """Lines with the reason of each below it."""
    lines: list[RenderableType] = []
    for line, reason in rows:
        lines.append(indented(line))
        if reason:
            lines.append(indented(reason, 6, "dim"))
    return lines


def figures_table(data: CycleData | AccountStatement) -> RenderableType:
    """Equity, cash, return and drawdowns."""
    grid = Table.grid(padding=(0, 3, 0, 0))
    labels = ["Equity", "Cash", "Return", "Drawdown", "Max drawdown"]
    values = [f"{format_money(data.equity, data.quote)} {data.quote}", format_money(data.cash, data.quote)]
    values += [
        format_share(data.return_share, sign=True),
        format_share(data.drawdown_share),
        format_share(data.max_drawdown_share),
    ]
    grid.add_row(*(Text(label, style="dim") for label in labels))
    grid.add_row(*(Text(value, style="bold") for value in values))
    return Padding(grid, (1, 0, 0, 2))


def margin_block(data: CycleData | AccountStatement) -> list[RenderableType]:
    """``margin_text`` below the figures, where there is one."""
    text = margin_text(data)
    return [] if text is None else [indented(text)]


def positions_table(data: CycleData | AccountStatement) -> RenderableType:
    """Open positions with what protects them; on margin with side and liquidation price, and with targets where there are any."""
    on_margin = any(row.margin is not None for row in data.positions)
    aimed = not on_margin or any(row.take_profit_1 or row.take_profit_2 for row in data.positions)
    names = ["Symbol", *(["Side"] if on_margin else []), "Quantity", "Entry", "Last", "Stop"]
    names += [*(["Target 1", "Target 2"] if aimed else []), *(["Liquidation"] if on_margin else []), "P&L"]
    grid = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in names:
        grid.add_column(name, justify="left" if name in ("Symbol", "Side") else "right", overflow="fold")
    for row in data.positions:
        cells = {"Symbol": row.symbol, "Side": row.side, "Quantity": format_quantity(row.quantity)}
        prices = {"Entry": row.entry_price, "Last": row.last_price, "Stop": row.stop_loss, "Target 1": row.take_profit_1}
        prices |= {"Target 2": row.take_profit_2, "Liquidation": row.liquidation_price}
        cells |= {name: format_price(price) for name, price in prices.items()}
        cells |= {"P&L": format_money(row.unrealized_pnl, data.quote, sign=True)}
        grid.add_row(*(Text(cells[name].replace(MISSING, "-")) for name in names))
    return Padding(grid, (0, 0, 0, 2))


def _orders_block(data: CycleData) -> list[RenderableType]:
    """In a dry run every order it would place; otherwise the refusals alone, for the fills tell the rest."""
    orders = [row for row in data.orders if data.dry_run or row.status == "refused"]
    if not orders:
        return [heading("Orders it would place"), indented("none")] if data.dry_run else []
    title = "Orders it would place (none was written)" if data.dry_run else "Refused orders of this cycle"
    shown = orders[-MAX_LISTED:]
    more = [indented(f"... and {len(orders) - len(shown):,} earlier ones")] if len(orders) > len(shown) else []
    return [heading(title), *more, *stories([(order_text(row, data.quote), row.reason) for row in shown])]


def _data_blocks(data: CycleData) -> list[RenderableType]:
    blocks: list[RenderableType] = [figures_table(data), *margin_block(data), heading(f"Open positions ({len(data.positions)})")]
    blocks.append(positions_table(data) if data.positions else indented("none"))
    blocks += _orders_block(data)
    blocks.append(heading("Last fills, newest first (times UTC)"))
    fills = [(fill_text(row, data.quote), row.reason) for row in reversed(data.last_fills[-SHOWN_FILLS:])]
    blocks += stories(fills) if fills else [indented("none")]
    if data.notices:
        blocks += [heading("Notices"), *(indented(f"- {notice}") for notice in data.notices)]
    if data.report:
        blocks += [heading("Report"), indented(data.report)]
    return blocks


def _title(result: CycleResult) -> Text:
    data, word = result.data, result.status.upper()
    if data is None:
        return Text(f"{word}  paper trading", style="bold")
    symbols = ", ".join(data.symbols[:5]) + (f" and {len(data.symbols) - 5:,} more" if len(data.symbols) > 5 else "")
    dry = "DRY RUN, nothing is written  " if data.dry_run else ""
    return Text(
        f"{dry}{word}  account {data.account}: {data.strategy} on {data.market} {data.timeframe}, {symbols}", style="bold"
    )


def render_summary(result: CycleResult, python: str = "python") -> RenderableType:
    """The cycle for the terminal; readable at 80 columns and without colour. ``python`` starts the commands it suggests."""
    blocks: list[RenderableType] = [_title(result)]
    blocks += [indented(line) for line in _trouble_text(result)]
    if result.data is not None:
        blocks.append(indented(_progress_text(result.data)))
        if result.data.dry_run:
            blocks.append(indented("All figures below are what the account would hold; the ledger is unchanged."))
        if result.data.bars:
            blocks.append(indented(_counts_text(result.data.counts)))
        blocks += _data_blocks(result.data)
    if steps := _next_steps(result, python):
        blocks.append(heading("What next"))
        blocks += [indented(f"{command}\n    {purpose}") for command, purpose in steps]
    return Group(*blocks)


# ------------------------------------------------------------------------------------------------- artifacts


def markdown_cell(text: str) -> str:
    """Text that neither ends a Markdown table cell nor becomes markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def summary_markdown(result: CycleResult) -> str:
    """The cycle as a Markdown artifact."""
    data, metadata = result.data, result.metadata
    name = f" of account {markdown_cell(data.account)}" if data is not None else ""
    lines = [f"## {result.status.capitalize()}: paper trading{name}", ""]
    if data is not None and data.dry_run:
        lines += ["**Dry run: nothing was written.**", ""]
    lines += [f"**{markdown_cell(line)}**\n" for line in _trouble_text(result)]
    if data is not None:
        figures = [
            ("Equity", f"{format_money(data.equity, data.quote)} {data.quote}"),
            ("Cash", format_money(data.cash, data.quote)),
        ]
        figures += [("Return", format_share(data.return_share, sign=True)), ("Drawdown", format_share(data.drawdown_share))]
        if margin_text(data) is not None:
            figures += [("Margin of open positions", format_money(data.margin, data.quote))]
            figures += [("Funding received less paid", format_money(data.funding, data.quote, sign=True))]
        figures += [("Max drawdown", format_share(data.max_drawdown_share)), ("Open positions", f"{len(data.positions):,}")]
        lines += [_progress_text(data), "", _counts_text(data.counts), "", "| Figure | Value |", "|---|--:|"]
        lines += [f"| {label} | {markdown_cell(value)} |" for label, value in figures]
        refused = [row for row in data.orders if data.dry_run or row.status == "refused"][-MAX_LISTED:]
        if refused:
            lines += ["", "### Orders it would place" if data.dry_run else "### Refused orders", ""]
            lines += [f"- {markdown_cell(order_text(row, data.quote))}. {markdown_cell(row.reason)}" for row in refused]
        if data.notices:
            lines += ["", "### Notices", "", *(f"- {markdown_cell(notice)}" for notice in data.notices)]
        lines += ["", f"Report: `{data.report}`"] if data.report else []
    lines += ["", f"Run `{metadata.run_id}`, code `{metadata.code_version}`, completed {format_time(metadata.completed_at)} UTC."]
    return "\n".join(lines) + "\n"


def position_rows(result: CycleResult) -> list[dict[str, str]]:
    """Open positions as rows of a table artifact."""
    if result.data is None:
        return []
    quote, rows = result.data.quote, []
    on_margin = any(row.margin is not None for row in result.data.positions)
    for row in result.data.positions:
        prices = {"entry": row.entry_price, "last": row.last_price, "stop": row.stop_loss}
        prices |= {"target 1": row.take_profit_1, "target 2": row.take_profit_2}
        cells = {"symbol": row.symbol, **({"side": row.side} if on_margin else {}), "quantity": format_quantity(row.quantity)}
        cells |= {name: format_price(price) for name, price in prices.items()}
        if on_margin:
            cells |= {"liquidation": format_price(row.liquidation_price), f"margin {quote}": format_money(row.margin, quote)}
        gain, share = row.unrealized_pnl, row.return_share
        cells |= {f"unrealised {quote}": format_money(gain, quote, sign=True), "return": format_share(share, sign=True)}
        rows.append(cells | {"opened (UTC)": format_time(row.opened_at)})
    return rows


def fill_rows(result: CycleResult) -> list[dict[str, str]]:
    """The last fills as rows of a table artifact, newest first."""
    if result.data is None:
        return []
    quote = result.data.quote
    return [
        {
            "time (UTC)": format_time(row.at),
            "symbol": row.symbol,
            "leg": leg_text(row),
            "side": row.side.lower(),
            "quantity": format_quantity(row.quantity),
            "price": format_price(row.price),
            f"fee {quote}": format_money(row.fee, quote),
            f"P&L {quote}": format_money(row.realized_pnl, quote, sign=True),
            "reason": row.reason,
        }
        for row in reversed(result.data.last_fills)
    ]
