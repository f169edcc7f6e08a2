"""The settings of a dataset: what is collected, from when on, and how often."""

from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from candlewick.market_data.kinds import KINDS, TIMED_KINDS
from candlewick.market_data.schedules import AUTO, NO_SCHEDULE, check_cron
from candlewick.settings_schema import Allowed
from candlewick.settings_section import SYMBOL, Section, Texts, as_value_error
from candlewick.timeframes import parse_utc, timeframe_ms

DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class DatasetSettings(Section):
    """What is kept complete and up to date: every market with every symbol in every kind and timeframe, from a date on."""

    markets: Annotated[Texts, Allowed("a list of markets, not empty")] = Field(
        min_length=1, examples=[("binance",)], description="Where it comes from: ccxt exchange ids, `sample` or `files:DIR`."
    )
    symbols: Annotated[Texts, Allowed("a list of symbols, BASE/QUOTE, not empty")] = Field(
        min_length=1, examples=[("BTC/USDT", "ETH/USDT")], description="What is collected, as ccxt writes symbols."
    )
    timeframes: Annotated[Texts, Allowed("a list of timeframes such as 1m or 4h, which ohlcv and open_interest need")] = Field(
        (), examples=[("1h",)], description="Lengths of a candle; with `trades` and no `ohlcv`, candles are made of the trades."
    )
    kinds: Annotated[Texts, Allowed(f"a list of {', '.join(KINDS)}")] = Field(
        ("ohlcv",), min_length=1, description="What is collected of each symbol."
    )
    since: Annotated[str, Allowed("a date or time, ISO 8601")] = Field(
        examples=["2024-01-01"],
        description="From when on (ISO 8601, UTC); what the exchange lacks before its listing is found out.",
    )
    schedule: Annotated[
        str,
        BeforeValidator(lambda given: NO_SCHEDULE if given is None else given),
        Allowed("a cron schedule in UTC such as */5 * * * *, auto or none"),
    ] = Field(
        AUTO, description="When it is brought up to date; `auto`: soon after each bar of the shortest timeframe; `none`: by hand."
    )

    @field_validator("symbols")
    @classmethod
    def _written_like_symbols(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        strange = next((symbol for symbol in symbols if not SYMBOL.fullmatch(symbol)), None)
        if strange is not None:
            raise ValueError(f"{strange!r} is not a symbol: write BASE/QUOTE, such as BTC/USDT")
        return symbols

    @field_validator("timeframes")
    @classmethod
    def _known_timeframes(cls, timeframes: tuple[str, ...]) -> tuple[str, ...]:
        for timeframe in timeframes:
            as_value_error(timeframe_ms, timeframe)
        return timeframes

    @field_validator("kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...], info: ValidationInfo[None]) -> tuple[str, ...]:
        unknown = next((kind for kind in kinds if kind not in KINDS), None)
        if unknown is not None:
            raise ValueError(f"kind {unknown!r} is unknown: use {', '.join(KINDS)}")
        timed = next((kind for kind in kinds if kind in TIMED_KINDS), None)
        if timed is not None and info.data.get("timeframes") == ():
            raise ValueError(f"{timed} comes in timeframes: name at least one, such as timeframes: [1h]")
        return kinds

    @field_validator("since")
    @classmethod
    def _understood_start(cls, since: str) -> str:
        as_value_error(parse_utc, since)
        return since

    @field_validator("schedule")
    @classmethod
    def _understood_schedule(cls, schedule: str) -> str:
        if schedule.strip().lower() in (AUTO, NO_SCHEDULE):
            return schedule.strip().lower()
        as_value_error(check_cron, schedule)
        return schedule
