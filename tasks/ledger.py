"""The ledger, as steps of a flow: one transaction a phase, never cached, never retried behind the account's back."""

from datetime import UTC, datetime

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from candlewick.cycle import Decided, RunRecord, Start, checkpoint_row, opening_rows, run_row
from candlewick.engine.state import open_state
from candlewick.store.ledger import CommitReport, CycleWrite, Ledger
from candlewick.store.queries import LoadedAccount


@task(name="load-account", task_run_name="load {name}", cache_policy=NO_CACHE, timeout_seconds=300)
def load_account(ledger: Ledger, name: str) -> Start | None:
    """The account as the ledger has it, None where there is none. Raises LedgerError."""
    loaded = ledger.load_account(name)
    return None if loaded is None else start_of(loaded)


def start_of(loaded: LoadedAccount) -> Start:
    """What the next cycle of an account starts from."""
    saved = loaded.checkpoint
    state = saved.state if saved and saved.state else open_state(loaded.account.initial_cash, len(loaded.account.symbols))
    return Start(
        account=loaded.account,
        state=state,
        version=saved.version if saved else None,
        digests=saved.candle_digests if saved else {},
        opens=saved.forming_opens if saved else {},
        open_orders=loaded.open_orders,
        created=False,
        is_outdated=saved is not None and saved.state is None,
        interventions=loaded.interventions,
    )


def cycle_write(decided: Decided, record: RunRecord, quality: pl.DataFrame, terms: pl.DataFrame) -> CycleWrite:
    """Everything a cycle decided, as the rows of one commit."""
    account, journal = decided.start.account, decided.journal
    opening = opening_rows(account) if decided.start.created else None
    runs = run_row(account.name, record, decided.start.watermark_at, decided.watermark_at, decided.advanced.bars, decided.digests)
    return CycleWrite(
        account=account.name,
        expected_version=decided.start.version,
        run_id=record.run_id,
        recorded_at=datetime.now(UTC),
        checkpoint=checkpoint_row(decided),
        positions=journal.positions,
        runs=runs,
        account_row=opening[0] if opening else pl.DataFrame(),
        terms=opening[1] if opening else terms,
        signals=journal.signals,
        orders=journal.orders,
        fills=journal.fills,
        postings=pl.concat([opening[2], journal.postings]) if opening else journal.postings,
        equity=journal.equity,
        events=journal.events,
        quality=quality,
    )


@task(name="commit-cycle", task_run_name="commit {record.run_id}", cache_policy=NO_CACHE, timeout_seconds=300)
def commit_cycle(ledger: Ledger, decided: Decided, record: RunRecord, quality: pl.DataFrame, terms: pl.DataFrame) -> CommitReport:
    """Everything a cycle decided, in one transaction. Raises StaleCycle, InvariantViolated, LedgerError."""
    return ledger.commit_cycle(cycle_write(decided, record, quality, terms))


@task(name="record-failure", task_run_name="record the failure of {record.run_id}", cache_policy=NO_CACHE, timeout_seconds=300)
def record_failure(ledger: Ledger, account: str, record: RunRecord) -> None:
    """A run that failed leaves its row, and nothing else."""
    ledger.record_run(run_row(account, record, None, None, 0, {}))
