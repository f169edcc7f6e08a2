"""Trading hours against golden answers, which were written down from the exchanges' published rules, not from the library."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from candlewick.errors import UsageError
from candlewick.monitoring.calendars import TradingHours
from candlewick.monitoring.from_settings import trading_hours
from candlewick.settings_monitoring import SignalSettings
from candlewick.timeframes import DAY_MS, MINUTE_MS, format_utc, parse_utc

# exchange_calendars 4.13 with pandas 3.1.
pytestmark = pytest.mark.filterwarnings("ignore:Series.values returning an ndarray that drops timezone:DeprecationWarning")
GOLDEN = Path(__file__).parent / "golden" / "calendars"
ROWS = [
    pytest.param(file.stem, row, id=f"{file.stem} {row['at']}")
    for file in sorted(GOLDEN.glob("*.csv"))
    for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())
]
HOUR_MS = 60 * MINUTE_MS
SHARES = TradingHours(("AAPL=XNYS", "XAU=CMES", "7203=XTKS"))


def local_ms(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).timestamp() * 1000)


@pytest.mark.parametrize(("calendar", "row"), ROWS)
def test_hours_are_what_the_exchange_publishes(calendar: str, row: dict[str, str]) -> None:
    hours, at_ms = TradingHours((f"SYMBOL={calendar}",)), parse_utc(row["at_utc"])
    assert local_ms(row["at"], row["zone"]) == at_ms, "the golden file contradicts itself"
    assert hours.is_open("SYMBOL", at_ms) == (row["is_open"] == "yes"), row["rule"]
    for expected, answer in ((row["next_open"], hours.next_open_ms), (row["next_close"], hours.next_close_ms)):
        if expected:
            found = answer("SYMBOL", at_ms)
            assert found is not None
            assert format_utc(found) == format_utc(local_ms(expected, row["zone"])), row["rule"]


def test_the_golden_answers_cover_holidays_early_closes_clock_changes_weekends_and_breaks() -> None:
    assert {param.values[0] for param in ROWS} == {"CMES", "XLON", "XNYS", "XTKS"}
    assert len(ROWS) > 80


def test_a_symbol_without_a_calendar_is_always_open() -> None:
    hours, saturday_ms = TradingHours(("AAPL=XNYS",)), parse_utc("2026-01-17T12:00")
    assert hours.calendar("BTC/USDT") is None
    assert hours.is_open("BTC/USDT", saturday_ms)
    assert hours.bar_is_in_session("BTC/USDT", saturday_ms, MINUTE_MS)
    assert hours.next_open_ms("BTC/USDT", saturday_ms) is hours.next_close_ms("BTC/USDT", saturday_ms) is None
    bars = hours.expected_bars("BTC/USDT", "1h", saturday_ms + 1, saturday_ms + 4 * HOUR_MS)
    assert bars.tolist() == [saturday_ms + HOUR_MS, saturday_ms + 2 * HOUR_MS, saturday_ms + 3 * HOUR_MS]


def test_a_calendar_is_of_a_symbol_or_of_its_base_currency_and_the_symbol_goes_first() -> None:
    hours = trading_hours(SignalSettings(calendars=("XAU=CMES", "XAU/EUR=XLON", "BTC=24/7")))
    assert [hours.calendar(symbol) for symbol in ("XAU/USD", "XAU/USD:USD", "XAU", "XAU/EUR", "BTC/USDT", "XAUT/USD")] == [
        "CMES", "CMES", "CMES", "XLON", None, None
    ]  # fmt: skip


def test_a_calendar_may_be_called_by_another_of_its_names() -> None:
    assert TradingHours(("AAPL=NASDAQ", "XAU=COMEX")).calendar("XAU/USD") == "CMES"


@pytest.mark.parametrize(
    ("calendars", "words"),
    [
        (("AAPL=XNYZ",), ("AAPL", "'XNYZ'", "XNYS")),
        (("AAPL=nyse",), ("'nyse'", "NYSE")),
        (("AAPL=qqqqqq",), ("exchange_calendars, such as XNYS",)),
        (("AAPL=XNYS", "AAPL=XLON"), ("AAPL has two calendars", "XNYS", "XLON")),
    ],
)
def test_a_calendar_that_is_wrong_is_refused_with_what_is_near(calendars: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refusal:
        TradingHours(calendars)
    assert [word for word in words if word not in str(refusal.value)] == []


def test_the_same_calendar_said_twice_is_no_contradiction() -> None:
    assert TradingHours(("AAPL=XNYS", "AAPL=NYSE")).calendar("AAPL") == "XNYS"


def test_sessions_that_touch_are_one_opening() -> None:
    hours, wednesday_ms = TradingHours(("EUR/USD=24/5",)), parse_utc("2026-01-14T23:59")
    assert hours.next_close_ms("EUR/USD", wednesday_ms) == parse_utc("2026-01-17")
    assert hours.next_open_ms("EUR/USD", wednesday_ms) == parse_utc("2026-01-19")


def test_a_bar_is_in_session_when_any_of_its_minutes_is() -> None:
    thanksgiving_friday = parse_utc("2025-11-28")
    in_session = [SHARES.bar_is_in_session("AAPL", thanksgiving_friday + hour * HOUR_MS, HOUR_MS) for hour in range(24)]
    assert [hour for hour in range(24) if in_session[hour]] == [14, 15, 16, 17]  # 09:30 to 13:00 is 14:30 to 18:00 UTC
    assert SHARES.bar_is_in_session("AAPL", thanksgiving_friday, DAY_MS)
    assert not SHARES.bar_is_in_session("AAPL", thanksgiving_friday + DAY_MS, 2 * DAY_MS)
    lunch_ms = parse_utc("2026-01-15T02:30")
    assert not SHARES.bar_is_in_session("7203", lunch_ms, HOUR_MS)
    assert SHARES.bar_is_in_session("7203", lunch_ms - 1, HOUR_MS)
    assert SHARES.bar_is_in_session("7203", lunch_ms + 1, HOUR_MS)


@pytest.mark.parametrize(
    ("symbol", "timeframe"), [("AAPL", "15m"), ("XAU/USD", "1h"), ("7203", "30m"), ("AAPL", "1d"), ("XAU", "1w")]
)
def test_the_bars_expected_are_those_that_are_in_session(symbol: str, timeframe: str) -> None:
    since_ms, until_ms = parse_utc("2025-11-20T07:31"), parse_utc("2026-01-07T16:01")
    everything = TradingHours().expected_bars(symbol, timeframe, since_ms, until_ms).tolist()
    length_ms = everything[1] - everything[0]
    expected = [bar for bar in everything if SHARES.bar_is_in_session(symbol, bar, length_ms)]
    assert SHARES.expected_bars(symbol, timeframe, since_ms, until_ms).tolist() == expected
    assert since_ms <= expected[0] < expected[-1] < until_ms
    assert timeframe == "1w" or len(expected) < len(everything)


def test_a_day_of_minutes_at_the_stock_exchange_has_390_bars_and_a_short_one_210() -> None:
    for day, minutes in (("2025-11-26", 390), ("2025-11-27", 0), ("2025-11-28", 210)):
        bars = SHARES.expected_bars("AAPL", "1m", parse_utc(day), parse_utc(day) + DAY_MS)
        assert bars.dtype == np.int64
        assert bars.size == minutes, day
    assert SHARES.expected_bars("AAPL", "1m", parse_utc("2025-11-28"), parse_utc("2025-11-26")).size == 0


def test_hours_far_apart_in_time_are_known_in_any_order() -> None:
    hours = TradingHours(("SYMBOL=XSWX",))
    for year in (2026, 2008, 2019):
        assert hours.is_open("SYMBOL", parse_utc(f"{year}-11-18T12:00")) == (datetime(year, 11, 18, tzinfo=UTC).weekday() < 5)


def test_a_time_that_the_calendar_does_not_reach_is_refused_and_never_guessed() -> None:
    with pytest.raises(UsageError, match="calendar XSAU knows no trading hours at 2200-01-01 00:00 UTC"):
        TradingHours(("SYMBOL=XSAU",)).is_open("SYMBOL", parse_utc("2200-01-01"))
