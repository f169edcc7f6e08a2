"""A paper account on perpetuals is the same engine: shorts, leverage, trailing stops and funding, in any number of cycles."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candlewick.audit import AuditReport
from candlewick.errors import AccountMismatch, FundingMissing, HistoryChanged, UsageError
from candlewick.funding import FUNDING_SCHEMA
from candlewick.funding_lake import read_funding
from candlewick.market.sample import SampleMarket
from candlewick.rules import Rules
from candlewick.settings import LakeSettings, Settings, StoreSettings, load_settings
from candlewick.timeframes import parse_utc
from candlewick.trades import funding_payments, pair_trades
from tasks.audit import audit_ledger
from tests.paper_accounts import PaperAccount, bare_document, run_cycle
from tests.paper_flow import Workplace, trade

BITCOIN, ETHER = "BTC/USDT:USDT", "ETH/USDT:USDT"
END = "2026-03-05T17:30"
TURNING = PaperAccount(
    Path(),
    symbols=(BITCOIN, ETHER),
    strategy="supertrend",
    parameters={"trailing_stop_atr": 5, "stop_loss_bps": 800, "time_stop_bars": 60},
    rules={"direction": "both", "leverage": 3, "max_drawdown_share": "none", "daily_loss_limit_share": "none", "spread_bps": 2},
)


def settings_of(account: PaperAccount) -> Settings:
    data = account.directory / "data"
    kept = {"store": StoreSettings(url=str(data / "ledger.duckdb")), "lake": LakeSettings(url=str(data / "lake"))}
    return load_settings().model_copy(update=kept)


def audited(account: PaperAccount) -> AuditReport:
    return asyncio.run(audit_ledger.fn(settings_of(account), account.name))


def differing(report: AuditReport) -> list[str]:
    return [one.table for one in report.comparisons if one.differences]


def random_moments(seed: int, cycles: int) -> list[str]:
    draw = random.Random(seed)
    minutes = sorted({draw.randrange(300, 63 * 1440) for _ in range(cycles)})
    return [(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=m)).isoformat(timespec="minutes") for m in minutes]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> PaperAccount:
    """One long cycle. Not to be changed."""
    account = replace(TURNING, directory=tmp_path_factory.mktemp("one"))
    run_cycle(account, END)
    return account


@pytest.fixture
def publishes_until(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The market's funding of a symbol ends before the time that the test names for it here."""
    ends: dict[str, str] = {}
    whole = SampleMarket.funding

    async def until_then(market: SampleMarket, symbol: str, since_ms: int, until_ms: int) -> pl.DataFrame:
        end_ms = min(until_ms, parse_utc(ends[symbol])) if symbol in ends else until_ms
        return await whole(market, symbol, since_ms, max(since_ms, end_ms))

    monkeypatch.setattr(SampleMarket, "funding", until_then)
    return ends


@pytest.mark.parametrize("seed", [1, 2])
def test_one_cycle_and_many_at_random_times_write_the_same_account_of_perpetuals(
    one: PaperAccount, tmp_path: Path, seed: int
) -> None:
    many = replace(TURNING, directory=tmp_path)
    for moment in [*random_moments(seed, 14), END]:
        run_cycle(many, moment)
    assert bare_document(one) == bare_document(many)
    for account in (one, many):
        report = audited(account)
        assert (differing(report), report.broken, "\n".join(map(str, report.first))) == ([], None, "")
        assert report.bars > 300


def test_the_account_has_shorts_trailing_stops_time_stops_and_pays_funding(one: PaperAccount) -> None:
    rows = one.ledger.export_rows("demo")
    fills, events = rows["fills"], rows["events"]
    assert {"long", "short"} <= set(fills["position_side"])
    assert {"entry", "stop", "exit", "time_stop"} <= set(fills["leg"])
    assert events.filter(pl.col("kind") == "stop_moved").height > 10  # there is no target: only trailing moves a stop
    assert set(rows["orders"].filter(pl.col("leg") == "time_stop")["signal_id"]) <= set(rows["signals"]["signal_id"])
    payments = funding_payments(events)
    assert payments.height > 50
    trades = pair_trades(fills, payments)
    assert trades["funding"].sum() == payments["amount"].sum() != 0


def test_the_digests_of_a_cycle_hold_the_funding_too(one: PaperAccount) -> None:
    decided = run_cycle(one, END)
    assert set(decided.digests) == {BITCOIN, ETHER, f"{BITCOIN} funding", f"{ETHER} funding"}


def test_an_account_waits_for_a_payment_that_is_not_published_yet_and_then_goes_on(
    one: PaperAccount, tmp_path: Path, publishes_until: dict[str, str]
) -> None:
    account = replace(TURNING, directory=tmp_path)
    publishes_until[ETHER] = "2026-03-05T08:00"  # the payment of 08:00 is missing
    decided = run_cycle(account, END)
    assert str(decided.watermark_at) == "2026-03-05 04:00:00+00:00"  # the bar from 04:00 to 08:00 needs nothing of 08:00
    notices = account.ledger.export_rows("demo")["runs"]["notices"][0]
    assert "waiting for ETH/USDT:USDT: a funding payment that is due after 2026-03-05 08:00 UTC" in notices
    assert differing(audited(account)) == []
    publishes_until.clear()
    assert str(run_cycle(account, END).watermark_at) == "2026-03-05 12:00:00+00:00"
    assert bare_document(one) == bare_document(account)


def test_a_hole_in_the_past_of_the_funding_fails_the_cycle_by_name(tmp_path: Path, publishes_until: dict[str, str]) -> None:
    account = replace(TURNING, directory=tmp_path)
    publishes_until[BITCOIN] = "2026-02-01T08:00"
    with pytest.raises(FundingMissing, match=r"BTC/USDT:USDT: \d+ funding payments between 2026-02-01 00:00"):
        run_cycle(account, END)
    assert account.ledger.list_accounts().is_empty()


def test_funding_that_was_changed_after_it_was_traded_on_is_noticed(tmp_path: Path) -> None:
    account = replace(TURNING, directory=tmp_path)
    run_cycle(account, "2026-02-10T01:00")
    files = sorted((tmp_path / "data" / "lake").rglob("kind=funding_rate/2026.parquet"))
    changed = pl.read_parquet(files[0], hive_partitioning=False)
    rate = pl.when(pl.int_range(pl.len()) == 40).then(0.0001).otherwise(pl.col("rate")).alias("rate")
    changed.with_columns(rate).write_parquet(files[0])
    with pytest.raises(HistoryChanged, match=r"the funding of BTC/USDT:USDT up to"):
        run_cycle(account, END)
    report = audited(account)
    assert any("BTC/USDT:USDT funding" in str(difference) for difference in report.first)


def test_the_lakes_funding_is_what_the_market_says(one: PaperAccount) -> None:
    series = SampleMarket(parse_utc(END)).series(BITCOIN, "4h")
    kept = read_funding(one.lake, series, parse_utc("2026-01-02"), parse_utc("2026-03-05"))
    told = asyncio.run(SampleMarket(parse_utc(END)).funding(BITCOIN, parse_utc("2026-01-02"), parse_utc("2026-03-05")))
    assert kept.select(list(FUNDING_SCHEMA)).equals(told)


@pytest.mark.parametrize(
    ("symbols", "rules", "words"),
    [
        (("BTC/USDT",), {"direction": "both"}, "BTC/USDT is traded spot and cannot be sold short"),
        (("BTC/USDT",), {"leverage": "2"}, "BTC/USDT is traded spot: rules.leverage is 2, it must be 1"),
        ((BITCOIN,), {"leverage": "21"}, "rules.leverage is 21; the exchange allows 20 at the most"),
    ],
)
def test_rules_that_an_instrument_does_not_allow_are_refused_before_anything_is_written(
    tmp_path: Path, symbols: tuple[str, ...], rules: dict[str, str], words: str
) -> None:
    account = replace(TURNING, directory=tmp_path, symbols=symbols, rules=rules)
    with pytest.raises(UsageError, match=words):
        run_cycle(account, END)
    assert not (tmp_path / "data" / "ledger.duckdb").exists()


def test_an_existing_account_refuses_another_rule_and_takes_its_own(tmp_path: Path) -> None:
    account = replace(TURNING, directory=tmp_path, symbols=(BITCOIN,))
    run_cycle(account, "2026-01-10")
    run_cycle(account, "2026-01-11")
    with pytest.raises(AccountMismatch, match=r"--rule leverage=5 \(it has leverage=3\)"):
        run_cycle(replace(account, rules={"leverage": 5}), "2026-01-12")
    loaded = account.ledger.load_account("demo")
    assert loaded is not None
    assert loaded.account.current.rules == replace(
        Rules(), direction="both", leverage=loaded.account.current.rules.leverage, max_drawdown_share=None,
        daily_loss_limit_share=None, spread_bps=loaded.account.current.rules.spread_bps,
    )  # fmt: skip


def test_a_cycle_on_perpetuals_through_prefect(workplace: Workplace, one: PaperAccount) -> None:
    result = trade(
        account="demo", symbols=list(TURNING.symbols), timeframe="4h", strategy="supertrend", since="2026-01-01", until=END,
        parameters=dict(TURNING.parameters or {}), rules=dict(TURNING.rules or {}),
    )  # fmt: skip
    assert (result.status, result.error) == ("success", None)
    assert result.data is not None
    assert result.data.equity == one.ledger.export_rows("demo")["equity"]["equity"][-1]
    assert Path(result.data.report or "").exists()
