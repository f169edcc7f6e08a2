"""What is repaired and said, what is noted, and what is refused in candles as received."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlewick.candles import CANDLE_SCHEMA, Series, candle_digest
from candlewick.errors import InvalidCandles
from candlewick.store.migrations import MIGRATIONS
from candlewick.timeframes import parse_utc
from candlewick.validation import Finding, ValidatedCandles, finding_rows, validate_candles

SHARED = Path(__file__).resolve().parents[2] / "shared"
SERIES = Series("binance", "BTC/USDT", "1h")
START = datetime(2026, 1, 1, tzinfo=UTC)
LATER_MS = parse_utc("2026-03-01")
HOUR_MS = 3_600_000


def hours(count: int) -> pl.DataFrame:
    """`count` healthy candles, no two alike."""
    return pl.DataFrame(
        {
            "opened_at": [START + timedelta(hours=n) for n in range(count)],
            "open": [100.0 + n for n in range(count)],
            "high": [102.0 + n for n in range(count)],
            "low": [99.0 + n for n in range(count)],
            "close": [101.0 + n for n in range(count)],
            "volume": [5.0 + n % 7 for n in range(count)],
        },
        schema=dict(CANDLE_SCHEMA),
    )


def with_value(frame: pl.DataFrame, row: int, column: str, value: float | None) -> pl.DataFrame:
    return frame.with_columns(pl.when(pl.int_range(pl.len()) == row).then(value).otherwise(pl.col(column)).alias(column))


def validate(frame: pl.DataFrame, now_ms: int = LATER_MS) -> ValidatedCandles:
    return validate_candles(frame, SERIES, now_ms)


def kinds(answer: ValidatedCandles) -> list[str]:
    return [finding.kind for finding in answer.findings]


def test_healthy_candles_pass_unchanged_and_without_a_word():
    answer = validate(hours(30))
    assert answer.candles.equals(hours(30))
    assert answer.findings == ()


@pytest.mark.parametrize("rows", [0, 1])
def test_no_candles_and_one_candle_are_fine(rows: int):
    assert validate(hours(rows)).candles.height == rows


@settings(max_examples=50, deadline=None)
@given(order=st.permutations(range(12)), repeats=st.lists(st.integers(0, 11), max_size=6))
def test_any_order_and_any_exact_repeats_give_the_same_candles(order: list[int], repeats: list[int]):
    answer = validate(hours(12)[[*order, *repeats]])
    assert candle_digest(answer.candles) == candle_digest(hours(12))
    if repeats:
        assert "duplicate" in kinds(answer)
    if [*order, *repeats] != sorted([*order, *repeats]):
        assert "out_of_order" in kinds(answer)


@settings(max_examples=50, deadline=None)
@given(missing=st.sets(st.integers(1, 28)))
def test_missing_bars_are_the_bars_of_the_gaps(missing: set[int]):
    answer = validate(hours(30).filter(~pl.int_range(pl.len()).is_in(list(missing))))
    gaps = [finding for finding in answer.findings if finding.kind == "gap"]
    start_ms = int(START.timestamp() * 1000)
    covered = {
        bar for gap in gaps for bar in range((gap.span_start_ms - start_ms) // HOUR_MS, (gap.span_end_ms - start_ms) // HOUR_MS)
    }
    assert covered == missing
    assert sum(int(gap.evidence.split()[0]) for gap in gaps) == len(missing)


def test_a_gap_at_the_seam_to_what_is_known_is_found():
    known_ms = int(START.timestamp() * 1000) - 3 * HOUR_MS
    (gap,) = validate_candles(hours(5), SERIES, LATER_MS, after_ms=known_ms).findings
    assert (gap.kind, gap.evidence) == ("gap", "2 bars missing")
    assert validate_candles(hours(5), SERIES, LATER_MS, after_ms=known_ms + 2 * HOUR_MS).findings == ()


def test_zero_volume_is_kept_and_noted_by_run():
    frame = hours(10)
    for row in (3, 4, 8):
        frame = with_value(frame, row, "volume", 0.0)
    answer = validate(frame)
    assert answer.candles.equals(frame)
    assert [finding.evidence.split(" bars")[0] for finding in answer.findings] == ["2", "1"]


def test_the_bar_that_has_not_closed_is_dropped_even_when_it_is_nonsense():
    frame = with_value(hours(10), 9, "close", float("nan"))
    answer = validate(frame, now_ms=int(START.timestamp() * 1000) + 9 * HOUR_MS + 1)
    assert answer.candles.equals(hours(9))
    assert kinds(answer) == ["unclosed"]


def test_bars_of_the_future_are_dropped_with_a_warning():
    answer = validate(hours(10), now_ms=int(START.timestamp() * 1000) + 5 * HOUR_MS)
    assert answer.candles.height == 5
    assert [(f.kind, f.severity) for f in answer.findings] == [("unclosed", "info"), ("future", "warning")]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        *((column, bad, "not a finite number") for column in ("open", "volume") for bad in (float("nan"), float("inf"), None)),
        *((column, bad, "not above 0") for column in ("open", "high", "low", "close") for bad in (0.0, -3.0)),
        ("volume", -0.5, "below 0"),
        ("high", 103.9, "below the open or the close"),
        ("low", 104.0, "above the open or the close"),
    ],
)
def test_a_value_that_cannot_be_trusted_is_refused_by_series_bar_column_and_value(column: str, value: float | None, says: str):
    frame = with_value(hours(10), 3, column, value)
    with pytest.raises(InvalidCandles, match=says) as caught:
        validate(frame)
    text = str(caught.value)
    assert "binance BTC/USDT 1h: bar 2026-01-01 03:00" in text
    assert f"{column} {value}" in text


def test_two_different_candles_for_one_time_are_refused():
    with pytest.raises(InvalidCandles, match=r"bar 2026-01-01 04:00 is there twice .* close 105.0 and 104.5"):
        validate(pl.concat([hours(10), with_value(hours(10), 4, "close", 104.5)[[4]]]))


def test_open_times_off_the_grid_are_refused():
    late = pl.duration(milliseconds=(pl.int_range(pl.len()) == 6).cast(pl.Int64))
    frame = hours(10).with_columns(pl.col("opened_at") + late)
    with pytest.raises(InvalidCandles, match=r"1 of 10 bars do not open on the 1h grid, such as 2026-01-01 06:00:00.001"):
        validate(frame)


def test_weekly_bars_belong_on_mondays():
    monday = hours(1).with_columns(opened_at=pl.lit(datetime(2026, 1, 5, tzinfo=UTC)).cast(CANDLE_SCHEMA["opened_at"]))
    weekly = Series("binance", "BTC/USDT", "1w")
    assert validate_candles(monday, weekly, LATER_MS).candles.height == 1
    with pytest.raises(InvalidCandles, match="1w grid"):
        validate_candles(monday.with_columns(pl.col("opened_at") + pl.duration(days=3)), weekly, LATER_MS)


def test_other_columns_types_and_missing_times_are_refused():
    with pytest.raises(InvalidCandles, match="columns are"):
        validate(hours(3).drop("volume"))
    with pytest.raises(InvalidCandles, match="columns are"):
        validate(hours(3).with_columns(pl.col("open").cast(pl.Float32)))
    with pytest.raises(InvalidCandles, match="row 2 has no open time"):
        validate(pl.concat([hours(2), hours(1).with_columns(opened_at=pl.lit(None, dtype=CANDLE_SCHEMA["opened_at"]))]))


def test_a_traded_candle_repeated_at_the_next_hour_is_a_warning():
    frame = hours(10)
    copied = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 5).then(pl.col(c).shift(1)).otherwise(pl.col(c)).alias(c) for c in frame.columns[1:]
    )
    assert [(f.kind, f.severity) for f in validate(copied).findings] == [("repeated_candle", "warning")]


def test_a_volume_whose_level_jumps_ten_thousandfold_is_a_warning_at_that_bar():
    frame = hours(400).with_columns(volume=pl.col("volume") * pl.when(pl.int_range(pl.len()) < 200).then(10_000).otherwise(1))
    (finding,) = validate(frame).findings
    assert (finding.kind, finding.severity) == ("volume_level", "warning")
    assert finding.span_start_ms == int(START.timestamp() * 1000) + 200 * HOUR_MS


def test_findings_become_rows_of_the_quality_table_with_ids_that_stay():
    findings = (Finding("gap", "info", 0, HOUR_MS, "1 bars missing"), Finding("duplicate", "info", 0, HOUR_MS, "1 rows"))
    rows = finding_rows(SERIES, findings, START)
    again = finding_rows(SERIES, findings[::-1], START + timedelta(days=1))
    assert rows["finding_id"].n_unique() == 2
    assert rows["finding_id"].to_list() == again["finding_id"].to_list()[::-1]
    assert rows["state"].to_list() == ["open", "repaired"]
    assert rows["finding_id"][0] != finding_rows(Series("kraken", "BTC/USDT", "1h"), findings, START)["finding_id"][0]
    statements = [statement for migration in MIGRATIONS for statement in migration.statements if "TABLE quality" in statement]
    columns = [line.split()[0] for line in statements[0].partition("(")[2].replace("\n", " ").split(",")]
    assert rows.columns == columns
    assert finding_rows(SERIES, (), START).schema == rows.schema


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is not there")
def test_eight_years_of_real_hours_pass_with_the_gaps_that_were_counted():
    real = pl.read_parquet(SHARED / "data/candles/binance_BTCUSDT_1h_2017-2024.parquet").rename({"ts": "opened_at"})
    answer = validate_candles(real, SERIES, LATER_MS)
    gaps = [finding for finding in answer.findings if finding.kind == "gap"]
    assert answer.candles.equals(real)
    assert len(gaps) == 28
    assert sum(int(gap.evidence.split()[0]) for gap in gaps) == 128
    assert not [finding for finding in answer.findings if finding.severity != "info"]


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is not there")
def test_swapped_volumes_in_real_candles_are_remarked_on():
    real = pl.read_parquet(SHARED / "data/candles/bitstamp_BTCUSD_1h.parquet").rename({"ts": "opened_at"})
    answer = validate_candles(real, Series("bitstamp", "BTC/USD", "1h"), LATER_MS)
    assert "volume_level" in kinds(answer)
