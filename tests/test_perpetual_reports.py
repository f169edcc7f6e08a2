"""What is shown of an account on margin: sides, margin, liquidation price, funding, partial fills and stops that trail."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console, RenderableType

from candlewick.json_text import to_json
from candlewick.market.sample import SampleMarket
from candlewick.reports.charts import trade_levels
from candlewick.reports.cycle_data import build_cycle_data, ledger_positions
from candlewick.reports.figures import chart_document
from candlewick.reports.html import render_report
from candlewick.reports.statement import AccountStatement, build_statement
from candlewick.reports.statement_text import render_statement
from candlewick.reports.summary import fill_text, order_text, position_rows, positions_table
from candlewick.reports.view import AccountView
from candlewick.results import CycleMetadata, CycleResult, FillRow, OrderRow
from candlewick.timeframes import parse_utc
from candlewick.trades import pair_trades
from candlewick.windows import read_windows
from tests.paper_accounts import PaperAccount, run_cycle
from tests.test_paper_perpetuals import TURNING

END = "2026-02-26T01:00"  # a short and a long are open


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> PaperAccount:
    made = replace(TURNING, directory=tmp_path_factory.mktemp("made"), parameters={"trailing_stop_atr": 5})
    run_cycle(made, END)
    return made


@pytest.fixture(scope="module")
def view(account: PaperAccount) -> AccountView:
    market = SampleMarket(parse_utc(END))
    series = {symbol: market.series(symbol, "4h") for symbol in account.symbols}
    return account.ledger.view("demo", read_windows(account.lake, series, parse_utc(account.since), parse_utc(END)))


@pytest.fixture(scope="module")
def statement(account: PaperAccount, view: AccountView) -> AccountStatement:
    loaded = account.ledger.load_account("demo")
    assert loaded is not None
    return build_statement(view, loaded.account, None)


def text_of(shown: RenderableType, width: int = 100) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def result_of(view: AccountView) -> CycleResult:
    data = build_cycle_data(
        view, watermark_before=None, bars=6, created=True, dry_run=False, notices=(), report=None,
        run_id=str(view.runs["run_id"][0]),
    )  # fmt: skip
    at = datetime(2026, 3, 1, tzinfo=UTC)
    metadata = CycleMetadata(
        run_id="r", flow_run_id=None, correlation_id="c", started_at=at, completed_at=at, durations_s={}, code_version="v",
        candle_digests={}, clock_skew_ms=None,
    )  # fmt: skip
    return CycleResult(status="success", data=data, error=None, metadata=metadata)


def test_the_unrealised_result_of_both_sides_closes_the_accounts_books(view: AccountView) -> None:
    positions = ledger_positions(view.positions, view.symbols)
    assert [row.side for row in positions] == ["short", "long"]
    realized = sum(view.fills["realized_pnl"].drop_nulls(), Decimal(0))
    funding = sum(view.funding["amount"], Decimal(0))
    unrealized = sum((row.unrealized_pnl for row in positions), Decimal(0))
    assert view.initial_cash + realized + funding + unrealized == view.equity["equity"][-1]


def test_a_short_that_price_moved_against_shows_a_loss_of_its_margin(view: AccountView) -> None:
    held = view.positions.filter(pl.col("side") == "short").head(1)
    assert held.height == 1
    worse = held.with_columns((pl.col("entry_price").cast(pl.Float64) * 1.1).cast(pl.Decimal(38, 18)).alias("last_price"))
    row = ledger_positions(worse, view.symbols)[0]
    assert row.unrealized_pnl < 0
    assert row.return_share is not None
    assert Decimal("-0.32") < row.return_share < Decimal("-0.29")  # ten percent at leverage three


def test_positions_on_margin_have_side_margin_liquidation_price_and_a_trailing_stop(statement: AccountStatement) -> None:
    for row in statement.positions:
        assert row.side in ("long", "short")
        assert row.trailing
        assert row.margin is not None
        assert row.liquidation_price is not None
        beyond = row.liquidation_price < row.entry_price if row.side == "long" else row.liquidation_price > row.entry_price
        assert beyond
    assert statement.margin == sum((row.margin or Decimal(0) for row in statement.positions), Decimal(0))
    assert statement.funding != 0
    assert '"liquidation_price"' in to_json(statement)


@pytest.mark.parametrize("width", [80, 120])
def test_the_statement_says_margin_funding_side_and_liquidation(statement: AccountStatement, width: int) -> None:
    text = " ".join(text_of(render_statement(statement), width).split())
    for word in ("Side", "Liquidation", "short", "Margin of open positions", "funding received less paid", "leverage=3"):
        assert word in text
    assert "short entry: sell" in text


def test_the_report_names_sides_margin_liquidation_funding_and_trailing_stops(view: AccountView) -> None:
    page = render_report(view, datetime(2026, 3, 1, 2, tzinfo=UTC))
    for word in ("Liquidation", "Margin USDT", "<i>trailing</i>", ">Funding<", "received less paid", ">short<", "short entry"):
        assert word in page


def test_the_position_artifact_has_the_side_and_the_margin(view: AccountView) -> None:
    rows = position_rows(result_of(view))
    assert rows
    assert {"side", "liquidation", "margin USDT"} <= set(rows[0])


def test_a_trailing_stop_is_drawn_where_it_stood_and_not_only_where_it_ended(view: AccountView) -> None:
    trades = pair_trades(view.fills, view.funding)
    levels = trade_levels(view, trades)
    stops = [[level for level in own if level.leg == "stop"] for own in levels]
    steps = max(stops, key=len)
    assert len(steps) > 2
    assert all(one.until == next_one.since for one, next_one in itertools.pairwise(steps))
    prices = [level.price for level in steps]
    assert prices in (sorted(prices), sorted(prices, reverse=True))


def test_entries_that_sell_are_drawn_pointing_down(view: AccountView) -> None:
    document = chart_document(view, pair_trades(view.fills, view.funding))
    first = document["symbols"][0]  # type: ignore[index]
    entries = first["data"][5]  # type: ignore[index,call-overload]
    assert {"triangle-up", "triangle-down"} == set(entries["marker"]["symbol"])  # type: ignore[index,call-overload,arg-type]


def test_the_ledgers_trades_carry_the_funding_that_its_events_tell(view: AccountView) -> None:
    trades = pair_trades(view.fills, view.funding)
    assert sum(trades["funding"], Decimal(0)) == sum(view.funding["amount"], Decimal(0)) != 0


def test_an_order_that_is_filled_in_part_and_one_that_expires_say_so() -> None:
    order = OrderRow(
        client_order_id="o", decided_at=datetime(2026, 3, 1, tzinfo=UTC), symbol="BTC/USDT", leg="entry", side="buy",
        status="open", quantity=Decimal(2), budget=None, price=Decimal(100), reason="", kind="limit",
        filled_quantity=Decimal("0.5"), expires_at=datetime(2026, 3, 2, tzinfo=UTC),
    )  # fmt: skip
    assert order_text(order, "USDT").endswith("entry: buy 2 at 100.00, 0.5 filled so far, until 2026-03-02 00:00 UTC, open")


def test_a_fill_of_a_short_says_so() -> None:
    fill = FillRow(
        at=datetime(2026, 3, 1, tzinfo=UTC), symbol="BTC/USDT:USDT", side="buy", leg="liquidation", quantity=Decimal(2),
        price=Decimal(100), fee=Decimal(1), realized_pnl=Decimal(-5), reason="", position_side="short",
    )  # fmt: skip
    assert "short liquidation: buy 2 at 100.00, P&L -5.00" in fill_text(fill, "USDT")


def test_a_spot_account_is_shown_as_before(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path)
    run_cycle(account, END)
    loaded = account.ledger.load_account("demo")
    assert loaded is not None
    statement = build_statement(account.ledger.view("demo", {}), loaded.account, None)
    text = text_of(render_statement(statement))
    assert "Margin of open positions" not in text
    assert "Liquidation" not in text_of(positions_table(statement))
