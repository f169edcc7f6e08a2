"""A desk bar by bar: its accounts are backtests of their bars, events lead back to their bars, and what holds entries back."""

from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest

from candlewick.errors import UsageError
from candlewick.json_text import Json
from candlewick.monitoring.events import (
    IndicatorsUpdated,
    NewCandle,
    OrderPlaced,
    SignalGenerated,
    SignalRejected,
    SignalValidated,
    TradeExecuted,
)
from candlewick.monitoring.request import SessionOptions, as_desk_is, read_session_request
from tests.desk_play import (
    ANCHOR_MS,
    BTC,
    BTC_ACCOUNT,
    BUY,
    ETH,
    ETH_ACCOUNT,
    EXIT,
    MINUTE_MS,
    SELL,
    bars,
    content,
    differing,
    entered_bars,
    playing,
    rejections,
    walk,
)

FLAT = [100.0] * 40
BOTH: dict[str, Json] = {"direction": "both", "max_position_share": "0.5"}


def random_decisions(seed: int, length: int) -> pl.DataFrame:
    """A random walk on which something is decided at most bars."""
    rng = np.random.default_rng(seed)
    codes = pl.Series(rng.choice([500.0, 500.0, BUY, SELL, EXIT], length))
    return walk(seed, length).with_columns(volume=codes)


# One engine


@pytest.mark.parametrize(
    ("accounts", "rules", "kind"),
    [("per_symbol", {}, "spot"), ("shared", BOTH, "margin")],
    ids=["an account a symbol", "one account, both sides"],
)
def test_accounts_watched_in_pieces_and_through_deaths_are_one_backtest_of_their_bars(
    tmp_path: Path, accounts: str, rules: dict[str, Json], kind: str
) -> None:
    settings = {"monitoring": {"accounts": accounts}, "rules": rules, "signals": {"cooldown_bars": 2, "duplicate_bars": 4}}
    candles = {BTC: random_decisions(1, 60), ETH: random_decisions(2, 60)}
    rng, bar = Random(7), -1
    with playing(tmp_path, candles, settings, kind=kind) as desk:
        while bar < 50:
            bar = min(50, bar + rng.choice([1, 9, 15]))
            desk.market.away = {ETH} if rng.random() < 0.2 else set()
            desk.to(bar)
            if rng.random() < 0.3:
                desk.reopen()
        desk.market.away = set()
        desk.to(52, ticks=2)
        assert desk.unlike_a_backtest() == []
        books = desk.session.desk.books.values()
        assert {book.start.state.watermark_ms for book in books} == {ANCHOR_MS + 52 * MINUTE_MS}
        assert sum(desk.rows(book.name)["fills"].height for book in books) >= 8
        assert sum(desk.rows(book.name)["interventions"].height for book in books) > 5


def test_a_perpetual_pays_its_funding_also_while_only_the_store_has_its_bars(tmp_path: Path) -> None:
    perpetual, account = "BTC/USDT:USDT", "desk.BTC-USDT-USDT"
    settings: dict[str, dict[str, Json]] = {"rules": {"direction": "both"}, "monitoring": {"flush_bars": 500}}
    candles = {perpetual: bars([100.0] * 260, {230: SELL, 243: EXIT})}
    paid_at = 240  # 16:00
    with playing(tmp_path, candles, settings, kind="perpetual") as desk:
        desk.to(paid_at - 5)
        desk.to(paid_at - 1)
        desk.market.funding_late_ms = 90_000
        desk.to(paid_at)
        assert desk.session.desk.book_of(perpetual).start.watermark_at.hour == 15, "it waits for what is late"
        desk.to(paid_at + 1)
        desk.reopen()
        desk.to(paid_at + 5)
        rows = desk.rows(account)
        assert rows["fills"]["leg"].to_list() == ["entry", "exit"]
        assert rows["events"].filter(pl.col("kind") == "funding").height == 1
        assert desk.unlike_a_backtest() == []


def test_bars_that_come_together_are_decided_as_if_each_had_come_alone(tmp_path: Path) -> None:
    settings: dict[str, dict[str, Json]] = {
        "rules": BOTH,
        "signals": {"cooldown_bars": 2},
        "desk_risk": {
            "max_positions": 1,
            "max_drawdown_share": "0.004",
            "drawdown_action": "flatten",
            "drawdown_lift": "when_below",
        },
    }
    candles = {BTC: random_decisions(6, 25), ETH: random_decisions(56, 25)}
    with playing(tmp_path / "alone", candles, settings, kind="margin") as alone:
        for bar in range(17):
            alone.to(bar)
        assert alone.unlike_a_backtest() == []
        wanted = {account: content(alone, account) for account in (BTC_ACCOUNT, ETH_ACCOUNT)}
    with playing(tmp_path / "together", candles, settings, kind="margin") as together:
        for bar in (0, 4, 5, 16):
            together.to(bar)
        found = {account: content(together, account) for account in (BTC_ACCOUNT, ETH_ACCOUNT)}
    rules = {rule for account in wanted for rule in wanted[account]["interventions"]["rule"]}
    assert rules >= {"cooldown", "max_positions", "max_drawdown_share"}
    replaced = {what for account in wanted for what in wanted[account]["interventions"]["replacement"]}
    assert replaced == {"HOLD", "EXIT"}
    assert [name for account in wanted for name in differing(found[account], wanted[account])] == []


# Every number has a story


def test_a_fill_leads_back_to_its_candle_inside_and_outside(tmp_path: Path) -> None:
    with playing(tmp_path, {BTC: bars(FLAT, {3: BUY, 6: EXIT}), ETH: bars(FLAT)}) as desk:
        for bar in range(9):
            desk.to(bar)
        bar_id = f"sample:{BTC}:1m:2026-01-14T12:03Z"
        told = {type(event): event for event in desk.events if event.correlation_id == bar_id}
        chain = [TradeExecuted, OrderPlaced, SignalValidated, SignalGenerated, IndicatorsUpdated, NewCandle]
        caused = [(told[later].causation_id, told[earlier].event_id) for later, earlier in pairwise(chain)]
        assert [one for one in caused if one[0] != one[1]] == []
        assert told[NewCandle].causation_id is None
        rows = desk.rows(BTC_ACCOUNT)
        for name in ("signals", "orders", "fills"):
            assert rows[name]["correlation_id"][0] == bar_id, name
        outside = [one for one in desk.store.events("desk") if one.correlation_id == bar_id]
        assert [one.kind for one in outside] == ["order.placed", "fill", "order.changed", "position.opened"]
        leaving = {event.correlation_id for event in desk.heard(TradeExecuted)} - {bar_id}
        assert leaving == {f"sample:{BTC}:1m:2026-01-14T12:06Z"}


# Rejections


def test_a_rejected_entry_is_an_intervention_with_rule_limit_and_value_and_exits_pass(tmp_path: Path) -> None:
    codes = {2: BUY, 3: EXIT, 5: BUY, 7: BUY, 9: BUY, 10: EXIT}
    with playing(tmp_path, {BTC: bars(FLAT, codes)}, {"signals": {"cooldown_bars": 3}}) as desk:
        for bar in (4, 5):
            desk.to(bar)
        desk.reopen()  # what was rejected before begins no cooldown after
        for bar in (7, 8, 11):
            desk.to(bar)
        assert rejections(desk, BTC_ACCOUNT) == [(5, "BUY", "HOLD", "cooldown"), (9, "BUY", "HOLD", "cooldown")]
        kept = desk.store.interventions(BTC_ACCOUNT)[0]
        assert (kept.limit, kept.value, kept.reason) == (
            "3 bars", "2 bars", "an entry or exit signal came 2 bars before it, and 3 bars have to pass"
        )  # fmt: skip
        assert entered_bars(desk, BTC_ACCOUNT) == [2, 7]
        assert desk.rows(BTC_ACCOUNT)["fills"]["leg"].to_list() == ["entry", "exit", "entry", "exit"]
        rejected = desk.heard(SignalRejected)
        assert [event.correlation_id[-6:] for event in rejected] == ["12:05Z", "12:09Z"]
        assert desk.session.desk.counts.rejections == 1
        assert desk.unlike_a_backtest() == []


def test_a_rejected_reversal_still_closes_the_other_side(tmp_path: Path) -> None:
    settings: dict[str, dict[str, Json]] = {"rules": BOTH, "signals": {"cooldown_bars": 4}}
    with playing(tmp_path, {BTC: bars(FLAT, {1: BUY, 3: SELL})}, settings, kind="margin") as desk:
        desk.to(8)
        assert rejections(desk, BTC_ACCOUNT) == [(3, "SELL", "EXIT", "cooldown")]
        assert desk.rows(BTC_ACCOUNT)["fills"]["leg"].to_list() == ["entry", "exit"]
        assert desk.unlike_a_backtest() == []


def test_what_rules_look_back_on_stays_bounded(tmp_path: Path) -> None:
    candles = {BTC: bars(FLAT, dict.fromkeys(range(30), BUY))}
    with playing(tmp_path, candles, {"signals": {"restricted": [BTC], "cooldown_bars": 3}}) as desk:
        for bar in (9, 10, 29):
            desk.to(bar)
        assert len(rejections(desk, BTC_ACCOUNT)) == 30
        book = desk.session.desk.book_of(BTC)
        assert [one.opened_at_ms for one in book.recent[BTC]] == [ANCHOR_MS + bar * MINUTE_MS for bar in (27, 28, 29)]
        for bar in range(30, 34):
            desk.session.desk.pause(BTC, "operator", "for a moment", "kim")
            desk.to(bar)
            desk.session.desk.resume(BTC, "operator", "it is over", "kim")
        assert len(desk.session.desk.pauses) <= 2


# Pauses


def test_a_paused_symbol_enters_nothing_and_its_stop_and_exit_happen(tmp_path: Path) -> None:
    falling = [100.0] * 6 + [100.0, 97.0, 97.0, 97.0, 97.0, 97.0, 97.0]
    candles = {BTC: bars(falling, {2: BUY, 9: BUY}), ETH: bars(FLAT, {2: BUY, 6: EXIT, 9: BUY})}
    with playing(tmp_path, candles, parameters={"stop_loss_bps": 200.0}) as desk:
        desk.to(4)
        assert desk.ask("pause", BTC) == f"paused: {BTC}"
        desk.ask("pause", ETH)
        assert desk.session.desk.states.session.state == "PAUSED"
        desk.reopen()
        assert [machine.state for machine in desk.session.desk.states.symbols.values()] == ["PAUSED", "PAUSED"]
        desk.to(10)
        assert desk.rows(BTC_ACCOUNT)["fills"]["leg"].to_list() == ["entry", "stop"]
        assert desk.rows(ETH_ACCOUNT)["fills"]["leg"].to_list() == ["entry", "exit"]
        assert rejections(desk, BTC_ACCOUNT) == rejections(desk, ETH_ACCOUNT) == [(9, "BUY", "HOLD", "paused")]
        assert desk.ask("resume", BTC) == f"resumed: {BTC}"
        assert [machine.state for machine in desk.session.desk.states.symbols.values()] == ["RUNNING", "PAUSED"]


def test_a_market_that_is_closed_gives_its_last_bar_and_is_not_stale_when_it_opens(tmp_path: Path) -> None:
    settings: dict[str, dict[str, Json]] = {
        "signals": {"calendars": [f"{BTC}=XNYS"]},
        "monitoring": {"stale_after_bars": 5, "history_days": 3},
    }
    opening, closing = 150, 539  # 14:30 is the first bar of the day, 20:59 the last
    with playing(tmp_path, {BTC: walk(5, 1700)}, settings) as desk:
        watched = desk.session.desk.watched[BTC]
        desk.tick()
        assert watched.paused_by == "the market is closed until 2026-01-14 14:30 UTC"
        desk.to(opening)
        desk.market.away = {BTC}
        desk.to(closing)
        assert "market_closed" in watched.paused
        desk.market.away = set()
        desk.to(closing, ticks=3)
        assert watched.last_ms == ANCHOR_MS + closing * MINUTE_MS
        desk.to(1440 + opening - 1)
        assert not watched.paused, "it is stale although its market was closed"
        desk.market.away = {BTC}
        desk.to(1440 + opening + 3)
        assert "stale" not in watched.paused
        desk.to(1440 + opening + 6)
        assert "stale" in watched.paused


# What a desk is


def test_a_desk_goes_on_with_what_its_accounts_were_opened_with(tmp_path: Path) -> None:
    with playing(tmp_path, {ETH: bars(FLAT), BTC: bars(FLAT)}) as desk:
        desk.to(1)
        accounts = desk.ledger.list_accounts()
        bare = read_session_request(SessionOptions())
        assert bare.symbols != (BTC, ETH)
        assert as_desk_is(bare, accounts).symbols == (BTC, ETH)
        elsewhere = accounts.with_columns(market=pl.lit("binance"), timeframe=pl.lit("5m"))
        found = as_desk_is(bare, elsewhere).paper
        assert (found.settings.paper.market, found.settings.paper.timeframe, found.options.timeframe) == ("binance", "5m", None)
        asked = as_desk_is(read_session_request(SessionOptions(timeframe="1m", symbols=(ETH,))), elsewhere).paper
        assert (asked.settings.paper.timeframe, asked.settings.paper.symbols) == ("1m", (ETH,))
        mixed = accounts.with_columns(market=pl.Series(["binance", "kraken"]))
        with pytest.raises(UsageError, match="several of --market: binance, kraken; say which one"):
            as_desk_is(bare, mixed)
        others = accounts.with_columns(account=pl.lit("desk.two.") + pl.col("account"))
        assert as_desk_is(bare, others) == bare
