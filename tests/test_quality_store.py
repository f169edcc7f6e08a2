"""The quality table: findings of any series, what becomes of them, and what happens when they are told again."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from candlewick.candles import Series
from candlewick.errors import UsageError
from candlewick.market_data.coverage import Span
from candlewick.market_data.kinds import DataSeries
from candlewick.store.database import Database
from candlewick.store.migrations import MIGRATIONS
from candlewick.store.quality import QualityStore
from candlewick.validation import Finding

HOUR_MS = 3_600_000
T0 = datetime(2026, 7, 1, tzinfo=UTC)
LATER = T0 + timedelta(days=1)
BTC, ETH = Series("binance", "BTC/USDT", "1h"), Series("binance", "ETH/USDT", "1h")
OPEN_INTEREST = DataSeries("binanceusdm", "BTC/USDT:USDT", "open_interest", "1h")


def finding(kind: str, first: int, end: int, evidence: str = "as it is", severity: str = "warning") -> Finding:
    return Finding(kind, severity, first * HOUR_MS, end * HOUR_MS, evidence)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> QualityStore:
    return QualityStore(Database(str(tmp_path / "ledger.duckdb")))


def states(store: QualityStore) -> dict[str, str]:
    return dict(store.findings().select("kind", "state").iter_rows())


def test_where_there_is_no_ledger_there_is_no_finding_and_none_is_made(store: QualityStore) -> None:
    assert store.findings().is_empty()
    assert store.record(BTC, (), T0) == 0
    assert not store.database.exists()


def test_findings_are_read_by_series_state_kind_and_span(store: QualityStore) -> None:
    store.record_all(
        {
            BTC: (finding("outlier", 10, 11), finding("zero_volume", 12, 14, severity="info")),
            ETH: (finding("outlier", 20, 21),),
            OPEN_INTEREST: (finding("gap_not_downloaded", 0, 5),),
        },
        T0,
    )
    assert store.findings()["kind"].to_list() == ["gap_not_downloaded", "outlier", "zero_volume", "outlier"]
    assert store.findings(ETH)["span_start"].to_list() == [datetime(1970, 1, 1, 20, tzinfo=UTC)]
    assert store.findings([BTC, ETH], state="open").height == 2
    assert store.findings(OPEN_INTEREST)["timeframe"].to_list() == ["open_interest-1h"]
    assert store.findings(kinds=["zero_volume"])["state"].to_list() == ["explained"]
    assert store.findings(BTC, since_ms=11 * HOUR_MS)["kind"].to_list() == ["zero_volume"], "a span's end is not part of it"
    assert store.findings(BTC, until_ms=12 * HOUR_MS)["kind"].to_list() == ["outlier"]
    assert store.open_within(BTC, Span(0, 100 * HOUR_MS))["kind"].to_list() == ["outlier"]


def test_the_same_finding_is_one_row_however_often_it_is_told(store: QualityStore) -> None:
    assert store.record(BTC, (finding("outlier", 10, 11),), T0) == 1
    assert store.record(BTC, (finding("outlier", 10, 11), finding("outlier", 10, 11)), LATER) == 0
    assert store.findings()["recorded_at"].to_list() == [T0]
    assert store.record(BTC, (finding("outlier", 10, 11, severity="error"),), LATER) == 1, "a newer version judges it otherwise"
    assert store.findings()["severity"].to_list() == ["error"]


def test_a_finding_that_was_settled_says_how_and_when(store: QualityStore) -> None:
    store.record(BTC, (finding("outlier", 10, 11), finding("revised", 10, 11)), T0)
    (outlier,) = store.findings(kinds=["outlier"])["finding_id"]
    assert store.settle([outlier], "explained", "the market says the same again", LATER) == 1
    row = store.findings(kinds=["outlier"]).row(0, named=True)
    assert (row["state"], row["explanation"], row["settled_at"]) == ("explained", "the market says the same again", LATER)
    assert store.settle([outlier], "explained", "the market says the same again", LATER) == 0
    assert states(store) == {"outlier": "explained", "revised": "open"}
    assert store.settle([outlier], "open", "looked at the wrong bar", LATER) == 1
    assert store.findings(kinds=["outlier"])["settled_at"].to_list() == [None]


def test_an_unknown_finding_or_state_settles_nothing(store: QualityStore) -> None:
    store.record(BTC, (finding("outlier", 10, 11),), T0)
    (outlier,) = store.findings()["finding_id"]
    with pytest.raises(UsageError, match="no finding 'nobody'"):
        store.settle([outlier, "nobody"], "explained", "why", LATER)
    with pytest.raises(UsageError, match="not kept"):
        store.settle([outlier], "kept", "why", LATER)  # type: ignore[arg-type]
    assert states(store) == {"outlier": "open"}


def test_what_was_explained_is_not_reopened_by_being_told_again(store: QualityStore) -> None:
    store.record(BTC, (finding("outlier", 10, 11),), T0)
    store.settle(store.findings()["finding_id"], "explained", "a flash crash, in the news", T0)
    assert store.record(BTC, (finding("outlier", 10, 11),), LATER) == 0
    assert store.findings().select("state", "explanation").row(0) == ("explained", "a flash crash, in the news")


def test_what_was_repaired_and_shows_up_again_is_reopened_and_says_so(store: QualityStore) -> None:
    store.record(BTC, (finding("outlier", 10, 11),), T0)
    store.settle(store.findings()["finding_id"], "repaired", "close 1 became 2", T0)
    assert store.record(BTC, (finding("outlier", 10, 11),), T0) == 0, "told of the time before the repair"
    assert store.record(BTC, (finding("outlier", 10, 11),), LATER) == 1
    row = store.findings().row(0, named=True)
    assert (row["state"], row["settled_at"]) == ("open", None)
    assert row["explanation"] == "found again on 2026-07-02 00:00 UTC; it was repaired on 2026-07-01: close 1 became 2"


def test_what_is_repaired_on_receipt_stays_so(store: QualityStore) -> None:
    for at in (T0, LATER):
        store.record(BTC, (finding("duplicate", 10, 11, severity="info"),), at)
    assert store.findings().select("state", "settled_at").row(0) == ("repaired", None)


@pytest.mark.parametrize("order", ["gap first", "cause first"])
def test_the_cause_of_a_gap_explains_the_gap_within_it_whoever_was_told_first(store: QualityStore, order: str) -> None:
    told = [finding("gap", 10, 14, severity="info"), finding("gap_outage", 10, 14, "1m lacks it too", severity="info")]
    store.record(BTC, (finding("gap", 20, 21, severity="info"),), T0)
    store.record(ETH, (finding("gap", 10, 14, severity="info"),), T0)
    for one in told if order == "gap first" else told[::-1]:
        store.record(BTC, (one,), T0)
    rows = store.findings(BTC, kinds=["gap"]).select("state", "explanation").rows()
    assert rows == [("explained", "gap_outage: 1m lacks it too"), ("open", None)]
    assert store.findings(ETH)["state"].to_list() == ["open"], "another symbol's outage explains nothing here"


def test_findings_of_a_ledger_of_the_third_version_get_the_states_of_today(tmp_path: Path) -> None:
    url = str(tmp_path / "ledger.duckdb")
    told = {"gap": "kept", "zero_volume": "kept", "repeated_candle": "kept", "duplicate": "repaired", "refused": "refused"}
    with Database(url, migrations=MIGRATIONS[:3]).write() as connection:
        for kind, state in told.items():
            row = [kind, *("binance", "BTC/USDT", "1h"), kind, "info", T0, LATER, "as it was", state, T0]
            connection.execute(f"INSERT INTO quality VALUES ({', '.join('?' * len(row))})", row)
    assert states(QualityStore(Database(url))) == {
        "gap": "open",
        "zero_volume": "explained",
        "repeated_candle": "open",
        "duplicate": "repaired",
        "refused": "open",
    }
