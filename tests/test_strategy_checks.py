"""A kept look-ahead verdict, the refusal of a strategy that failed, and the check as text."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from candlewick.backtest_rows import KeptCheck, check_row, read_check
from candlewick.check_report import KINDS, CheckFinding, CheckReport, SymbolCheck
from candlewick.cli import USAGE
from candlewick.errors import StrategyPeeks
from candlewick.reports.check_text import check_markdown, check_rows, check_sentence, render_check
from candlewick.strategy_checks import check_to_keep, kept_check, refuse_failed

START = datetime(2026, 1, 1, tzinfo=UTC)
PEEK = CheckFinding(
    "look_ahead",
    "BTC/USDT",
    "BTC/USDT 2026-01-02 00:00 UTC: action is BUY with all 500 candles and HOLD with the 25 candles up to 2026-01-02 00:00 UTC",
    START + timedelta(days=1),
    "action",
    "BUY",
    "HOLD",
    START + timedelta(days=1),
)
SLOW = CheckFinding("warmup", "BTC/USDT", "BTC/USDT: decisions depend on the start; measured: 87")


def report(*findings: CheckFinding, symbols: tuple[str, ...] = ("BTC/USDT",)) -> CheckReport:
    checks = tuple(
        SymbolCheck(symbol, 500, START, START + timedelta(hours=499), 60, 3, 25, 24, 30, 28, 250) for symbol in symbols
    )
    return CheckReport("my_pkg.my_mod:Mine", {"fast": 10, "mode": "a|b"}, 0, checks, findings)


def kept(checked: CheckReport, market: str = "binance") -> KeptCheck:
    return kept_check(
        checked, market=market, timeframe="1h", code_version="1.2", strategy_version="abc", checked_at=START + timedelta(days=30)
    )


def text(checked: CheckReport, columns: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=columns, color_system=None).print(render_check(checked))
    return out.getvalue()


# --- keeping and refusing


def test_a_check_survives_its_row() -> None:
    check = kept(report(PEEK, SLOW))
    again = read_check(check_row(check).row(0, named=True))
    assert again == check
    assert CheckReport.from_document(again.document) == report(PEEK, SLOW)


def test_a_strategy_that_failed_is_refused_with_the_bar_and_the_column() -> None:
    with pytest.raises(StrategyPeeks, match=r"Mine failed .* of 2026-01-31 00:00 UTC \(binance 1h\).*action is BUY") as refusal:
        refuse_failed(kept(report(PEEK, SLOW)), allow=False)
    assert "(bar 2026-01-02 00:00 UTC, column action)" in str(refusal.value)
    assert refusal.value.exit_code == USAGE


def test_a_strategy_that_failed_may_be_used_when_allowed_and_the_report_says_so() -> None:
    notice = refuse_failed(kept(report(PEEK)), allow=True)
    assert notice is not None
    assert notice.startswith("this strategy failed its look-ahead check on 2026-01-31 00:00 UTC: results cannot be believed.")
    assert "column action" in notice


def test_a_strategy_that_passed_or_was_never_checked_is_not_refused() -> None:
    assert refuse_failed(kept(report(SLOW)), allow=False) is None
    assert refuse_failed(None, allow=False) is None


def test_a_pass_clears_a_failure_only_where_it_saw_the_same_candles() -> None:
    failed, passed = kept(report(PEEK)), kept(report())
    assert check_to_keep(None, failed) is failed
    assert check_to_keep(passed, failed) is failed
    assert check_to_keep(failed, passed) is passed
    assert check_to_keep(failed, kept(report(), market="sample")) is failed
    shorter = replace(report(), symbols=(replace(report().symbols[0], first_at=START + timedelta(days=2)),))
    assert check_to_keep(failed, kept(shorter)) is failed
    assert check_to_keep(failed, kept(report(symbols=("ETH/USDT",)))) is failed
    hasty = replace(report(), symbols=(replace(report().symbols[0], cuts=9),))
    assert check_to_keep(failed, kept(hasty)) is failed


# --- text


def test_every_kind_of_finding_is_explained() -> None:
    for kind, explanation in KINDS.items():
        assert explanation in " ".join(text(report(CheckFinding(kind, "BTC/USDT", "what was found"))).split())


@pytest.mark.parametrize("symbols", [("BTC/USDT",), ("BTC/USDT", "ETH/USDT")])
@pytest.mark.parametrize("columns", [80, 200])
def test_the_text_names_verdict_bar_column_and_warm_up_at_any_width(columns: int, symbols: tuple[str, ...]) -> None:
    shown = text(report(PEEK, SLOW, symbols=symbols), columns)
    words = " ".join(shown.split())
    assert words.startswith("FAILED look-ahead check: my_pkg.my_mod:Mine")
    assert "Failures" in words
    assert "Warnings" in words
    assert "Column action, bar 2026-01-02 00:00 UTC, history cut after 2026-01-02 00:00 UTC" in words
    assert max(map(len, shown.splitlines())) <= columns


def test_a_check_that_passed_says_over_what() -> None:
    assert check_sentence(report()) == (
        "my_pkg.my_mod:Mine (fast=10, mode=a|b) passed its look-ahead check: over 500 bars no decision changed in any of "
        "60 other histories."
    )
    assert "Failures" not in text(report())


def test_many_findings_are_cut_short_with_their_number() -> None:
    assert "... and 3 more" in text(report(*[PEEK] * 13))
    assert "... and 3 more" in check_markdown(report(*[PEEK] * 13))


def test_the_markdown_has_verdict_figures_and_findings_and_no_broken_cell() -> None:
    shown = check_markdown(report(PEEK, SLOW))
    assert shown.startswith("## Failed: look-ahead check of my_pkg.my_mod:Mine\n")
    assert "mode=a\\|b" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("| BTC/USDT")]
    assert row.split(" | ")[1:3] == ["500", "2026-01-01"]
    assert "### Warnings" in shown


def test_findings_are_rows_for_tables_and_json() -> None:
    row = check_rows(report(PEEK))[0]
    assert (row["kind"], row["column"], row["full"], row["truncated"]) == ("look ahead", "action", "BUY", "HOLD")


def test_no_figure_of_many_symbols_wraps_at_eighty_columns() -> None:
    many = report(SLOW, symbols=("BTC/USDT", "ETH/USDT"))
    large = replace(many.symbols[1], bars=1_046_673, cuts=1_046, acting=118_700, acting_checked=1_000, warmup_measured=None)
    shown = text(replace(many, symbols=(many.symbols[0], large)))
    assert [line for line in shown.splitlines() if "1,046,673" in line and "1,000/118,700" in line and "ETH/USDT" in line]
    assert "not within 250 bars" in " ".join(shown.split())
