"""Paper trading on real candles, through the real ccxt client over HTTP, at an exchange that misbehaves.

Every test starts from the same account, which has traded four days, and trades one more day. What goes wrong on that day is
told to the user, and the ledger comes to the very rows of a day on which nothing went wrong: at once, or with the next cycle.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from candlewick.audit import AuditReport, audit, stored_watermark_ms
from candlewick.candles import CANDLE_SCHEMA, FormingBar, Series, candle_digest, opened_at_ms
from candlewick.cli import EXIT_CODES
from candlewick.errors import UnknownSymbol
from candlewick.results import CycleResult
from candlewick.store.queries import account_rows, load_account
from candlewick.timeframes import format_utc, parse_utc
from tests.emulator.candle_book import CandleBook
from tests.emulator.faults import Fault
from tests.emulator.server import Emulator
from tests.emulator_fixture import EXCHANGE_INFO, HOUR_MS
from tests.paper_flow import SYMBOLS, Workplace, differences, folded, real_opens, real_windows, trade
from tests.shared_data import real_candles

DAY_MS = 24 * HOUR_MS
CHECKOUT = Path(__file__).resolve().parents[1]
OPTIONS: Mapping[str, object] = {
    "account": "desk",
    "market": "binance",
    "symbols": list(SYMBOLS),
    "timeframe": "1h",
    "strategy": "sma_cross",
    "parameters": {"fast": 3, "slow": 8},
    "since": "2026-03-02",
}
# Both inside a bar, so that what is decided at the last close fills at the forming bar's open.
BEFORE, AFTER = "2026-03-06T00:30", "2026-03-07T00:30"
ANCHOR_MS = parse_utc("2026-03-02")
LAST_CLOSED_MS = parse_utc("2026-03-06T23:00")
MIDDLE_MS = parse_utc("2026-03-06T12:00")
Rows = Mapping[str, pl.DataFrame]


def configure(patch: pytest.MonkeyPatch, exchange: Emulator, **settings: object) -> None:
    quick: dict[str, object] = {
        "api_url": exchange.url,
        "rate_limit": "false",
        "timeout_s": 10,
        "max_attempts": 3,
        "retry_base_s": 0.01,
        "retry_max_s": 0.05,
    }
    for name, value in (quick | settings).items():
        patch.setenv(f"CANDLEWICK_EXCHANGES__BINANCE__{name.upper()}", str(value))


def trade_until(until: str | None = AFTER, **options: object) -> CycleResult:
    return trade(**{**OPTIONS, "until": until, **options})


@pytest.fixture(scope="module")
def opened(
    tmp_path_factory: pytest.TempPathFactory, real_exchange_server: Emulator, prefect_server: str
) -> tuple[Path, dict[str, Rows]]:
    """The account's folder after its first cycle, and its rows then (BEFORE) and after an undisturbed second one (AFTER)."""
    folder, later = tmp_path_factory.mktemp("opened"), tmp_path_factory.mktemp("later")
    real_exchange_server.clear()
    rows: dict[str, Rows] = {}
    with pytest.MonkeyPatch.context() as patch:
        configure(patch, real_exchange_server)
        for place, until in ((Workplace(folder), BEFORE), (Workplace(later / "desk"), AFTER)):
            if until == AFTER:
                shutil.copytree(folder, place.directory)
            for name, value in place.settings().items():
                patch.setenv(name, value)
            assert trade_until(until).status == "success"
            rows[until] = place.ledger.export_rows("desk")
    assert rows[AFTER]["fills"].height > rows[BEFORE]["fills"].height > 5, "too quiet a market to show anything"
    return folder, rows


class Desk:
    """The account in a test's own folder, with what its ledger must be."""

    def __init__(self, place: Workplace, exchange: Emulator, rows: Mapping[str, Rows]) -> None:
        self.place, self.exchange, self._rows = place, exchange, rows

    @property
    def rows(self) -> Rows:
        return self.place.ledger.export_rows("desk")

    def last_run(self) -> dict[str, object]:
        return self.rows["runs"].to_dicts()[-1]

    def findings(self, kind: str) -> list[dict[str, object]]:
        with self.place.ledger.database.read() as connection:
            found = pl.DataFrame(
                connection.sql(f"SELECT * FROM quality WHERE kind = '{kind}' ORDER BY span_start").to_arrow_table()
            )
        return found.to_dicts()

    def assert_traded(self) -> None:
        """The ledger is that of an undisturbed day, and holds together."""
        assert differences(self.rows, self._rows[AFTER]) == []
        self.place.ledger.check("desk")

    def assert_untouched(self) -> None:
        """Nothing moved: no order, no fill, no bar."""
        assert differences(self.rows, self._rows[BEFORE]) == []

    def assert_heals(self) -> None:
        """The exchange behaves again, and the next cycle makes up for everything."""
        self.exchange.clear()
        result = trade_until()
        assert (result.status, result.error) == ("success", None)
        self.assert_traded()


@pytest.fixture
def desk(
    workplace: Workplace, opened: tuple[Path, dict[str, Rows]], real_exchange: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    folder, rows = opened
    shutil.copytree(folder, workplace.directory, dirs_exist_ok=True)
    configure(monkeypatch, real_exchange)
    return Desk(workplace, real_exchange, rows)


def audited(desk: Desk) -> AuditReport:
    """The account's replay from the real candles of the files, not from those that the lake has."""
    rows = account_rows(desk.place.ledger.database, "desk")
    watermark_ms = stored_watermark_ms(rows)
    assert watermark_ms is not None
    return audit(rows, real_windows(ANCHOR_MS, watermark_ms), None)


def klines(**fault: object) -> Fault:
    return Fault(**{"kind": "http", "path": "/klines", **fault})  # type: ignore[arg-type]


# -- pauses that the exchange asks for


@pytest.mark.parametrize(
    ("status", "path", "count"), [(429, "/klines", len(SYMBOLS)), (418, "/exchangeInfo", 1), (429, "/time", 1)]
)
def test_a_short_pause_is_waited_out_and_nothing_is_asked_meanwhile(desk: Desk, status: int, path: str, count: int) -> None:
    desk.exchange.misbehave(Fault("http", path=path, status=status, retry_after_s=1, count=count))
    result = trade_until()
    assert (result.status, result.error) == ("success", None)
    desk.assert_traded()
    refused = [request.time_ms for request in desk.exchange.requests() if request.fault == "http"]
    later = [request.time_ms for request in desk.exchange.requests() if request.time_ms > refused[-1]]
    assert len(refused) == count
    assert later
    assert min(later) >= refused[0] + 1000, "asked again while the pause lasted"


def test_a_ban_of_an_hour_is_not_waited_for_and_the_run_is_partial(desk: Desk) -> None:
    desk.exchange.misbehave(klines(status=418, retry_after_s=3600, symbol="SOLUSDT", count=None))
    result = trade_until()
    assert (result.status, EXIT_CODES[result.status]) == ("partial", 3)
    assert result.error == "binance SOL/USDT 1h: asked for a pause for 3600 s (HTTP 418)"
    assert len(desk.exchange.requests("/klines", "SOLUSDT")) == 1, "a ban is prolonged by asking again"
    assert desk.last_run()["error"] == result.error
    desk.assert_untouched()
    desk.assert_heals()


def test_when_everything_is_banned_the_run_fails_after_one_request_a_symbol(desk: Desk) -> None:
    desk.exchange.misbehave(klines(status=429, retry_after_s=3600, count=None))
    result = trade_until()
    assert (result.status, EXIT_CODES[result.status]) == ("failure", 1)
    assert result.error is not None
    assert result.error.startswith("no symbol could be fetched, so nothing was traded: binance BTC/USDT 1h: asked for a pause")
    assert len(desk.exchange.requests("/klines")) <= len(SYMBOLS)
    desk.assert_untouched()
    desk.assert_heals()


# -- answers that are none

WRONG_ANSWERS = {
    "http": (Fault("http", status=503), r"answered HTTP 503 .*not JSON"),
    "hang": (Fault("hang"), r"no answer within 1\.5 s"),
    "drop": (Fault("drop"), r"the connection was dropped before the answer was complete"),
    "html": (
        Fault("html"),
        r"answered HTTP 403 Forbidden with an HTML page \(ERROR: The request could not be satisfied\), not JSON",
    ),
    "html with status 200": (Fault("html", status=200), r"answered HTTP 200 OK with an HTML page"),
    "truncate": (Fault("truncate"), r"with broken JSON \(\d+ characters, cut short or garbled\), not JSON"),
    "shape": (Fault("shape"), r"answered with a row that is no candle"),
}


def test_one_wrong_answer_of_every_kind_in_a_row_is_got_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, desk.exchange, max_attempts=len(WRONG_ANSWERS) + 1, timeout_s=1.5)
    desk.exchange.misbehave(*(replace(fault, symbol="ETHUSDT", path="/klines") for fault, _ in WRONG_ANSWERS.values()))
    result = trade_until()
    assert (result.status, result.error) == ("success", None)
    assert [r.fault for r in desk.exchange.requests("/klines", "ETHUSDT")] == [
        *(fault.kind for fault, _ in WRONG_ANSWERS.values()),
        None,
    ]
    desk.assert_traded()


@pytest.mark.parametrize("kind", WRONG_ANSWERS)
def test_a_symbol_without_a_sensible_answer_is_named_and_the_account_waits_for_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    configure(monkeypatch, desk.exchange, timeout_s=1.5, max_attempts=2)
    fault, text = WRONG_ANSWERS[kind]
    desk.exchange.misbehave(replace(fault, symbol="ETHUSDT", path="/klines", count=None))
    result = trade_until()
    assert result.status == "partial"
    assert result.error is not None
    assert result.error.startswith("binance ETH/USDT 1h: ")
    assert re.search(text, result.error), result.error
    attempts = len(desk.exchange.requests("/klines", "ETHUSDT"))
    assert attempts == 2 or (kind == "drop" and attempts <= 4), "aiohttp itself asks again on another connection"
    assert result.data is not None
    assert result.data.bars == 0
    desk.assert_untouched()
    desk.assert_heals()


@pytest.mark.parametrize(("path", "what"), [("/time", "clock"), ("/exchangeInfo", "markets")])
def test_without_clock_or_rules_the_run_fails_and_says_which(desk: Desk, path: str, what: str) -> None:
    desk.exchange.misbehave(Fault("http", path=path, status=502, count=None))
    result = trade_until()
    assert (result.status, EXIT_CODES[result.status], result.data) == ("failure", 1, None)
    assert result.error is not None
    assert result.error.startswith(f"binance {what}: answered HTTP 502 Bad Gateway with an HTML page")
    assert len(desk.exchange.requests(path)) == 3
    assert desk.exchange.requests("/klines") == []
    assert (desk.last_run()["status"], desk.last_run()["error"]) == ("failure", result.error)
    desk.assert_untouched()
    desk.assert_heals()


# -- candles that are wrong


@pytest.mark.parametrize(
    ("kind", "finding"), [("duplicate", "duplicate"), ("out_of_order", "out_of_order"), ("zero_volume", "zero_volume")]
)
def test_what_can_be_repaired_or_is_a_fact_is_traded_on_and_said_in_quality(desk: Desk, kind: str, finding: str) -> None:
    desk.exchange.misbehave(Fault(kind, symbol="ETHUSDT", opened_at_ms=MIDDLE_MS))
    result = trade_until()
    assert (result.status, result.error) == ("success", None)
    desk.assert_traded()
    (row,) = desk.findings(finding)
    assert (row["symbol"], row["state"]) == ("ETH/USDT", "explained" if kind == "zero_volume" else "repaired")


@pytest.mark.parametrize(
    ("kind", "field", "text"), [("nan", "close", "close nan is not a finite number"), ("negative", "low", "is not above 0")]
)
def test_a_number_that_cannot_be_is_asked_for_again_and_else_refused(desk: Desk, kind: str, field: str, text: str) -> None:
    fault = Fault(kind, symbol="ETHUSDT", opened_at_ms=MIDDLE_MS, field=field, count=None)
    desk.exchange.misbehave(fault)
    result = trade_until()
    assert result.status == "partial"
    assert result.error is not None
    assert result.error.startswith("binance ETH/USDT 1h: bar 2026-03-06 12:00: ")
    assert text in result.error
    (refused,) = desk.findings("refused")
    assert (refused["severity"], refused["state"], refused["evidence"]) == ("error", "open", result.error)
    desk.assert_untouched()

    desk.exchange.clear()
    desk.exchange.misbehave(replace(fault, count=1))
    assert trade_until().status == "success"
    assert [r.fault for r in desk.exchange.requests("/klines", "ETHUSDT")] == [kind, None]
    desk.assert_traded()


def test_a_bar_that_was_left_out_is_asked_for_again_before_it_counts_as_missing(desk: Desk) -> None:
    desk.exchange.misbehave(Fault("missing", symbol="ETHUSDT", opened_at_ms=MIDDLE_MS))
    assert trade_until().status == "success"
    assert desk.findings("gap") == []
    assert desk.findings("out_of_order") == []
    desk.assert_traded()


def test_a_bar_that_stays_missing_is_a_gap_in_which_nothing_fills(desk: Desk) -> None:
    desk.exchange.misbehave(Fault("missing", symbol="ETHUSDT", opened_at_ms=MIDDLE_MS, count=None))
    assert trade_until().status == "success"
    (gap,) = desk.findings("gap")
    assert (gap["symbol"], gap["evidence"]) == ("ETH/USDT", "1 bars missing")
    assert int(gap["span_start"].timestamp() * 1000) == MIDDLE_MS  # type: ignore[attr-defined]
    fills = desk.rows["fills"].filter(pl.col("symbol") == "ETH/USDT", pl.col("bar_opened_at").dt.epoch("ms") == MIDDLE_MS)
    assert fills.is_empty()

    loaded = load_account(desk.place.ledger.database, "desk")
    assert loaded is not None
    candles = real_windows(ANCHOR_MS, LAST_CLOSED_MS)
    gappy = {**candles, "ETH/USDT": candles["ETH/USDT"].filter(pl.col("opened_at").dt.epoch("ms") != MIDDLE_MS)}
    assert differences(desk.rows, folded(loaded.account, gappy, real_opens(LAST_CLOSED_MS + HOUR_MS))) == []
    desk.place.ledger.check("desk")


def test_the_account_waits_for_a_symbol_whose_last_bar_is_not_shown_yet(desk: Desk) -> None:
    desk.exchange.misbehave(Fault("missing", symbol="ETHUSDT", opened_at_ms=LAST_CLOSED_MS, count=None))
    result = trade_until()
    assert result.status == "success"
    assert result.data is not None
    assert "waiting for ETH/USDT: the market shows no candles after 2026-03-06 22:00 UTC yet" in result.data.notices
    assert result.data.bars == 23
    # Nothing but that one bar is due now, and it is still not there; then it is. Neither answer may be taken from a cache.
    assert trade_until().status == "success"
    assert len(desk.exchange.requests("/klines", "ETHUSDT")) == 2
    desk.assert_heals()


def test_a_page_that_comes_twice_is_noticed_and_asked_for_again(desk: Desk) -> None:
    trade_until("2026-03-06T06:30")
    desk.exchange.misbehave(Fault("repeat", symbol="ETHUSDT"))
    assert trade_until().status == "success"
    assert [r.fault for r in desk.exchange.requests("/klines", "ETHUSDT")] == [None, "repeat", None]
    desk.assert_traded()


def test_a_page_that_keeps_coming_is_given_up_by_name(desk: Desk) -> None:
    trade_until("2026-03-06T06:30")
    desk.exchange.misbehave(Fault("repeat", symbol="ETHUSDT", count=None))
    result = trade_until()
    assert result.status == "partial"
    assert result.error is not None
    assert re.match(
        r"binance ETH/USDT 1h: was asked for candles from 2026-03-06 \d\d:00 UTC on and repeated \d old ones", result.error
    )
    desk.assert_heals()


def test_the_bar_that_is_still_forming_is_never_traded_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --until, and with the exchange's own forming bar: its high, low and close are those of this moment."""
    configure(monkeypatch, desk.exchange, max_clock_skew_s=3600)
    this_day_ms = round(time.time() * 1000) // DAY_MS * DAY_MS
    real = real_candles("binance_BTCUSDT_1d").tail(100)
    shift_ms = this_day_ms - int(opened_at_ms(real)[-1])
    moved = real.with_columns(pl.col("opened_at") + pl.duration(milliseconds=shift_ms)).select(list(CANDLE_SCHEMA))
    rows = moved.with_columns(pl.col("opened_at").dt.epoch("ms")).rows()
    with Emulator(book := CandleBook()) as exchange:
        book.add("BTCUSDT", "1d", rows)
        exchange.misbehave(Fault("unclosed", count=None))
        configure(monkeypatch, exchange)
        result = trade(
            account="live", market="binance", symbols=["BTC/USDT"], timeframe="1d", strategy="sma_cross",
            parameters={"fast": 3, "slow": 8}, since=format_utc(this_day_ms - 99 * DAY_MS),
        )  # fmt: skip
        assert result.status == "success"
        closed = moved.filter(pl.col("opened_at").dt.epoch("ms") < this_day_ms)
        kept = desk.place.lake.read(Series("binance", "BTC/USDT", "1d"))
        assert candle_digest(kept) == candle_digest(closed)
        ledger, loaded = desk.place.ledger, desk.place.ledger.load_account("live")
        assert loaded is not None
        forming = FormingBar(this_day_ms, float(moved["open"][-1]))
        assert differences(ledger.export_rows("live"), folded(loaded.account, {"BTC/USDT": closed}, {"BTC/USDT": forming})) == []


# -- clocks


@pytest.mark.parametrize("offset_ms", [10_000, -10_000])
def test_a_clock_that_is_ten_seconds_off_stops_the_cycle_before_any_candle(desk: Desk, offset_ms: int) -> None:
    desk.exchange.clock_offset_ms = offset_ms
    result = trade_until()
    assert (result.status, result.data) == ("failure", None)
    assert result.error is not None
    assert re.match(r"binance: the exchange's clock is [+-](10|9)\.\d s off this machine's; the limit is 5 s", result.error)
    assert f"{offset_ms / 1000:+.0f}"[0] in result.error
    assert result.error.endswith("Nothing was traded")
    assert {request.path for request in desk.exchange.requests()} == {"/api/v3/time"}
    assert desk.last_run()["status"] == "failure"
    desk.assert_untouched()
    desk.assert_heals()


def test_a_clock_that_is_two_seconds_off_is_reported_and_traded_by(desk: Desk) -> None:
    desk.exchange.clock_offset_ms = -2_000
    result = trade_until()
    assert result.status == "success"
    assert result.metadata.clock_skew_ms is not None
    assert -3_000 < result.metadata.clock_skew_ms < -1_000
    desk.assert_traded()


# -- the exchange's rules


def test_the_account_trades_by_the_exchanges_own_rules(desk: Desk) -> None:
    document = json.loads(desk.rows["terms"]["instruments"][0])
    wire = json.loads(EXCHANGE_INFO.read_text(encoding="utf-8"))
    filters = {entry["symbol"]: {f["filterType"]: f for f in entry["filters"]} for entry in wire["symbols"]}
    for instrument in document:
        told = filters[instrument["symbol"].replace("/", "")]
        assert Decimal(instrument["price_tick"]) == Decimal(told["PRICE_FILTER"]["tickSize"])
        assert Decimal(instrument["quantity_step"]) == Decimal(told["LOT_SIZE"]["stepSize"])
        assert Decimal(instrument["min_quantity"]) == Decimal(told["LOT_SIZE"]["minQty"])
        assert Decimal(instrument["min_notional"]) == Decimal(told["NOTIONAL"]["minNotional"])
        assert instrument["taker_fee_bps"] == "10"
    for symbol, step in (("BTC/USDT", "0.00001"), ("ETH/USDT", "0.0001"), ("SOL/USDT", "0.001")):
        quantities = desk.rows["fills"].filter(pl.col("symbol") == symbol)["quantity"].to_list()
        assert quantities
        assert all(quantity % Decimal(step) == 0 for quantity in quantities)


def test_rules_that_the_exchange_changes_act_from_the_next_bar_on_and_the_past_still_replays(desk: Desk) -> None:
    desk.exchange.change_rules("ETHUSDT", PRICE_FILTER={"tickSize": "5.00000000"}, NOTIONAL={"minNotional": "9000.00000000"})
    result = trade_until()
    assert result.data is not None
    assert result.data.notices == ("the trading rules of ETH/USDT have changed; the new ones act from the next bar on",)
    terms = desk.rows["terms"]
    assert terms["version"].to_list() == [1, 2]
    # The forming bar's open was acted on in the first cycle, by the old rules; the bar after it is the first by the new ones.
    assert int(terms["effective_from"].dt.epoch("ms")[1]) == parse_utc("2026-03-06T01:00")
    told = {i["symbol"]: (i["price_tick"], i["min_notional"]) for i in json.loads(terms["instruments"][1])}
    assert told["ETH/USDT"] == ("5", "9000")
    assert told["BTC/USDT"] == ("0.01", "5")
    refused = desk.rows["orders"].filter(pl.col("status") == "refused", pl.col("symbol") == "ETH/USDT")
    assert refused["rule"].unique().to_list() == ["min_notional"]
    assert refused["rule_limit"].unique().to_list() == [Decimal(9000)]
    later = pl.col("bar_opened_at").dt.epoch("ms") > parse_utc("2026-03-06T00:00")
    prices = desk.rows["fills"].filter(pl.col("symbol") == "ETH/USDT", later)["price"].to_list()
    assert all(price % 5 == 0 for price in prices)
    report = audited(desk)
    assert report.differences == 0, report.first

    desk.exchange.clear()
    assert trade_until("2026-03-07T02:30").status == "success"
    assert desk.rows["terms"]["version"].to_list() == [1, 2, 3]
    report = audited(desk)
    assert report.differences == 0, report.first


def test_a_symbol_that_the_exchange_does_not_trade_opens_no_account(desk: Desk) -> None:
    with pytest.raises(UnknownSymbol, match=r"binance does not trade 'BTCC/USDT': did you mean BTC/USDT"):
        trade_until(account="other", symbols=["BTCC/USDT", "ETH/USDT"])
    assert desk.place.ledger.load_account("other") is None
    assert desk.exchange.requests("/klines") == []


def test_a_symbol_that_the_exchange_stops_trading_is_named_and_the_account_waits_for_it(desk: Desk) -> None:
    desk.exchange.delist("SOLUSDT")
    result = trade_until()
    assert result.status == "partial"
    assert result.error is not None
    assert result.error.startswith("binance does not trade 'SOL/USDT'")
    assert result.data is not None
    assert result.data.notices[0].endswith("the account keeps the trading rules it knows")
    desk.assert_untouched()
    desk.assert_heals()


# -- what is asked for once


def test_a_second_account_on_the_same_candles_asks_for_none_of_them(desk: Desk) -> None:
    trade_until()
    desk.exchange.clear()
    assert trade_until(account="second").status == "success"
    assert [request.path for request in desk.exchange.requests()] == ["/api/v3/time", "/api/v3/exchangeInfo"]
    told = ["symbol", "bar_opened_at", "side", "leg", "price", "quantity", "fee", "realized_pnl"]
    ours, theirs = (desk.place.ledger.export_rows(account)["fills"].select(told) for account in ("second", "desk"))
    assert ours.equals(theirs)


def test_a_cycle_with_nothing_new_asks_for_no_candle_and_changes_nothing(desk: Desk) -> None:
    result = trade_until(BEFORE)
    assert result.status == "success"
    assert desk.exchange.requests("/klines") == []
    desk.assert_untouched()


# -- the command


def test_the_command_ends_with_code_3_and_json_when_a_symbol_is_missing(desk: Desk) -> None:
    desk.exchange.misbehave(klines(status=503, symbol="SOLUSDT", count=None))
    command = [sys.executable, "-m", "flows.paper_trading", "--account", "desk", "--until", AFTER, "--json"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "CANDLEWICK_LOGGING__JSON": "true"}
    done = subprocess.run(command, cwd=desk.place.directory, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    assert (document["status"], document["data"]["account"]) == ("partial", "desk")
    assert document["error"].startswith("binance SOL/USDT 1h: answered HTTP 503 Service Unavailable")
    assert document["metadata"]["flow_run_id"]
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    said = [line for line in logged if line["correlation_id"] == document["metadata"]["correlation_id"]]
    assert any("SOL/USDT" in line["message"] for line in said), done.stderr
    desk.assert_untouched()
    desk.assert_heals()
