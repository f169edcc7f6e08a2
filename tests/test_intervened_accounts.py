"""An account whose signals a session replaced is audited, backtested and continued with the same replaced at the same bars."""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest
from prefect.tasks import Task

from candlewick.audit import AuditReport
from candlewick.monitoring.events import bar_id
from candlewick.monitoring.interventions import Intervention, Replacement, intervened
from candlewick.parity import ParityReport
from candlewick.settings import LakeSettings, Settings, StoreSettings, load_settings
from candlewick.store.session_writing import SessionWrite
from candlewick.store.sessions import SessionStore
from flows.cycle import begin, complete_payments, compute_all_signals, decide, fetch_all, read_candles
from flows.cycle_context import Cycle
from tasks.audit import audit_ledger
from tasks.ledger import cycle_write
from tasks.parity import prove_account
from tests.paper_accounts import PaperAccount, run_cycle

BEFORE, THEN, AFTER = "2026-01-20T00:30", "2026-02-20T00:30", "2026-03-05T17:30"
HOURS_4_MS = 4 * 3_600_000
QUICK = {"fast": 3, "slow": 8, "stop_loss_bps": 300}
TRADED = PaperAccount(Path(), symbols=("BTC/USDT",), parameters=QUICK)


def settings_of(account: PaperAccount) -> Settings:
    data = account.directory / "data"
    kept = {"store": StoreSettings(url=str(data / "ledger.duckdb")), "lake": LakeSettings(url=str(data / "lake"))}
    return load_settings().model_copy(update=kept)


def audited(account: PaperAccount) -> AuditReport:
    return asyncio.run(audit_ledger.fn(settings_of(account), account.name))


def proven(account: PaperAccount) -> ParityReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", lambda task, *arguments, **named: task.fn(*arguments, **named))
        return asyncio.run(prove_account(settings_of(account), account.name))


def intervention(opened_at_ms: int, action: str, replacement: Replacement, rule: str) -> Intervention:
    return Intervention(
        account="demo", symbol="BTC/USDT", opened_at_ms=opened_at_ms, action=action, replacement=replacement, rule=rule,
        limit=None, value=None, reason="asked for by a test", session_id="s-1",
        correlation_id=bar_id("sample", "BTC/USDT", "4h", opened_at_ms),
    )  # fmt: skip


def run_intervened(account: PaperAccount, until: str, interventions: Sequence[Intervention]) -> None:
    """One cycle as a session commits it: the engine sees the signals with the interventions in them."""

    async def cycle_of() -> None:
        cycle = Cycle(account.request(until))
        with cycle.turn():
            begun = await begin(cycle)
            fetched = await fetch_all(cycle, begun)
            candles = await read_candles(cycle, begun, fetched)
            fetched = await complete_payments(cycle, begun, fetched, candles)
            said = await compute_all_signals(cycle, begun, candles)
            heard = {version: intervened(frames, interventions) for version, frames in said.items()}
            decided = decide(cycle, begun, fetched, candles, heard)
            write = cycle_write(decided, cycle.record("success"), fetched.findings.rows, pl.DataFrame())
            at = datetime.now(UTC)
            SessionStore(cycle.ledger.database).commit(
                SessionWrite(name="demo", at=at, cycles=(write,), interventions=interventions)
            )
            await cycle.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "__call__", lambda task, *arguments, **named: task.fn(*arguments, **named))
        asyncio.run(cycle_of())


def entries(account: PaperAccount) -> list[int]:
    """Open times of the bars whose signals led to an entry after BEFORE."""
    fills = account.ledger.view("demo", {}).fills.filter(pl.col("leg") == "entry")
    opened_ms = [int(at.timestamp() * 1000) - HOURS_4_MS for at in fills["bar_opened_at"]]
    return [ms for ms in opened_ms if ms > datetime.fromisoformat(BEFORE).replace(tzinfo=UTC).timestamp() * 1000]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> PaperAccount:
    """A paper account, then a session that rejected an entry and flattened a position, then a paper account again."""
    plain = replace(TRADED, directory=tmp_path_factory.mktemp("plain"))
    run_cycle(plain, THEN)
    rejected, flattened = entries(plain)[:2]
    account = replace(TRADED, directory=tmp_path_factory.mktemp("intervened"))
    run_cycle(account, BEFORE)
    done = [
        intervention(rejected, "BUY", "HOLD", "cooldown"),
        intervention(flattened + HOURS_4_MS, "HOLD", "EXIT", "kill_switch"),
    ]
    run_intervened(account, THEN, done)
    assert entries(account)[0] == flattened, "the rejected entry was filled"
    return account


def test_the_account_audits_clean_and_is_one_backtest_with_the_same_interventions(account: PaperAccount) -> None:
    report, proof = audited(account), proven(account)
    assert ([str(one) for one in report.first], report.broken) == ([], None)
    assert [str(one) for one in proof.first] == []
    exits = account.ledger.export_rows("demo")["signals"].filter(pl.col("action") == "EXIT")
    assert "kill_switch: asked for by a test" in exits["reason"].to_list()
    assert account.ledger.export_rows("demo")["interventions"]["rule"].to_list() == ["cooldown", "kill_switch"]


def test_without_the_interventions_neither_the_audit_nor_the_backtest_comes_to_the_same(
    account: PaperAccount, tmp_path: Path
) -> None:
    shutil.copytree(account.directory / "data", tmp_path / "data")
    spoilt = replace(account, directory=tmp_path)
    with duckdb.connect(str(spoilt.ledger.database.path)) as connection:
        connection.execute("DELETE FROM interventions")
    report, proof = audited(spoilt), proven(spoilt)
    assert {"signals", "fills", "equity"} <= {one.table for one in report.comparisons if one.differences}
    assert {"signals", "fills", "equity"} <= {one.table for one in proof.comparisons if one.differences}


def test_a_paper_cycle_goes_on_with_the_account_of_a_session(account: PaperAccount) -> None:
    run_cycle(account, AFTER)
    assert audited(account).differences == 0
    assert proven(account).differences == 0
