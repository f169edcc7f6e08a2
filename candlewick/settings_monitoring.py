"""The settings of monitored sessions: the session itself, regimes, signal rules, global risk, alerts, and the external bus."""

import re
from decimal import Decimal
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from candlewick.settings_layers import split_list
from candlewick.settings_schema import Allowed
from candlewick.settings_section import Section, Text, Texts, as_value_error
from candlewick.timeframes import timeframe_ms

_PAIR = re.compile(r"[^\s=]+=[^\s=]+")
Wait = Annotated[float, Field(gt=0, le=3600)]
Share = Annotated[Decimal, Field(gt=0, le=1)]
Multiple = Annotated[Decimal, Field(gt=0, le=1000)]
Consequence = Literal["pause", "flatten", "block_entries"]
Lift = Literal["manual", "next_day", "when_below"]
RegimeName = Literal["trend", "range", "high_volatility", "unknown"]


class MonitoringSettings(Section):
    """A session of `flows.monitoring`: what a new desk trades beyond the section `paper`, and how the session keeps itself."""

    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")] = Field(
        "desk", description="Name of the desk; sessions of one desk follow one another, one at a time."
    )
    timeframe: Annotated[str, Allowed("a number and m, h, d or w, such as 1m")] = Field(
        "1m", description="Length of a candle of a new desk."
    )
    accounts: Literal["per_symbol", "shared"] = Field(
        "per_symbol",
        description="`per_symbol`: every symbol has an account and a share of the cash of its own, and never waits for another; "
        "`shared`: one account, whose symbols share its cash and wait for the slowest.",
    )
    history_days: int = Field(1, ge=0, le=36500, description="How far before now a new desk's accounts start, in days.")
    duration: Annotated[str, Allowed("a number and m, h or d, such as 1h")] = Field(
        "1h", pattern=r"^[1-9]\d*[mhd]$", description="How long a session lives before it hands over to the next one."
    )
    handover_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        120, description="How long a scheduled session stays beyond its end for the next one to be ready, in seconds."
    )
    poll_interval_s: Wait = Field(1, description="How often the session looks for new bars and commands, in seconds.")
    clock_interval_s: Wait = Field(10, description="How often the exchange is asked for its time, in seconds.")
    heartbeat_s: Wait = Field(5, description="How often the session writes its status to the store, in seconds.")
    stale_after_bars: Annotated[int, Field(ge=1, le=10000)] | None = Field(
        5, description="Bars without a new candle after which a symbol whose market is open is paused as stale; none: never."
    )
    restarts: int = Field(
        3, ge=0, le=100, description="Restarts of a failing stage, and then of its symbol, before it is given up."
    )
    restart_base_s: Wait = Field(1, description="Pause before the first restart; it doubles each time. In seconds.")
    restart_max_s: Wait = Field(60, description="Longest pause between restarts, in seconds.")
    flush_bars: int = Field(15, ge=1, le=10000, description="Bars of a symbol that the store keeps before they go to the lake.")
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port on loopback for metrics in Prometheus format; none: no metrics are served."
    )
    dashboard_port: int = Field(4280, ge=1, le=65535, description="Port of `make dashboard`, on loopback.")

    @field_validator("timeframe")
    @classmethod
    def _known_timeframe(cls, timeframe: str) -> str:
        as_value_error(timeframe_ms, timeframe)
        return timeframe


class RegimeSettings(Section):
    """How a symbol's regime is told, and in which ones the strategy may enter."""

    entries: Annotated[tuple[RegimeName, ...], BeforeValidator(split_list), Allowed("a list of regimes")] = Field(
        (), examples=[("trend",)], description="Regimes in which entries are allowed; empty: in all of them."
    )
    adx_bars: int = Field(14, ge=2, le=1000, description="Period of the ADX.")
    trend_adx: Annotated[float, Field(gt=0, le=100)] = Field(25, description="ADX at and above which a trend begins.")
    range_adx: Annotated[float, Field(gt=0, le=100)] = Field(20, description="ADX below which a trend ends.")
    slope_bars: int = Field(50, ge=2, le=10000, description="Bars of the moving average whose slope confirms a trend.")
    slope_bps: Annotated[float, Field(ge=0, le=10000)] = Field(
        1, description="Least slope of the moving average in a trend, in basis points a bar, either way."
    )
    volatility_bars: int = Field(50, ge=2, le=10000, description="Bars of returns whose realised volatility is measured.")
    volatility_base_bars: int = Field(
        500, ge=10, le=100000, description="Bars over which the volatility's usual level (its median) is taken."
    )
    volatility_enter: Annotated[float, Field(gt=1, le=100)] = Field(
        2, description="Volatility over its usual level at and above which high volatility begins."
    )
    volatility_leave: Annotated[float, Field(gt=0, le=100)] = Field(
        1.5, description="Volatility over its usual level below which high volatility ends."
    )
    confirm_bars: int = Field(3, ge=1, le=1000, description="Bars in a row that must say the same before the regime changes.")

    @field_validator("range_adx")
    @classmethod
    def _not_above_its_start(cls, range_adx: float, info: ValidationInfo[None]) -> float:
        if range_adx > info.data.get("trend_adx", range_adx):
            raise ValueError(f"it is above trend_adx, which is {info.data['trend_adx']:g}")
        return range_adx

    @field_validator("volatility_leave")
    @classmethod
    def _not_above_enter(cls, volatility_leave: float, info: ValidationInfo[None]) -> float:
        if volatility_leave > info.data.get("volatility_enter", volatility_leave):
            raise ValueError(f"it is above volatility_enter, which is {info.data['volatility_enter']:g}")
        return volatility_leave


class SignalSettings(Section):
    """Which signals a session lets through. What is let through is an entry; exits, stops and targets are never held back."""

    max_age_s: Annotated[float, Field(gt=0, le=86400)] | None = Field(
        None,
        description="Oldest entry signal that is acted on, from its bar's close, in seconds; none: all, as paper trading does.",
    )
    duplicate_bars: int = Field(
        0, ge=0, le=100000, description="Bars within which a second entry of the same side is a duplicate."
    )
    cooldown_bars: int = Field(0, ge=0, le=100000, description="Bars after an entry or exit signal without another entry.")
    max_spread_bps: Annotated[Decimal, Field(gt=0, le=10000)] | None = Field(
        None, description="Widest bid-ask spread at which an entry is let through, in basis points; none: it is not asked for."
    )
    restricted: Texts = Field((), examples=[("DOGE/USDT",)], description="Symbols that may be watched and left, but not entered.")
    calendars: Annotated[Texts, Allowed("a list of SYMBOL=CALENDAR")] = Field(
        (),
        examples=[("AAPL=XNYS",)],
        description="Trading hours by symbol or base currency, `XAU/USD=CMES` or `AAPL=XNYS` (names of exchange_calendars); "
        "others are always open.",
    )

    @field_validator("calendars")
    @classmethod
    def _pairs(cls, calendars: tuple[str, ...]) -> tuple[str, ...]:
        strange = next((one for one in calendars if not _PAIR.fullmatch(one)), None)
        if strange is not None:
            raise ValueError(f"{strange!r}: write SYMBOL=CALENDAR, such as AAPL=XNYS")
        return calendars


class DeskRiskSettings(Section):
    """Limits over all symbols and accounts of a session together. Shares are fractions of the desk's equity."""

    time_zone: Annotated[str, Allowed("a time zone such as Europe/London")] = Field(
        "UTC", description="Time zone whose midnight begins the desk's day."
    )
    daily_loss_share: Share | None = Field(None, description="Largest loss within a day, as a share of the day's first equity.")
    max_drawdown_share: Share | None = Field(None, description="Largest drawdown from the highest equity.")
    max_positions: Annotated[int, Field(ge=1, le=100000)] | None = Field(None, description="Most positions open at once.")
    max_gross_share: Multiple | None = Field(None, description="Most gross exposure (long plus short), as a share of equity.")
    max_net_share: Multiple | None = Field(None, description="Most net exposure, long or short, as a share of equity.")
    max_symbol_share: Multiple | None = Field(None, description="Most exposure in one symbol, as a share of equity.")
    groups: Annotated[Texts, Allowed("a list of NAME=SYMBOL+SYMBOL")] = Field(
        (), examples=[("majors=BTC/USDT+ETH/USDT",)], description="Symbols that move together, `majors=BTC/USDT+ETH/USDT`."
    )
    max_group_share: Multiple | None = Field(None, description="Most exposure in one group, as a share of equity.")
    max_orders_per_minute: Annotated[int, Field(ge=1, le=1000000)] | None = Field(
        None, description="Most entry orders within a minute."
    )
    daily_loss_action: Consequence = Field("block_entries", description="What follows when the day's loss is beyond its limit.")
    drawdown_action: Consequence = Field("flatten", description="What follows when the drawdown is beyond its limit.")
    kill_switch_action: Consequence = Field("flatten", description="What `kill` does.")
    daily_loss_lift: Lift = Field("next_day", description="What lifts a daily loss breach.")
    drawdown_lift: Lift = Field("manual", description="What lifts a drawdown breach.")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, time_zone: str) -> str:
        if time_zone not in available_timezones():
            raise ValueError(f"{time_zone!r} is not a time zone; write one such as UTC or Europe/London")
        return ZoneInfo(time_zone).key

    @field_validator("groups")
    @classmethod
    def _named_groups(cls, groups: tuple[str, ...]) -> tuple[str, ...]:
        strange = next((one for one in groups if not _PAIR.fullmatch(one)), None)
        if strange is not None:
            raise ValueError(f"{strange!r}: write NAME=SYMBOL+SYMBOL, such as majors=BTC/USDT+ETH/USDT")
        return groups


class AlertSettings(Section):
    """Who is told when something needs a person."""

    urls: SecretStr | None = Field(
        None,
        description="Where alerts go: apprise addresses, separated by spaces, such as `tgram://TOKEN/CHAT`; none: "
        "they are only kept.",
    )
    severity: Literal["info", "warning", "critical"] = Field("warning", description="The least severe alert that is sent.")
    repeat_s: Annotated[float, Field(ge=0, le=604800)] = Field(
        900, description="How long the same alert is not sent again, in seconds; repeats are counted and said then."
    )
    quiet: Annotated[str | None, Allowed("HH:MM-HH:MM")] = Field(
        None,
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        description="Hours in the desk's time zone in which only critical alerts are sent, `22:00-07:00`; others wait.",
    )
    timeout_s: Wait = Field(10, description="Longest wait for a channel to take an alert, in seconds.")


class EventSettings(Section):
    """The external bus: what a desk did, for other programs."""

    redis_url: Annotated[SecretStr | None, Allowed("a redis:// or rediss:// address")] = Field(
        None, description="Redis to which events go as a stream, after the ledger has them; none: no Redis."
    )
    stream: Text = Field("candlewick:events", description="Name of the Redis stream.")
    max_length: int = Field(100_000, ge=100, le=100_000_000, description="About how many events the stream keeps.")
    prefect: bool = Field(True, description="Whether events go to Prefect, so that automations can act on them.")
    timeout_s: Wait = Field(5, description="Longest wait for Redis or Prefect, in seconds.")
