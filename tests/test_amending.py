"""Amending an account: what changes, from when on, and that an audit repeats it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick.account import terms_rows
from candlewick.amending import AMENDMENT, amend_terms, describe_amendment
from candlewick.audit import AuditReport
from candlewick.errors import StaleCycle, UnknownStrategy, UsageError
from candlewick.rules import Rules
from tasks.audit import audit_ledger
from tests.paper_accounts import PaperAccount, run_cycle


def _amend(account: PaperAccount, *, rules: Rules | None = None, lift_halt: bool = False, fast: int | None = None) -> None:
    loaded = account.ledger.load_account(account.name)
    assert loaded is not None
    assert loaded.checkpoint is not None
    parameters = {} if fast is None else {"fast": fast}
    after = amend_terms(loaded.account, loaded.checkpoint.state, rules, None, parameters, lift_halt=lift_halt)
    now = datetime.now(UTC)
    account.ledger.amend(account.name, terms_rows(loaded.account, (after,)), loaded.checkpoint.version, f"{AMENDMENT}{now}", now)


def _trading(account: PaperAccount, *, fast: int) -> PaperAccount:
    return replace(account, parameters={"fast": fast, "slow": 15})


def _audit(account: PaperAccount) -> AuditReport:
    return asyncio.run(audit_ledger.fn(account.request("2026-03-01").settings, account.name))


def _refusals(account: PaperAccount, after: str) -> pl.DataFrame:
    orders = account.ledger.export_rows(account.name)["orders"]
    return orders.filter(
        (pl.col("rule") == "max_drawdown") & (pl.col("decided_at") > pl.lit(after).str.to_datetime(time_zone="UTC"))
    )


@pytest.fixture
def halted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PaperAccount:
    """An account that its drawdown has halted."""
    monkeypatch.setenv("CANDLEWICK_RULES__MAX_DRAWDOWN_SHARE", "0.02")
    account = PaperAccount(tmp_path, timeframe="1h", parameters={"fast": 5, "slow": 15})
    run_cycle(account, "2026-02-01T00:30")
    assert _refusals(account, "2026-01-01").height, "the account must have been halted"
    return account


def test_a_halted_account_stays_halted_until_it_is_amended(halted: PaperAccount) -> None:
    run_cycle(halted, "2026-02-10")
    assert _refusals(halted, "2026-02-02").height > 0


def test_lifting_a_halt_lets_the_account_trade_again_and_count_its_drawdown_anew(halted: PaperAccount) -> None:
    _amend(halted, lift_halt=True)
    run_cycle(halted, "2026-02-03")
    fills = halted.ledger.export_rows(halted.name)["fills"]
    assert fills.filter(pl.col("bar_opened_at") > pl.lit("2026-02-01").str.to_datetime(time_zone="UTC")).height > 0


def test_an_audit_repeats_amended_rules_parameters_and_lifted_halts(halted: PaperAccount) -> None:
    _amend(halted, lift_halt=True)
    _amend(halted, rules=replace(Rules(), max_drawdown_share=Decimal("0.5")), fast=7)
    run_cycle(_trading(halted, fast=7), "2026-02-05T10:20")
    _amend(halted, fast=4)
    run_cycle(_trading(halted, fast=4), "2026-02-05T10:40")
    run_cycle(_trading(halted, fast=4), "2026-02-20")
    report = _audit(halted)
    assert report.differences == 0, report
    assert halted.ledger.export_rows(halted.name)["terms"].height == 4


def test_what_was_traded_before_an_amendment_stays_as_it_was(halted: PaperAccount) -> None:
    before = halted.ledger.export_rows(halted.name)["fills"]
    _amend(halted, fast=3)
    run_cycle(_trading(halted, fast=3), "2026-02-20")
    assert halted.ledger.export_rows(halted.name)["fills"][: before.height].equals(before)


def test_an_amendment_that_changes_nothing_is_refused(halted: PaperAccount) -> None:
    with pytest.raises(UsageError, match="already has these terms"):
        _amend(halted)


def test_lifting_a_halt_of_an_account_that_is_not_halted_is_refused(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path)
    run_cycle(account, "2026-01-10")
    with pytest.raises(UsageError, match="is not halted"):
        _amend(account, lift_halt=True)


def test_an_amendment_with_a_refused_parameter_changes_nothing(halted: PaperAccount) -> None:
    with pytest.raises(UnknownStrategy, match="fast"):
        _amend(halted, fast=0)
    assert halted.ledger.export_rows(halted.name)["terms"].height == 1


def test_a_cycle_that_committed_meanwhile_makes_an_amendment_stale(halted: PaperAccount) -> None:
    loaded = halted.ledger.load_account(halted.name)
    assert loaded is not None
    assert loaded.checkpoint is not None
    after = amend_terms(loaded.account, loaded.checkpoint.state, None, None, {"fast": 3}, lift_halt=False)
    run_cycle(halted, "2026-02-02")
    with pytest.raises(StaleCycle):
        halted.ledger.amend(
            halted.name, terms_rows(loaded.account, (after,)), loaded.checkpoint.version, f"{AMENDMENT}1", datetime.now(UTC)
        )
    assert halted.ledger.export_rows(halted.name)["terms"].height == 1


def test_an_amendment_is_described_a_line_each(halted: PaperAccount) -> None:
    loaded = halted.ledger.load_account(halted.name)
    assert loaded is not None
    assert loaded.checkpoint is not None
    new = replace(Rules(), max_drawdown_share=Decimal("0.5"))
    after = amend_terms(loaded.account, loaded.checkpoint.state, new, None, {"fast": 3}, lift_halt=True)
    assert describe_amendment(loaded.account.current, after) == (
        "parameter fast 5 -> 3",
        "rule max_drawdown_share 0.02 -> 0.5",
        "a halt that was hit is lifted: peak and day start anew",
    )
