"""Repair, the pure part: which spans are asked for again, what an answer changes, what becomes of a finding."""

from datetime import UTC, datetime

import polars as pl
import pytest

from candlewick.candles import CANDLE_SCHEMA, Series
from candlewick.market_data.coverage import Span
from candlewick.market_data.repairing import (
    Acted,
    Difference,
    OpenFinding,
    RepairRequest,
    WitnessAnswer,
    compare_bars,
    judge_finding,
    pieces,
    plan_repair,
    whole_bars,
    without_acted,
    witness_answer,
    witness_timeframe,
)

HOUR_MS = 3_600_000
AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
BTC, ETH = Series("binance", "BTC/USDT", "1h"), Series("binance", "ETH/USDT", "1h")


def finding(kind: str, first: float, end: float, series: Series = BTC, explanation: str | None = None) -> OpenFinding:
    span = Span(int(first * HOUR_MS), int(end * HOUR_MS))
    return OpenFinding(f"{kind}-{first}", series, kind, "warning", span, "as it is", explanation)


def bars(*closes: tuple[int, float]) -> pl.DataFrame:
    rows = [(hour * HOUR_MS, 10.0, 20.0, 5.0, close, 1.0) for hour, close in closes]
    return pl.DataFrame(rows, schema=list(CANDLE_SCHEMA), orient="row").cast(dict(CANDLE_SCHEMA))  # type: ignore[arg-type]


def spans(*hours: tuple[int, int]) -> tuple[Span, ...]:
    return tuple(Span(first * HOUR_MS, end * HOUR_MS) for first, end in hours)


NOTHING = compare_bars(bars(), bars())


def test_near_findings_of_a_series_are_asked_for_together_on_the_grid_of_its_bars() -> None:
    found = [finding("revised", 10.0, 10.001), finding("gap", 12, 20), finding("outlier", 500, 501), finding("gap", 1, 2, ETH)]
    plan = plan_repair(BTC, found)
    assert plan.spans == spans((10, 20), (500, 501))
    assert (len(plan.findings), plan.bars, plan.too_long) == (3, 11, ())


def test_a_span_that_a_backfill_is_for_is_left_out() -> None:
    plan = plan_repair(BTC, [finding("gap_not_downloaded", 0, 300_000), finding("outlier", 5, 6)])
    assert plan.spans == spans((5, 6))
    assert [one.kind for one in plan.too_long] == ["gap_not_downloaded"]


def test_a_long_span_is_asked_for_in_pieces() -> None:
    assert pieces(Span(0, 12_000 * HOUR_MS), "1h") == spans((0, 5_000), (5_000, 10_000), (10_000, 12_000))


def test_a_request_chooses_by_series_and_kind() -> None:
    found = [finding("gap", 1, 2), finding("outlier", 3, 4), finding("gap", 5, 6, ETH)]
    assert RepairRequest().chosen(found) == tuple(found)
    assert RepairRequest(symbol="ETH/USDT").chosen(found) == (found[2],)
    assert RepairRequest(market="binance", timeframe="1h", kinds=("gap",)).chosen(found) == (found[0], found[2])


def test_what_differs_is_told_apart_from_what_is_missing_and_what_is_told_no_longer() -> None:
    difference = compare_bars(bars((1, 11.0), (2, 12.0), (3, 13.0)), bars((2, 12.0), (3, 99.0), (4, 14.0)))
    assert difference.added["close"].to_list() == [14.0]
    assert (difference.before["close"].to_list(), difference.changed["close"].to_list()) == ([13.0], [99.0])
    assert difference.untold["close"].to_list() == [11.0]
    assert difference.to_write["close"].to_list() == [99.0, 14.0]
    assert difference.within(Span(4 * HOUR_MS, 5 * HOUR_MS)).to_write["close"].to_list() == [14.0]


def test_bars_that_an_account_decided_on_are_held_back_up_to_its_watermark() -> None:
    difference = compare_bars(bars((1, 1.0), (5, 5.0), (9, 9.0)), bars((1, 2.0), (4, 4.0), (5, 6.0), (9, 8.0)))
    free, held = without_acted(difference, [Acted("demo", 4 * HOUR_MS, 5 * HOUR_MS)])
    assert free.to_write["close"].to_list() == [2.0, 8.0]
    assert held.to_write["close"].to_list() == [4.0, 6.0]
    restored, _ = without_acted(difference, [Acted("demo", 4 * HOUR_MS, 5 * HOUR_MS)], spans((4, 5)))
    assert restored.added["close"].to_list() == [4.0], "what was lost with a damaged file comes back whoever decided on it"


@pytest.mark.parametrize(
    ("found", "difference", "missing", "witness", "state", "said"),
    [
        (finding("gap", 4, 5), compare_bars(bars(), bars((4, 1.0))), 0, None, "repaired", "1 missing bar came: 1970-01-01 04:00"),
        (
            finding("gap", 4, 6),
            compare_bars(bars(), bars((4, 1.0))),
            1,
            None,
            "open",
            "came: 1970-01-01 04:00; 1 bar still missing",
        ),
        (finding("gap", 4, 5), NOTHING, 0, None, "repaired", "every bar of it is there on 2026-07-01 12:00 UTC"),
        (finding("gap", 4, 6), NOTHING, 2, None, "explained", "the market has no bar there (2 bars)"),
        (finding("gap", 4, 6), NOTHING, 2, WitnessAnswer(False, "1m is silent"), "explained", "(2 bars); 1m is silent"),
        (finding("gap", 4, 6), NOTHING, 2, WitnessAnswer(True, "yet 1m traded"), "open", "(2 bars); yet 1m traded"),
        (finding("refused", 4, 6), NOTHING, 2, None, "repaired", "the market answers sensibly on 2026-07-01 12:00 UTC"),
        (finding("outlier", 4, 5), NOTHING, 0, None, "explained", "the market says the same again on 2026-07-01 12:00 UTC"),
        (
            finding("outlier", 4, 5),
            compare_bars(bars((4, 13.5)), bars((4, 12.0))),
            0,
            None,
            "repaired",
            "bar 1970-01-01 04:00: 10/20/5/13.5/1 became 10/20/5/12/1",
        ),
        (finding("invented_candle", 4, 5), compare_bars(bars((4, 1.0)), bars()), 0, None, "open", "no longer tells 1 bar of it"),
        (
            finding("outlier", 4, 5, explanation="replacing bar x: 1 became 2"),
            NOTHING,
            0,
            None,
            "repaired",
            "bar x: 1 became 2",
        ),
    ],
)
def test_what_becomes_of_a_finding(
    found: OpenFinding, difference: Difference, missing: int, witness: WitnessAnswer | None, state: str, said: str
) -> None:
    outcome = judge_finding(found, difference, missing, witness, AT)
    assert (outcome.state, outcome.explanation.endswith(said) or said in outcome.explanation) == (state, True), (
        outcome.explanation
    )


@pytest.mark.parametrize(
    ("timeframe", "hours", "asked"),
    [("1h", (4, 6), "30m"), ("1h", (4, 4_004), None), ("1m", (0, 24), "30m"), ("1m", (1.5, 1.75), None), ("4h", (4, 8), "1h")],
)
def test_the_nearest_finer_timeframe_is_the_witness_else_a_coarser_one_with_a_whole_bar_in_the_gap(
    timeframe: str, hours: tuple[float, float], asked: str | None
) -> None:
    span = Span(int(hours[0] * HOUR_MS), int(hours[1] * HOUR_MS))
    assert witness_timeframe(timeframe, ("1m", "30m", "1h"), span) == asked


def test_a_witness_counts_bars_that_traded() -> None:
    assert not witness_answer("1m", bars()).traded
    assert not witness_answer("1m", bars((1, 1.0)).with_columns(volume=pl.lit(0.0))).traded
    assert witness_answer("1m", bars((1, 1.0))).text == "yet 1m has 1 bar there that traded"
    assert whole_bars(Span(HOUR_MS // 2, 3 * HOUR_MS + 1), "1h") == Span(HOUR_MS, 3 * HOUR_MS)
