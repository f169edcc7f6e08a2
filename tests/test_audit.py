"""An audit gives what the ledger has, however many cycles wrote it, and finds whatever was changed since."""

import asyncio
import random
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from candlewick.audit import AuditReport
from candlewick.errors import StrategyFailed
from candlewick.reports.audit_text import audit_verdict
from candlewick.settings import LakeSettings, Settings, StoreSettings, load_settings
from candlewick.store.tables import TABLES
from candlewick.strategies.contract import Strategy
from candlewick.timeframes import utc
from tasks.audit import audit_ledger
from tests.paper_accounts import PaperAccount, bare_document, run_cycle, run_cycles

END = "2026-03-05T17:30"  # inside a bar; a position is open then


def settings_of(account: PaperAccount) -> Settings:
    data = account.directory / "data"
    kept = {"store": StoreSettings(url=str(data / "ledger.duckdb")), "lake": LakeSettings(url=str(data / "lake"))}
    return load_settings().model_copy(update=kept)


def audited(account: PaperAccount) -> AuditReport:
    return asyncio.run(audit_ledger.fn(settings_of(account), account.name))


def differing(report: AuditReport) -> dict[str, int]:
    return {one.table: one.differences for one in report.comparisons if one.differences}


def texts(report: AuditReport) -> str:
    return "\n".join(map(str, report.first))


def assert_clean(account: PaperAccount) -> AuditReport:
    report = audited(account)
    assert (texts(report), report.broken, report.differences) == ("", None, 0)
    return report


def random_moments(seed: int, cycles: int) -> list[str]:
    """Times of cycles before END, at any minute, so that most are inside a bar."""
    draw = random.Random(seed)
    minutes = sorted({draw.randrange(300, 63 * 1440) for _ in range(cycles)})
    return [(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=m)).isoformat(timespec="minutes") for m in minutes]


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> PaperAccount:
    """An account of three cycles with refusals, stops and an open position. Not to be changed: see `own`."""
    account = PaperAccount(tmp_path_factory.mktemp("traded"), strategy="fibonacci_golden_zone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CANDLEWICK_RULES__MAX_OPEN_POSITIONS", "1")
        run_cycles(account, ["2026-01-29T03:00", "2026-02-15T05:00", END])
    return account


@pytest.fixture
def own(traded: PaperAccount, tmp_path: Path) -> PaperAccount:
    """A copy of the account that a test may spoil."""
    shutil.copytree(traded.directory / "data", tmp_path / "data")
    return replace(traded, directory=tmp_path)


def tamper(account: PaperAccount, statement: str) -> list[str]:
    """Do what no part of Candlewick does; answers the first column of what the statement returns."""
    with duckdb.connect(str(account.ledger.database.path)) as connection:
        rows = connection.execute(statement).fetchall()
    assert rows, "the statement changed no row"
    assert rows != [(0,)], "the statement changed no row"
    return [str(row[0]) for row in rows]


@pytest.mark.parametrize(("strategy", "seed"), [("fibonacci_golden_zone", 1), ("sma_cross", 2), ("rsi_reversion", 3)])
def test_one_cycle_and_many_at_random_times_write_the_same_account_and_both_audit_clean(
    tmp_path: Path, strategy: str, seed: int
) -> None:
    one = PaperAccount(tmp_path / "one", strategy=strategy)
    many = PaperAccount(tmp_path / "many", strategy=strategy)
    run_cycle(one, END)
    moments = [*random_moments(seed, 14), END]
    decided = [run_cycle(many, moment) for moment in moments]
    assert any(cycle.advanced.opened for cycle in decided), "no cycle acted on the open of a forming bar"
    assert any(cycle.start.open_orders.height for cycle in decided) or strategy != "fibonacci_golden_zone"
    assert bare_document(one) == bare_document(many)
    assert assert_clean(one).bars == assert_clean(many).bars > 300


def test_a_fill_at_the_open_of_a_bar_that_is_still_forming_is_replayed_from_what_the_checkpoint_remembers(tmp_path: Path) -> None:
    whole = PaperAccount(tmp_path / "whole", strategy="fibonacci_golden_zone")
    run_cycle(whole, END)
    fills = whole.ledger.view("demo", {}).fills.filter(pl.col("phase") == "open", pl.col("leg") == "entry")
    opened_at: datetime = fills["bar_opened_at"][0]
    account = PaperAccount(tmp_path / "early", strategy="fibonacci_golden_zone")
    for minutes in (-60, 30, 90, 230):  # twice more in the same bar: nothing new, and the open must not be forgotten
        run_cycle(account, (opened_at + timedelta(minutes=minutes)).isoformat())
        report = assert_clean(account)
        assert (report.watermark_at is not None and report.watermark_at < opened_at) or minutes == 230
    fill_times = account.ledger.view("demo", {}).fills["bar_opened_at"].to_list()
    assert fill_times == [opened_at]
    assert report.watermark_at == opened_at - timedelta(hours=4)
    run_cycle(account, (opened_at + timedelta(minutes=250)).isoformat())
    assert assert_clean(account).watermark_at == opened_at


def test_the_audit_says_what_it_compared(traded: PaperAccount) -> None:
    report = assert_clean(traded)
    rows = traded.ledger.export_rows("demo")
    counted = {one.table: (one.stored, one.replayed) for one in report.comparisons}
    tables = ("signals", "orders", "fills", "postings", "positions", "equity", "events")
    assert {name: counted[name] for name in tables} == {name: (rows[name].height,) * 2 for name in tables}
    assert counted["candles"] == (3, 3)
    assert counted["runs"] == (3, 3)
    assert counted["positions"] == (1, 1), "the account of these tests has an open position"
    assert set(rows["orders"]["status"]) == {"open", "filled", "cancelled", "refused"}
    assert report.watermark_at == datetime(2026, 3, 5, 12, tzinfo=UTC)


FIRST = "ORDER BY ALL LIMIT 1"
# Runs of the same second have ids in no order of time: only what a run began from tells a later one from the first.
LATER_RUN = "run_id = (SELECT min(run_id) FROM runs WHERE watermark_before IS NOT NULL)"
CHANGED = [
    ("signals", "reason", "'because'", f"signal_id = (SELECT signal_id FROM signals {FIRST})", "because"),
    ("signals", "stop_loss", "stop_loss + 0.01", f"signal_id = (SELECT signal_id FROM signals {FIRST})", None),
    ("orders", "price", "price + 0.01", "leg = 'stop' AND status = 'open'", None),
    ("orders", "rule_value", "7", "status = 'refused'", "7"),
    ("fills", "fee", "fee + 0.00000001", f"fill_id = (SELECT fill_id FROM fills {FIRST})", None),
    ("fills", "bar_opened_at", "bar_opened_at + INTERVAL 1 MINUTE", f"fill_id = (SELECT fill_id FROM fills {FIRST})", None),
    ("fills", "realized_pnl", "NULL", "leg = 'stop'", "nothing"),
    ("postings", "asset", "'XRP'", "posting_id = 'demo-deposit-1'", "XRP"),
    ("positions", "stop_loss", "stop_loss - 1", "TRUE", None),
    ("equity", "drawdown_share", "0.5", "\"at\" = '2026-02-01 00:00:00+00'", "0.5"),
    ("events", "document", 'json_merge_patch(document, \'{"price": "1"}\')', "sequence = 3", "1"),
    ("runs", "bars", "bars + 1", LATER_RUN, None),
    ("runs", "candle_digests", 'json_merge_patch(candle_digests, \'{"BTC/USDT": "00"}\')', "TRUE", "00"),
    ("runs", "watermark_before", "NULL", LATER_RUN, "nothing"),
    ("checkpoints", "state", 'json_merge_patch(state, \'{"account": {"peak_equity": 1}}\')', "TRUE", "1"),
    ("checkpoints", "version", "9", "TRUE", "9"),
]


@pytest.mark.parametrize(("table", "column", "value", "where", "shown"), CHANGED, ids=[f"{c[0]}-{c[1]}" for c in CHANGED])
def test_a_changed_cell_is_named_with_its_table_row_column_and_both_values(
    own: PaperAccount, table: str, column: str, value: str, where: str, shown: str | None
) -> None:
    key = TABLES[table].key[-1]
    ids = tamper(own, f'UPDATE {table} SET "{column}" = {value} WHERE {where} RETURNING "{key}"::VARCHAR')
    report = audited(own)
    assert sum(differing(report).values()) == len(report.first) == len(ids)
    for found, row in zip(sorted(report.first, key=lambda one: one.row), sorted(ids), strict=True):
        assert (found.table, found.row) == (table, row.removesuffix(":00+00"))
        assert found.column == column or found.column.startswith((f"{column}.", "account."))
        assert found.stored != found.replayed
        assert shown is None or found.stored == shown


def test_the_field_of_a_changed_state_is_named(own: PaperAccount) -> None:
    tamper(own, 'UPDATE checkpoints SET state = json_merge_patch(state, \'{"account": {"peak_equity": 1}}\')')
    (found,) = audited(own).first
    assert (found.row, found.column, found.stored) == ("demo", "account.peak_equity", "1")
    assert int(str(found.replayed)) >= 10_000 * 10**8


def test_the_digest_of_a_candle_series_in_the_checkpoint_is_compared(own: PaperAccount) -> None:
    tamper(own, 'UPDATE checkpoints SET candle_digests = json_merge_patch(candle_digests, \'{"SOL/USDT": "00"}\')')
    (found,) = audited(own).first
    assert (found.table, found.row, found.column, found.stored) == ("candles", "SOL/USDT", "digest", "00")


@pytest.mark.parametrize("table", ["signals", "orders", "fills", "postings", "positions", "equity", "events"])
def test_a_row_that_is_gone_is_missing_and_a_row_that_was_added_is_unexpected(own: PaperAccount, table: str) -> None:
    key = {"equity": '"at"', "events": "sequence", "positions": "symbol"}.get(
        table, f"{'client_order' if table == 'orders' else table[:-1]}_id"
    )
    tamper(own, f"DELETE FROM {table} WHERE {key} = (SELECT max({key}) FROM {table} WHERE account = 'demo')")
    gone = audited(own)
    assert [one.stored for one in gone.first if one.table == table] == [None]
    assert "not in the ledger" in texts(gone)
    assert differing(gone) == {table: 1}


def test_an_equity_row_beyond_the_watermark_is_unexpected(own: PaperAccount) -> None:
    tamper(own, "INSERT INTO equity VALUES ('demo', '2026-04-01 00:00:00+00', 5, 5, 0, 0, 0)")
    report = audited(own)
    assert differing(report) == {"equity": 1}
    assert "equity 2026-04-01 00:00: in the ledger" in texts(report)
    assert "the replay does not give it" in texts(report)


def test_a_broken_invariant_is_a_difference_of_its_own(own: PaperAccount) -> None:
    tamper(own, "UPDATE postings SET amount = amount + 1 WHERE posting_id = 'demo-deposit-1'")
    report = audited(own)
    assert report.broken is not None
    assert "postings balance" in report.broken
    assert "Nothing was written" not in report.broken
    assert report.differences == 2
    assert "postings demo-deposit-1: amount is 10001 in the ledger, 10000 in the replay" in texts(report)


def test_a_changed_candle_is_found_by_its_digest_and_by_the_runs_that_saw_it(own: PaperAccount) -> None:
    path = next((own.directory / "data" / "lake" / "silver").rglob("symbol=BTC-USDT/**/2026-02.parquet"))
    candles = pl.read_parquet(path)
    day = pl.col("opened_at") == datetime(2026, 2, 10, 8, tzinfo=UTC)
    assert candles.filter(day).height == 1
    candles.with_columns(pl.when(day).then(pl.col("volume") + 1).otherwise(pl.col("volume")).alias("volume")).write_parquet(path)
    report = audited(own)
    assert differing(report) == {"candles": 1, "runs": 2}, "the first run ended before that candle"
    assert report.first[0].row == "BTC/USDT"
    candles.with_columns(pl.when(day).then(pl.col("low") * 0.5).otherwise(pl.col("low")).alias("low")).write_parquet(path)
    assert {"candles", "runs", "signals"} <= differing(audited(own)).keys()


def test_a_changed_parameter_shows_in_the_decisions(own: PaperAccount) -> None:
    tamper(own, "UPDATE terms SET parameters = json_merge_patch(parameters, '{\"lookback_bars\": 30}')")
    assert {"signals", "orders", "fills", "equity", "checkpoints"} <= differing(audited(own)).keys()


def test_a_changed_rule_or_fee_shows_in_the_books(own: PaperAccount) -> None:
    tamper(own, 'UPDATE terms SET rules = json_merge_patch(rules, \'{"slippage_bps": "3"}\')')
    report = audited(own)
    assert {"fills", "postings", "equity"} <= differing(report).keys()
    assert len(report.first) == 20 < report.differences


def test_code_that_is_not_the_one_of_the_runs_is_said_whether_it_matters_or_not(own: PaperAccount) -> None:
    assert audited(own).notices == ()
    tamper(own, "UPDATE runs SET code_version = '0.0.9+abc' WHERE run_id = (SELECT min(run_id) FROM runs)")
    clean = audited(own)
    assert clean.differences == 0
    assert "0.0.9+abc (1 run) wrote this account" in clean.notices[0]
    assert clean.notices[0].endswith("it decides the same")
    tamper(own, "UPDATE positions SET cost = cost + 1")
    assert audited(own).notices[0].endswith("a difference may come from what has changed in between")


def test_an_account_whose_trading_rules_changed_on_the_way_audits_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = PaperAccount(tmp_path, strategy="sma_cross")
    run_cycle(account, "2026-01-20T01:00")
    monkeypatch.setenv("CANDLEWICK_FEES__TAKER_BPS", "25")
    run_cycle(account, "2026-01-20T02:00")
    assert_clean(account)
    run_cycle(account, "2026-02-10T01:00")
    monkeypatch.setenv("CANDLEWICK_FEES__TAKER_BPS", "5")
    run_cycles(account, ["2026-02-20T01:00", END])
    terms = account.ledger.export_rows("demo")["terms"]
    assert terms["version"].to_list() == [1, 2, 3]
    shares = account.ledger.export_rows("demo")["fills"].select((pl.col("fee") / pl.col("notional")).cast(pl.Float64).round(5))
    assert set(shares["fee"].to_list()) == {0.001, 0.0025, 0.0005}
    assert_clean(account)


def test_a_symbol_that_the_account_waits_for_leaves_a_clean_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from candlewick.errors import MarketUnavailable
    from candlewick.market.sample import SampleMarket

    account = PaperAccount(tmp_path)
    run_cycle(account, "2026-01-20T01:00")
    fetch = SampleMarket.fetch

    async def without_sol(self: SampleMarket, symbol: str, timeframe: str, since_ms: int, now_ms: int) -> object:
        if symbol == "SOL/USDT":
            raise MarketUnavailable("no answer")
        return await fetch(self, symbol, timeframe, since_ms, now_ms)

    with monkeypatch.context() as patch:
        patch.setattr(SampleMarket, "fetch", without_sol)
        run_cycle(account, "2026-01-25T01:00")
    behind = assert_clean(account)
    assert behind.watermark_at == datetime(2026, 1, 19, 20, tzinfo=UTC)
    run_cycle(account, "2026-01-25T02:00")
    assert assert_clean(account).watermark_at == datetime(2026, 1, 24, 20, tzinfo=UTC)


def test_a_failed_run_is_no_part_of_the_replay(own: PaperAccount) -> None:
    failed = "'run-x' AS run_id, 'failure' AS status, 0 AS bars, NULL AS watermark_at"
    tamper(own, f"INSERT INTO runs SELECT * REPLACE ({failed}) FROM runs LIMIT 1")
    assert_clean(own)


def test_an_account_without_a_closed_bar_audits_clean(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path, since="2026-01-01")
    run_cycle(account, "2026-01-01T01:00")
    report = assert_clean(account)
    assert (report.bars, report.watermark_at) == (0, None)


MOOD = {"broken": False}


class Moody(Strategy):
    """Buys, sells two bars later, and so on; fails once it is told to."""

    def signals(self, candles: pl.DataFrame) -> pl.DataFrame:
        if MOOD["broken"]:
            raise ValueError("no mood")
        number = pl.int_range(pl.len()) % 4
        selling = pl.when(number == 2).then(pl.lit("SELL")).otherwise(pl.lit("HOLD"))
        return candles.select(pl.when(number == 0).then(pl.lit("BUY")).otherwise(selling).alias("action"))


def test_a_users_own_strategy_is_replayed_and_its_failure_is_an_error_not_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = PaperAccount(tmp_path, strategy="tests.test_audit:Moody")
    run_cycles(account, ["2026-01-03", "2026-01-05T01:00"])
    assert_clean(account)
    tamper(account, "UPDATE fills SET reason = 'x' WHERE leg = 'exit'")
    assert "tests.test_audit:Moody: the ledger keeps no version of code outside Candlewick" in audited(account).notices[-1]
    monkeypatch.setitem(MOOD, "broken", True)
    with pytest.raises(StrategyFailed, match="no mood"):
        audited(account)


def test_an_account_on_the_users_own_files_audits_clean_though_a_file_is_gone(tmp_path: Path) -> None:
    from candlewick.market.sample import SampleMarket

    folder = tmp_path / "candles"
    folder.mkdir()
    market = SampleMarket(0)
    since_ms, now_ms = 1767225600000, 1769904000000
    for symbol in ("BTC/USDT", "ETH/USDT"):
        page = asyncio.run(market.fetch(symbol, "1h", since_ms, now_ms))
        page.candles.write_parquet(folder / f"sample_{symbol.replace('/', '')}_1h.parquet")
    account = PaperAccount(tmp_path, market=f"files:{folder}", symbols=("BTC/USDT", "ETH/USDT"), timeframe="1h")
    run_cycles(account, ["2026-01-10T00:30", "2026-01-10T00:45", "2026-01-20T11:10"])
    assert_clean(account)
    for path in folder.iterdir():
        path.unlink()
    report = assert_clean(account)
    assert report.watermark_at == utc(since_ms) + timedelta(days=19, hours=10)


def test_the_audit_of_an_exchanges_account_asks_no_exchange(
    own: PaperAccount, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block may be saved on Prefect's server; the exchange itself must not be asked for anything."""
    silver = own.directory / "data" / "lake" / "silver"
    (silver / "exchange=sample").rename(silver / "exchange=kraken")
    tamper(own, "UPDATE accounts SET market = 'kraken'")
    import ccxt.async_support as ccxt

    async def refuse(*_arguments: object, **_named: object) -> None:
        raise AssertionError("the exchange was asked")

    monkeypatch.setattr(ccxt.kraken, "fetch", refuse)
    assert_clean(own)


def test_the_audit_flow_completes_or_fails_and_leaves_an_artifact(
    own: PaperAccount, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.artifacts import Artifact

    from flows.audit import audit_account

    monkeypatch.chdir(own.directory)
    clean = asyncio.run(audit_account(own.name, return_state=True))
    assert (clean.name, clean.message) == ("Completed", audit_verdict(audited(own)))
    artifact = asyncio.run(Artifact.aget("demo-audit"))
    assert artifact is not None
    assert str(artifact.data).startswith("## Clean: audit of account demo")
    tamper(own, "UPDATE positions SET cost = cost + 1 RETURNING account")
    failed = asyncio.run(audit_account(own.name, return_state=True))
    assert failed.is_failed()
    assert "1 difference between the ledger and the replay" in str(failed.message)
    artifact = asyncio.run(Artifact.aget("demo-audit"))
    assert artifact is not None
    assert "| positions | 1 | 1 | 1 |" in str(artifact.data)
