"""Findings wait beside their candles until the ledger has them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from candlewick.candles import Series
from candlewick.findings import drop_noted, note_findings, noted_findings
from candlewick.lake import Lake
from candlewick.validation import Finding

SERIES = Series("sample", "BTC/USDT", "1h")
GAP = Finding("gap", "info", 0, 3_600_000, "1 bars missing")
QUIET = Finding("zero_volume", "info", 0, 3_600_000, "1 bars in which nothing traded; kept")
NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_findings_wait_until_they_are_dropped(lake: Lake) -> None:
    note_findings(lake, SERIES, [GAP])
    note_findings(lake, SERIES, [QUIET])
    note_findings(lake, SERIES, [GAP])
    noted = noted_findings(lake, [SERIES], NOW)
    assert sorted(noted.rows["kind"]) == ["gap", "zero_volume"]
    drop_noted(lake, noted)
    assert noted_findings(lake, [SERIES], NOW).rows.is_empty()


def test_what_is_noted_after_it_was_read_is_not_dropped(lake: Lake) -> None:
    note_findings(lake, SERIES, [GAP])
    noted = noted_findings(lake, [SERIES], NOW)
    note_findings(lake, SERIES, [QUIET])
    drop_noted(lake, noted)
    drop_noted(lake, noted)
    assert noted_findings(lake, [SERIES], NOW).rows["kind"].to_list() == ["zero_volume"]


def test_no_finding_is_no_note_and_makes_no_folder(lake: Lake) -> None:
    note_findings(lake, SERIES, [])
    assert noted_findings(lake, [SERIES, Series("sample", "ETH/USDT", "1h")], NOW).rows.is_empty()
    assert not lake.scratch.exists()
