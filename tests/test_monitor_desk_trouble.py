"""A desk in trouble: limits that are broken, the kill switch, stages that fail, data that is rubbish, a market that is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from candlewick.json_text import Json
from candlewick.monitoring.events import RiskLimitBreached, RiskLimitLifted, StageFailed, StateChanged
from tests.desk_play import (
    BTC,
    BTC_ACCOUNT,
    BUY,
    ETH,
    ETH_ACCOUNT,
    EXIT,
    Coded,
    Played,
    bars,
    content,
    differing,
    entered_bars,
    playing,
    rejections,
)

FLAT = [100.0] * 30
POISON = 666.0
FRAGILE: dict[str, dict[str, Json]] = {"monitoring": {"restarts": 1}}


@pytest.fixture(autouse=True)
def healthy() -> Iterator[None]:
    yield
    Coded.poison.clear()


def paused(desk: Played) -> list[str | None]:
    return [one.paused_by for one in desk.session.desk.watched.values()]


def states(desk: Played) -> list[str]:
    return [machine.state for machine in desk.session.desk.states.symbols.values()]


# Global risk


def test_an_entry_beyond_a_limit_is_refused_and_kept_as_an_intervention(tmp_path: Path) -> None:
    candles = {BTC: bars(FLAT, {2: BUY}), ETH: bars(FLAT, {2: BUY, 4: BUY})}
    with playing(tmp_path, candles, {"desk_risk": {"max_gross_share": "0.6"}}) as desk:
        desk.to(2)
        desk.to(6)
        assert (entered_bars(desk, BTC_ACCOUNT), entered_bars(desk, ETH_ACCOUNT)) == ([2], [])
        assert rejections(desk, ETH_ACCOUNT) == [(bar, "BUY", "HOLD", "max_gross_share") for bar in (2, 4)]
        kept = desk.store.interventions(ETH_ACCOUNT)[0]
        assert (kept.limit, kept.value) == ("0.60 of equity", "1.00 of equity")
        assert desk.unlike_a_backtest() == []


def test_a_drawdown_beyond_its_limit_closes_everything_at_that_bar(tmp_path: Path) -> None:
    falling = [100.0, 100.0, 100.0, 99.0, 95.0, 95.0, 94.0, 93.0]
    candles = {BTC: bars(falling, {1: BUY, 6: BUY}), ETH: bars(FLAT, {1: BUY})}
    with playing(tmp_path, candles, {"desk_risk": {"max_drawdown_share": "0.02"}}) as desk:
        desk.to(0)
        desk.to(6)
        assert rejections(desk, BTC_ACCOUNT)[0] == (4, "HOLD", "EXIT", "max_drawdown_share")
        assert rejections(desk, BTC_ACCOUNT)[-1] == (6, "BUY", "HOLD", "max_drawdown_share")
        assert rejections(desk, ETH_ACCOUNT)[0] == (4, "HOLD", "EXIT", "max_drawdown_share")
        for account in (BTC_ACCOUNT, ETH_ACCOUNT):
            assert desk.rows(account)["fills"]["leg"].to_list() == ["entry", "exit"]
        assert [event.at.minute for event in desk.heard(RiskLimitBreached)] == [5]
        assert [one.kind for one in desk.store.events("desk")].count("risk.breached") == 1
        assert desk.unlike_a_backtest() == []


def test_the_kill_switch_leaves_everything_and_holds_through_deaths_until_it_is_lifted(tmp_path: Path) -> None:
    codes = {2: BUY, 7: BUY, 9: BUY, 11: BUY, 14: BUY}
    with playing(tmp_path, {BTC: bars(FLAT, codes), ETH: bars(FLAT)}) as desk:
        desk.to(4)
        assert desk.ask("kill") == "the kill switch is pulled: flatten until `lift kill_switch`"
        desk.reopen()
        desk.to(5)
        assert rejections(desk, BTC_ACCOUNT) == [(5, "HOLD", "EXIT", "kill_switch")]
        desk.kill()
        desk.open()
        desk.to(12)
        assert desk.rows(BTC_ACCOUNT)["fills"]["leg"].to_list() == ["entry", "exit"]
        assert rejections(desk, BTC_ACCOUNT)[1:] == [(bar, "BUY", "HOLD", "kill_switch") for bar in (7, 9, 11)]
        assert desk.ask("lift", argument="kill_switch") == "lifted: kill_switch"
        desk.reopen()
        desk.to(15)
        assert entered_bars(desk, BTC_ACCOUNT) == [2, 14]
        assert [type(event) for event in desk.heard(RiskLimitBreached, RiskLimitLifted)] == [RiskLimitBreached, RiskLimitLifted]
        assert desk.unlike_a_backtest() == []


def test_a_breach_that_pauses_shows_every_symbol_paused_until_it_is_lifted(tmp_path: Path) -> None:
    prices = [100.0, 100.0, 100.0, 95.0, 95.0, 95.0, 100.0, 100.0, 100.0]
    candles = {BTC: bars(prices, {1: BUY}), ETH: bars(FLAT, {4: BUY, 7: BUY})}
    limits = {"daily_loss_share": "0.01", "daily_loss_action": "pause", "daily_loss_lift": "when_below"}
    with playing(tmp_path, candles, {"desk_risk": dict(limits)}) as desk:
        desk.to(0)
        desk.to(3)
        assert states(desk) == ["PAUSED", "PAUSED"]
        desk.reopen()
        assert states(desk) == ["PAUSED", "PAUSED"]
        assert str(paused(desk)[1]).startswith("daily_loss_share: 0.025")
        desk.to(4)
        desk.to(6)
        assert (states(desk), paused(desk)) == (["RUNNING", "RUNNING"], [None, None])
        desk.to(8)
        assert rejections(desk, ETH_ACCOUNT) == [(4, "BUY", "HOLD", "paused")]
        assert entered_bars(desk, ETH_ACCOUNT) == [7]
        assert desk.rows(BTC_ACCOUNT)["fills"]["leg"].to_list() == ["entry"]


# Failures


@pytest.mark.parametrize("trouble", ["strategy", "data"])
def test_a_symbol_that_fails_is_given_up_alone_and_catches_up_when_it_is_restarted(tmp_path: Path, trouble: str) -> None:
    candles = {BTC: bars(FLAT, {2: BUY, 8: EXIT}), ETH: bars(FLAT, {1: BUY, 5: POISON, 7: EXIT, 9: BUY})}
    with playing(tmp_path / "undisturbed", candles) as undisturbed:
        undisturbed.to(11)
        wanted = {account: content(undisturbed, account) for account in (BTC_ACCOUNT, ETH_ACCOUNT)}
    with playing(tmp_path / "troubled", candles, FRAGILE) as desk:
        desk.to(3)
        if trouble == "strategy":
            Coded.poison.add(POISON)
            desk.to(5, ticks=6)
        else:
            desk.market.rubbish = {ETH}
            desk.to(5, ticks=12)
        assert [event.stage for event in desk.heard(StageFailed)] == [trouble] * 4
        assert states(desk) == ["RUNNING", "ERROR"]
        assert desk.session.status().symbols[1].quarantined
        desk.to(9)
        assert desk.session.desk.book_of(ETH).start.watermark_at.minute == 3
        desk.market.rubbish = set()
        Coded.poison.clear()
        assert desk.ask("restart", ETH) == f"restarted: {ETH}"
        desk.to(11)
        assert states(desk) == ["RUNNING", "RUNNING"]
        assert {account: differing(content(desk, account), wanted[account]) for account in wanted} == {
            BTC_ACCOUNT: [],
            ETH_ACCOUNT: [],
        }


def test_a_stage_that_failed_over_a_bar_says_which_and_so_do_the_moves_that_followed(tmp_path: Path) -> None:
    with playing(tmp_path, {BTC: bars(FLAT, {5: POISON}), ETH: bars(FLAT)}) as desk:
        desk.to(4)
        Coded.poison.add(POISON)
        desk.to(5)
        failed = desk.heard(StageFailed)[0]
        assert failed.correlation_id == f"sample:{BTC}:1m:2026-01-14T12:05Z"
        assert failed.causation_id in {event.event_id for event in desk.events}
        moved = [event for event in desk.heard(StateChanged) if event.after == "ERROR"]
        assert [(event.correlation_id, event.causation_id) for event in moved[:1]] == [(failed.correlation_id, failed.event_id)]
        Coded.poison.clear()
        desk.to(5, ticks=2)
        assert desk.session.desk.book_of(BTC).start.watermark_at.minute == 5
        assert {machine.state for machine in desk.session.desk.states.machines()} == {"RUNNING"}
        assert desk.session.desk.counts.errors == len(desk.heard(StageFailed))


def test_a_market_that_is_away_is_no_symbols_fault(tmp_path: Path) -> None:
    with playing(tmp_path, {BTC: bars(FLAT, {2: BUY}), ETH: bars(FLAT, {2: BUY})}, FRAGILE) as desk:
        desk.to(1)
        desk.market.away = {BTC, ETH}
        for bar in range(2, 12):
            desk.to(bar)
        assert desk.session.desk.counts.errors >= 20
        assert (states(desk), paused(desk)) == (["RUNNING", "RUNNING"], [None, None])
        desk.market.away = set()
        desk.to(13)
        assert entered_bars(desk, BTC_ACCOUNT) == entered_bars(desk, ETH_ACCOUNT) == [2]
        assert desk.unlike_a_backtest() == []
