"""Misbehaviour on command: which requests it meets, how often, and what it does to the answer."""

from dataclasses import asdict, dataclass

from tests.emulator.klines import Kline

# Bodies as reported in the wild (shared/data/wire/binance_observed_errors.json); the 429's text is from Binance's documentation.
BODY_429 = '{"code":-1003,"msg":"Too many requests; current limit is 6000 request weight per 1 MINUTE."}'
BODY_418 = (
    '{"code":-1003,"msg":"Way too much request weight used; IP banned until %d. '
    'Please use the websocket for live updates to avoid bans."}'
)
BODY_403_HTML = (
    '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">\n'
    "<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY><H1>403 ERROR</H1>"
    "<H2>The request could not be satisfied.</H2><HR>Request blocked. "
    + "We can't connect to the server for this app or website at this time. " * 20
    + "</BODY></HTML>"
)

ANSWER_KINDS = ("http", "html", "hang", "drop", "truncate", "empty", "repeat", "shape")
CANDLE_PATHS = ("/klines", "/OHLC", "/candles")
CANDLE_KINDS = ("duplicate", "missing", "out_of_order", "nan", "negative", "crossed", "zero_volume", "unclosed")


@dataclass(slots=True)
class Fault:
    """``count`` requests (None: all) that match ``path`` (a part of it) and ``symbol`` are answered wrongly.

    ``skip`` of them are answered rightly first. ``kind`` is one of ANSWER_KINDS or CANDLE_KINDS. ``http`` takes ``status``
    (503; of ``html`` 403), ``retry_after_s`` (a header, None for none) and ``body``; ``hang`` waits ``seconds``. Candle kinds
    hit the candle opened at ``opened_at_ms`` (requests whose answer lacks it do not count), or row number ``row`` of the page
    (-1: the last), or else the middle one; ``field`` is the value that ``nan`` and ``negative`` spoil; ``crossed`` is a high
    below its low.
    """

    kind: str
    count: int | None = 1
    path: str = "/api/"
    symbol: str | None = None
    skip: int = 0
    status: int | None = None
    retry_after_s: int | None = None
    body: str | None = None
    seconds: float = 3600.0
    opened_at_ms: int | None = None
    row: int | None = None
    field: str = "close"

    def __post_init__(self) -> None:
        if self.kind not in ANSWER_KINDS + CANDLE_KINDS:
            raise ValueError(f"fault {self.kind!r} is unknown: use one of {', '.join(ANSWER_KINDS + CANDLE_KINDS)}")

    def matches(self, path: str, symbol: str | None) -> bool:
        """Whether this fault is meant for such a request. Candle kinds and ``repeat`` are for candles alone."""
        klines_only = self.kind in CANDLE_KINDS or self.kind == "repeat"
        if self.count == 0 or self.path not in path or (klines_only and not path.endswith(CANDLE_PATHS)):
            return False
        return self.symbol is None or self.symbol == symbol

    def use_up(self) -> bool:
        """Count one matching request; False while it is still to be skipped."""
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.count is not None:
            self.count -= 1
        return True

    def to_document(self) -> dict[str, object]:
        """JSON-ready."""
        return asdict(self)


def http_answer(fault: Fault, now_ms: int) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an ``http`` fault."""
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    status = fault.status or 503
    if fault.body is not None:
        return status, headers, fault.body
    if status == 429:
        return 429, headers, BODY_429
    if status == 418:
        return 418, headers, BODY_418 % (now_ms + (fault.retry_after_s or 120) * 1000)
    return status, headers, f"<html><head><title>{status} Bad answer</title></head><body></body></html>"


def target_row(fault: Fault, rows: list[Kline]) -> int | None:
    """Index of the row a candle fault hits; None where this page has none."""
    if fault.opened_at_ms is not None:
        return next((i for i, row in enumerate(rows) if row[0] == fault.opened_at_ms), None)
    if fault.row is not None:
        return fault.row % len(rows) if -len(rows) <= fault.row < len(rows) else None
    return len(rows) // 2 if rows else None


def spoil(fault: Fault, rows: list[Kline], at: int) -> list[Kline]:
    """The page with row ``at`` spoilt."""
    rows = [list(row) for row in rows]
    column = {"open": 1, "high": 2, "low": 3, "close": 4, "volume": 5}[fault.field]
    match fault.kind:
        case "duplicate":
            rows.insert(at, list(rows[at]))
        case "missing":
            del rows[at]
        case "out_of_order":
            other = at - 1 if at else len(rows) - 1
            rows[at], rows[other] = rows[other], rows[at]
        case "nan":
            rows[at][column] = "NaN"
        case "negative":
            rows[at][column] = f"-{rows[at][column]}"
        case "crossed":
            rows[at][2], rows[at][3] = rows[at][3], f"{float(rows[at][2]) * 2:.8f}"
        case "zero_volume":
            rows[at][5] = "0.00000000"
    return rows
