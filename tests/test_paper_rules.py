"""What paper trading refuses and says before it trades: rules as options, and strategies whose look-ahead check failed."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from candlewick.check_report import CheckFinding, CheckReport
from candlewick.cli import run_command
from candlewick.code_version import code_version
from candlewick.errors import SettingsError, StrategyPeeks, UsageError
from candlewick.rule_texts import named_rules, parse_rules, read_rules
from candlewick.rules import Rules
from candlewick.store.backtests import Backtests
from candlewick.strategies.catalog import load_strategy, strategy_code_version, strategy_document
from candlewick.strategy_checks import kept_check
from tests.paper_accounts import PaperAccount, run_cycle

FIRST, SECOND = "2026-01-10T01:00", "2026-01-12T01:00"


def keep_verdict(account: PaperAccount, *, failed: bool) -> None:
    """Keep a check of the account's strategy as it is today."""
    strategy = load_strategy(account.strategy, account.parameters or {})
    checked_at = datetime(2026, 1, 9, tzinfo=UTC)
    finding = CheckFinding("look_ahead", "BTC/USDT", "the action changes with later candles", checked_at, "action")
    report = CheckReport(account.strategy, strategy_document(strategy), 0, (), (finding,) if failed else ())
    kept = kept_check(
        report, market="sample", timeframe="4h", code_version=code_version(), strategy_version=strategy_code_version(strategy),
        checked_at=checked_at,
    )  # fmt: skip
    Backtests(account.ledger.database).keep_check(kept)


def test_rules_are_read_from_texts_over_a_base_by_the_settings_bounds() -> None:
    base = replace(Rules(), max_entries=3)
    rules = parse_rules(["leverage=2.5", "direction=both", "max_drawdown_share=none"], base)
    assert rules == replace(base, leverage=rules.leverage, direction="both", max_drawdown_share=None)
    assert (str(rules.leverage), rules.max_entries) == ("2.5", 3)
    assert parse_rules(None, base) == base
    assert read_rules({"reverse": False, "max_entries": 5}, base) == replace(base, reverse=False, max_entries=5)


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        (["leverage"], UsageError, "--rule leverage: there is no '='; write --rule NAME=VALUE, such as --rule leverage=3"),
        (["leverage=3", "leverage=4"], UsageError, "leverage is given more than once"),
        (["levrage=3"], SettingsError, "did you mean rules.leverage"),
        (["leverage=0.5"], SettingsError, "'0.5' is not allowed; it must be a number from 1 up to 1000"),
        (["direction=sideways"], SettingsError, "it must be one of long, short, both"),
        (["leverage=none"], SettingsError, "it must be a number from 1"),
        (["leverage=0", "max_entries=0"], SettingsError, "2 settings are refused"),
    ],
)
def test_rules_that_make_no_sense_are_refused_by_name(texts: list[str], error: type[UsageError], words: str) -> None:
    with pytest.raises(error) as refused:
        parse_rules(texts, Rules())
    assert words in str(refused.value)


def test_named_rules_are_texts_still() -> None:
    assert named_rules(["leverage=3", " reverse = no "]) == {"leverage": "3", "reverse": "no"}


def test_the_command_refuses_a_rule_before_prefect_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    from flows.paper_trading import app

    monkeypatch.chdir(tmp_path)
    assert run_command(app, ["--rule", "leverage=0", "--account", "a"]) == 2
    assert "rules.leverage (command line): '0' is not allowed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_new_accounts_rules_come_from_its_options_over_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANDLEWICK_RULES__MAX_ENTRIES", "4")
    monkeypatch.setenv("CANDLEWICK_RULES__SPREAD_BPS", "3")
    account = PaperAccount(tmp_path, rules={"max_entries": "2", "sizing": "risk"})
    run_cycle(account, FIRST)
    loaded = account.ledger.load_account("demo")
    assert loaded is not None
    rules = loaded.account.current.rules
    assert (rules.max_entries, str(rules.spread_bps), rules.sizing) == (2, "3", "risk")


def test_a_strategy_whose_check_failed_does_not_trade(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path)
    keep_verdict(account, failed=True)
    with pytest.raises(StrategyPeeks, match=r"sma_cross failed its look-ahead check .* column action.* with --allow-peeking"):
        run_cycle(account, FIRST)
    assert account.ledger.list_accounts().is_empty()


def test_with_allow_peeking_it_trades_and_every_cycle_says_so(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path, allow_peeking=True)
    keep_verdict(account, failed=True)
    run_cycle(account, FIRST)
    run_cycle(account, SECOND)
    notices = account.ledger.export_rows("demo")["runs"]["notices"].to_list()
    assert len(notices) == 2
    assert all("failed its look-ahead check" in json.loads(text)[0] for text in notices)


def test_an_account_whose_strategy_fails_later_stops_and_what_it_has_stays(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path)
    run_cycle(account, FIRST)
    before = account.ledger.export_document("demo")
    keep_verdict(account, failed=True)
    with pytest.raises(StrategyPeeks):
        run_cycle(account, SECOND)
    assert account.ledger.export_document("demo") == before


def test_a_strategy_that_passed_or_was_never_checked_trades_without_a_word(tmp_path: Path) -> None:
    account = PaperAccount(tmp_path)
    keep_verdict(account, failed=False)
    run_cycle(account, FIRST)
    assert json.loads(account.ledger.export_rows("demo")["runs"]["notices"][0]) == []
