"""An account that an older version of the engine has traded goes on with today's: its state is replayed."""

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from candlewick.amending import amend_terms
from candlewick.errors import HistoryChanged, StateOutdated
from candlewick.rebuilding import REBUILT, is_outdated
from candlewick.settings import LakeSettings, StoreSettings, load_settings
from tasks.audit import audit_ledger
from tests.old_ledger import LAST_CYCLE, write_version_1
from tests.paper_accounts import PaperAccount, bare_document, run_cycle

FIRST_CYCLE, NEXT_CYCLE = "2026-01-29T03:00", "2026-02-20T05:00"
WATCHED = PaperAccount(Path(), strategy="fibonacci_golden_zone", symbols=("BTC/USDT", "ETH/USDT"))


def audit_texts(account: PaperAccount) -> tuple[int, str]:
    data = account.directory / "data"
    kept = {"store": StoreSettings(url=str(data / "ledger.duckdb")), "lake": LakeSettings(url=str(data / "lake"))}
    report = asyncio.run(audit_ledger.fn(load_settings().model_copy(update=kept), account.name))
    return report.differences, "\n".join([*map(str, report.first), *report.notices])


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> PaperAccount:
    """The same account, written by today's code in the same cycles. Not to be changed."""
    account = replace(WATCHED, directory=tmp_path_factory.mktemp("new"))
    for moment in (FIRST_CYCLE, LAST_CYCLE):
        run_cycle(account, moment)
    return account


@pytest.fixture
def old(new: PaperAccount, tmp_path: Path) -> PaperAccount:
    """The old ledger, beside a lake that has its candles."""
    shutil.copytree(new.directory / "data" / "lake", tmp_path / "data" / "lake")
    write_version_1(tmp_path / "data" / "ledger.duckdb")
    return replace(new, directory=tmp_path)


def execute(account: PaperAccount, statement: str) -> None:
    with duckdb.connect(str(account.ledger.database.path)) as connection:
        connection.execute(statement)


def test_the_old_ledger_is_of_the_first_schema_and_its_state_has_fewer_fields(old: PaperAccount) -> None:
    with duckdb.connect(str(old.ledger.database.path), read_only=True) as connection:
        state = json.loads(connection.execute("SELECT state FROM checkpoints").fetchall()[0][0])
        versions = connection.execute("SELECT version FROM schema_migrations").fetchall()
    assert versions == [(1,)]
    assert is_outdated(state)
    assert "margin" not in state["account"]
    assert not is_outdated({"account": {**state["account"], "unheard_of": 1}, "positions": state["positions"]})


def test_an_old_account_is_rebuilt_goes_on_and_ends_as_one_that_was_always_new(
    old: PaperAccount, new: PaperAccount, tmp_path: Path
) -> None:
    always = replace(new, directory=tmp_path / "always")
    shutil.copytree(new.directory / "data", always.directory / "data")
    held = old.ledger.view("demo", {}).positions
    assert held.height == 1
    run_cycle(old, NEXT_CYCLE)
    run_cycle(always, NEXT_CYCLE)
    runs = old.ledger.export_rows("demo")["runs"]
    assert REBUILT in json.loads(runs["notices"][-1])
    ours, theirs = bare_document(old), bare_document(always)
    for table in set(ours) - {"terms"}:  # terms were written without the rules that did not exist
        assert ours[table] == theirs[table], table
    loaded, expected = old.ledger.load_account("demo"), always.ledger.load_account("demo")
    assert loaded is not None
    assert expected is not None
    assert loaded.account.current.rules == expected.account.current.rules
    assert loaded.checkpoint is not None
    assert loaded.checkpoint.state is not None
    assert expected.checkpoint is not None
    assert expected.checkpoint.state is not None
    assert loaded.checkpoint.state.to_document() == expected.checkpoint.state.to_document()
    assert audit_texts(old)[0] == 0


def test_a_rebuilt_account_is_not_rebuilt_again(old: PaperAccount) -> None:
    run_cycle(old, NEXT_CYCLE)
    run_cycle(old, "2026-02-21T05:00")
    assert REBUILT not in json.loads(old.ledger.export_rows("demo")["runs"]["notices"][-1])


def test_a_cycle_without_a_new_bar_rebuilds_too(old: PaperAccount) -> None:
    decided = run_cycle(old, LAST_CYCLE)
    assert decided.advanced.bars == 0
    loaded = old.ledger.load_account("demo")
    assert loaded is not None
    assert loaded.checkpoint is not None
    assert loaded.checkpoint.state is not None
    assert audit_texts(old)[0] == 0


def test_an_old_account_can_be_audited_before_it_goes_on(old: PaperAccount) -> None:
    differences, texts = audit_texts(old)
    assert differences == 0
    assert "an older version wrote the state" in texts


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE positions SET quantity = quantity + 1",
            r"the quantity of BTC/USDT is 1\.\d+ in the ledger and 0\.\d+ in the replay",
        ),
        ("UPDATE postings SET amount = amount + 1 WHERE posting_id = 'demo-deposit-1'", r"cash is [\d.]+ in the ledger and"),
        ("DELETE FROM events WHERE sequence = 3", r"the number of events is 15 in the ledger and 16 in the replay"),
    ],
)
def test_a_replay_that_ends_elsewhere_stops_the_cycle_and_says_what_to_do(old: PaperAccount, statement: str, words: str) -> None:
    execute(old, statement)
    before = old.ledger.export_rows("demo")["runs"].height
    with pytest.raises(StateOutdated, match=words + r".*open a new account with --account"):
        run_cycle(old, NEXT_CYCLE)
    assert old.ledger.export_rows("demo")["runs"].height == before


def test_an_old_account_whose_candles_are_gone_says_that_the_lake_must_be_restored(old: PaperAccount) -> None:
    shutil.rmtree(old.directory / "data" / "lake")
    with pytest.raises(HistoryChanged, match=r"the lake's BTC/USDT, ETH/USDT candles are not those .* Restore the lake"):
        run_cycle(old, NEXT_CYCLE)


def test_an_old_account_takes_options_that_it_was_opened_with_although_its_strategy_has_more_now(old: PaperAccount) -> None:
    named = replace(old, parameters={"lookback_bars": 48})
    assert run_cycle(named, NEXT_CYCLE).advanced.bars > 100


def test_the_terms_of_an_old_account_can_be_amended_once_it_is_rebuilt(old: PaperAccount) -> None:
    loaded = old.ledger.load_account("demo")
    assert loaded is not None
    assert loaded.checkpoint is not None
    assert loaded.checkpoint.state is None
    run_cycle(old, NEXT_CYCLE)
    loaded = old.ledger.load_account("demo")
    assert loaded is not None
    assert loaded.checkpoint is not None
    assert loaded.checkpoint.state is not None
    rules = replace(loaded.account.current.rules, max_entries=2)
    after = amend_terms(loaded.account, loaded.checkpoint.state, rules, None, {}, lift_halt=False)
    assert (after.version, after.rules.max_entries) == (2, 2)
