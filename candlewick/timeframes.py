"""Timeframes, `1m` to `1w`, and durations. Times inside the domain are integers: milliseconds since 1970-01-01 UTC."""

from datetime import UTC, datetime

from candlewick.errors import UsageError

MINUTE_MS = 60_000
DAY_MS = 86_400_000
_UNIT_MS = {"m": MINUTE_MS, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}
# 1970-01-01 was a Thursday; exchanges open weekly candles on Mondays.
_WEEK_OFFSET_MS = 4 * DAY_MS


def timeframe_ms(timeframe: str) -> int:
    """Length of a candle in milliseconds. Raises UsageError for anything but <number><m|h|d|w>."""
    number, unit = timeframe[:-1], timeframe[-1:]
    if unit not in _UNIT_MS or not number.isascii() or not number.isdigit() or int(number) == 0:
        raise UsageError(f"timeframe {timeframe!r} is not understood: use a number and m, h, d or w, such as 15m, 4h or 1d")
    return int(number) * _UNIT_MS[unit]


def parse_duration(text: str) -> int:
    """`180d`, `26w`, `12h` or `90m` as milliseconds. Raises UsageError.

    >>> parse_duration("26w") == 182 * DAY_MS
    True
    """
    number, unit = text.strip()[:-1].rstrip(), text.strip()[-1:]
    if unit not in _UNIT_MS or not number.isascii() or not number.isdigit() or len(number) > 9 or int(number) == 0:
        raise UsageError(f"duration {text!r} is not understood: use a whole number and m, h, d or w, such as 180d, 26w or 12h")
    return int(number) * _UNIT_MS[unit]


def format_duration(duration_ms: int) -> str:
    """Days, hours and minutes, those that are not zero; never weeks, which are hard to add up.

    >>> format_duration(parse_duration("26w")), format_duration(90 * MINUTE_MS)
    ('182d', '1h 30m')
    """
    units = (("d", DAY_MS), ("h", _UNIT_MS["h"]), ("m", MINUTE_MS))
    parts, rest_ms = [], abs(duration_ms)
    for unit, length_ms in units:
        number, rest_ms = divmod(rest_ms, length_ms)
        parts += [f"{number}{unit}"] if number else []
    if rest_ms:
        parts.append(f"{rest_ms / 1000:g}s")
    return ("-" if duration_ms < 0 else "") + (" ".join(parts) or "0m")


def floor_to_bar(time_ms: int, timeframe: str) -> int:
    """Open time of the bar that contains ``time_ms``."""
    length_ms = timeframe_ms(timeframe)
    offset_ms = _WEEK_OFFSET_MS if timeframe.endswith("w") else 0
    return (time_ms - offset_ms) // length_ms * length_ms + offset_ms


def parse_utc(text: str) -> int:
    """ISO 8601 date or time, UTC where it names no zone, as milliseconds. Raises UsageError.

    >>> parse_utc("2026-01-02")
    1767312000000
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time: use ISO 8601 in UTC, such as 2026-01-31 or 2026-01-31T16:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def utc(time_ms: int) -> datetime:
    """Milliseconds as an aware datetime in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def format_utc(time_ms: int) -> str:
    """`2026-01-31 16:00` (UTC; seconds only where there are any)."""
    moment = utc(time_ms)
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")
