"""Settings: what an installation may choose, with bounds, and the one order in which they are looked up.

The order, the first that says something wins:

1. the command line (an option of the command),
2. the environment: ``CANDLEWICK_`` and the key in capitals, ``__`` for each dot (``CANDLEWICK_STORE__URL``),
3. ``candlewick.yaml`` in the working directory, or the file that ``CANDLEWICK_CONFIG`` names,
4. the default.

Keys are merged one by one. The one exception: strategy parameters belong to their strategy, so a source that names
another strategy drops the parameters of the sources below it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from candlewick.rules import Capital, Direction, Rules, Sizing
from candlewick.settings_check import merge, validate
from candlewick.settings_datasets import DatasetName, DatasetSettings
from candlewick.settings_layers import command_line_layer, environment_layer, file_layer, split_list
from candlewick.settings_monitoring import (
    AlertSettings,
    DeskRiskSettings,
    EventSettings,
    MonitoringSettings,
    RegimeSettings,
    SignalSettings,
)
from candlewick.settings_schema import Allowed, Schema
from candlewick.settings_section import SYMBOL, Section, Text, as_value_error
from candlewick.timeframes import parse_utc, timeframe_ms

DEFAULT_FILE = "candlewick.yaml"
_RULES = Rules()

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN), Allowed("up to 64 letters, digits, _, . and -, the first a letter or digit")]
Seconds = Annotated[float, Field(gt=0, le=3600)]
PauseSeconds = Annotated[float, Field(ge=0, le=3600)]
Bps = Annotated[Decimal, Field(ge=0, le=1000)]
Share = Annotated[Decimal, Field(gt=0, le=1)]


class StoreSettings(Section):
    """The ledger: accounts, orders, fills, runs."""

    url: Text = Field("data/ledger.duckdb", description="Where the ledger is: a DuckDB file.")
    lock_timeout_s: PauseSeconds = Field(60, description="How long a command waits for another one that is writing, in seconds.")


class LakeSettings(Section):
    """The candle lake."""

    url: Text = Field(
        "data/lake", description="Where the candles are (Parquet): a folder, or an object store, `s3://bucket/prefix`."
    )
    scratch: Text = Field(
        "data/lake", description="Folder of signals and sweeps where the lake is in an object store; else they are in the lake's."
    )
    endpoint: Annotated[str | None, Allowed("an http:// or https:// address")] = Field(
        None,
        pattern=r"^https?://[^\s/@]+/?$",
        description="Address of an S3-compatible object store, such as MinIO; none: `AWS_ENDPOINT_URL`, or Amazon's.",
    )
    region: Text | None = Field(None, description="Region of the object store; none: `AWS_REGION`, or us-east-1.")
    access_key_id: SecretStr | None = Field(None, description="Key of the object store; none: `AWS_ACCESS_KEY_ID`.")
    secret_access_key: SecretStr | None = Field(
        None, description="Secret that belongs to the key; none: `AWS_SECRET_ACCESS_KEY`."
    )
    timeout_s: Seconds = Field(30, description="Longest wait for one answer of the object store, in seconds.")

    @field_validator("secret_access_key")
    @classmethod
    def _with_its_key(cls, secret_access_key: SecretStr | None, info: ValidationInfo[None]) -> SecretStr | None:
        if (secret_access_key is None) != (info.data.get("access_key_id") is None):
            raise ValueError("access_key_id and secret_access_key go together; only one of them is set")
        return secret_access_key


class ReportsSettings(Section):
    """Reports."""

    directory: Text = Field("data/reports", description="Folder that HTML reports are written to.")


class LoggingSettings(Section):
    """Logs, on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="The least severe level that is logged."
    )
    json_lines: bool = Field(False, alias="json", description="One JSON object a line, with the correlation id, instead of text.")

    @field_validator("level", mode="before")
    @classmethod
    def _in_capitals(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level


class PaperSettings(Section):
    """The account that paper trading advances, and what it is opened with."""

    account: Name = Field("demo", description="Name of the account.")
    market: Text = Field(
        "sample", description="`sample`, `files:DIR`, `files:DIR#EXCHANGE`, `lake:NAME`, or a ccxt exchange id such as `binance`."
    )
    symbols: Annotated[tuple[str, ...], BeforeValidator(split_list), Allowed("a list of different symbols, BASE/QUOTE")] = Field(
        ("BTC/USDT", "ETH/USDT", "SOL/USDT"),
        min_length=1,
        description="What is traded, in the account's order; one quote currency.",
    )
    timeframe: Annotated[str, Allowed("a number and m, h, d or w, such as 4h")] = Field(
        "4h", description="Length of a candle: a number and `m`, `h`, `d` or `w`."
    )
    strategy: Text = Field(
        "fibonacci_golden_zone", description="Name of a strategy, or an import path such as `my_pkg.my_mod:MyStrategy`."
    )
    parameters: Annotated[Mapping[str, str | int | float | bool], Allowed("text, a number, true or false by name")] = Field(
        default_factory=dict, description="Parameters of the strategy that differ from its defaults."
    )
    cash: Decimal = Field(Decimal(10000), gt=0, le=Decimal("1e9"), description="Cash the account starts with, in quote currency.")
    since: Annotated[str | None, Allowed("a date or time, ISO 8601")] = Field(
        None, description="Open time of the account's first bar (ISO 8601, UTC); none: `history_days` before now."
    )
    history_days: int = Field(
        90, ge=0, le=36500, description="How far before now a new account starts, where `since` is none; in days."
    )

    @field_validator("symbols")
    @classmethod
    def _one_quote_currency(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        strange = [symbol for symbol in symbols if not SYMBOL.fullmatch(symbol)]
        if strange:
            raise ValueError(f"{strange[0]!r} is not a symbol: write BASE/QUOTE, such as BTC/USDT")
        twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named more than once")
        quotes = {found["quote"]: symbol for symbol in symbols if (found := SYMBOL.fullmatch(symbol))}
        if len(quotes) > 1:
            raise ValueError(
                f"one account holds one quote currency, but {' and '.join(sorted(quotes.values()))} differ in theirs"
            )
        return symbols

    @field_validator("timeframe")
    @classmethod
    def _known_timeframe(cls, timeframe: str) -> str:
        as_value_error(timeframe_ms, timeframe)
        return timeframe

    @field_validator("since")
    @classmethod
    def _understood_time(cls, since: str | None) -> str | None:
        if since is not None:
            as_value_error(parse_utc, since)
        return since


class RulesSettings(Section):
    """How a new account sizes and what it may risk. Shares are fractions of 1."""

    slippage_bps: Bps = Field(
        _RULES.slippage_bps, description="Slippage of market and stop fills, against the trader, in basis points."
    )
    capital: Capital = Field(
        _RULES.capital,
        description="What an entry's share is taken of: equity at the decision, initial cash, or equity at the open that fills.",
    )
    max_open_positions: int = Field(_RULES.max_open_positions, ge=1, le=10000, description="Most positions open at once.")
    max_position_share: Share = Field(_RULES.max_position_share, description="Largest position, as a share of capital.")
    daily_loss_limit_share: Share | None = Field(
        _RULES.daily_loss_limit_share, description="Loss within a UTC day that stops new entries until the next; none: no limit."
    )
    max_drawdown_share: Share | None = Field(
        _RULES.max_drawdown_share, description="Drawdown from the highest equity that stops new entries; none: no limit."
    )
    cooldown_bars: int = Field(
        _RULES.cooldown_bars, ge=0, le=100000, description="Bars without a new entry in a symbol after its stop was hit."
    )
    target_1_share: Share = Field(
        _RULES.target_1_share, description="Share of the position that leaves at the first of two targets."
    )
    stop_to_entry_after_target_1: bool = Field(
        _RULES.stop_to_entry_after_target_1, description="Whether the stop moves to the entry price after the first target."
    )
    spread_bps: Bps = Field(
        _RULES.spread_bps, description="Bid-ask spread, of which a market or stop fill pays half, in basis points."
    )
    max_volume_share: Share | None = Field(
        _RULES.max_volume_share,
        description="Most of a bar's volume that one order fills; the rest stays for later bars. None: no limit.",
    )
    direction: Direction = Field(
        _RULES.direction,
        description="Which sides are traded; `short` and `both` need instruments on margin, such as perpetuals.",
    )
    reverse: bool = Field(
        _RULES.reverse, description="With `both`: whether a signal against the position opens the other side at once."
    )
    max_entries: int = Field(_RULES.max_entries, ge=1, le=1000, description="Most entries that add up to one position.")
    leverage: Decimal = Field(
        _RULES.leverage,
        ge=1,
        le=1000,
        description="Notional over margin; above 1 only on margin, up to what the exchange allows.",
    )
    sizing: Sizing = Field(
        _RULES.sizing,
        description="How large an entry is: an equal share, a fixed notional, by risk to the stop, by inverse volatility, "
        "Kelly's share, or the strategy's target weight.",
    )
    fixed_notional: Decimal = Field(
        _RULES.fixed_notional,
        gt=0,
        le=Decimal("1e9"),
        description="Notional of an entry sized `fixed_notional`, in quote currency.",
    )
    risk_share: Share = Field(
        _RULES.risk_share, description="Share of capital that an entry sized `risk` loses if its stop is hit."
    )
    volatility_bars: int = Field(
        _RULES.volatility_bars, ge=2, le=100000, description="Bars of returns that `inverse_volatility` measures."
    )
    kelly_multiple: Share = Field(_RULES.kelly_multiple, description="Part of Kelly's share that is used (0.5: half Kelly).")
    kelly_cap_share: Share = Field(_RULES.kelly_cap_share, description="Largest share that `kelly` gives an entry.")
    kelly_min_trades: int = Field(
        _RULES.kelly_min_trades, ge=1, le=100000, description="Closed trades before `kelly` sizes; an equal share until then."
    )
    rebalance_share: Annotated[Decimal, Field(ge=0, le=1)] = Field(
        _RULES.rebalance_share, description="Smallest change of a target weight that is traded, as a share of equity."
    )

    def to_rules(self) -> Rules:
        """The same as the domain's Rules."""
        return Rules(**dict(self))


class FeesSettings(Section):
    """Trading fees of a new account, per side, in basis points of the notional."""

    maker_bps: Bps | None = Field(None, description="Fee of target (limit) fills; none: what the market charges.")
    taker_bps: Bps | None = Field(None, description="Fee of market and stop fills; none: what the market charges.")


class ExchangeSettings(Section):
    """How one exchange is reached. Candles are public: they need no key."""

    api_url: Annotated[str | None, Allowed("an http:// or https:// address")] = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="Another host that speaks the exchange's API (proxy, emulator); none: the exchange's own.",
    )
    sandbox: bool = Field(False, description="Use the exchange's test network.")
    timeout_s: Seconds = Field(10, description="Longest wait for one answer, in seconds.")
    rate_limit: bool = Field(True, description="Keep to the exchange's published request rate.")
    requests_per_s: float | None = Field(
        None, gt=0, le=1000, description="Own, stricter request rate per second of all processes together; none: the exchange's."
    )
    max_attempts: int = Field(5, ge=1, le=100, description="Attempts at one request, the first included.")
    retry_base_s: PauseSeconds = Field(
        0.5, description="Pause before the second attempt; it doubles each time, with jitter. In seconds."
    )
    retry_max_s: PauseSeconds = Field(30, description="Longest pause between attempts, in seconds.")
    max_clock_skew_s: Seconds = Field(
        5, description="Clock difference to the exchange beyond which a cycle refuses to trade, in seconds."
    )
    api_key: SecretStr | None = Field(None, description="Key of a private account; none is needed for candles.")
    api_secret: SecretStr | None = Field(None, description="Secret that belongs to the key.")
    api_password: SecretStr | None = Field(None, description="Passphrase, where the exchange asks for one.")

    @field_validator("requests_per_s")
    @classmethod
    def _only_when_limited(cls, requests_per_s: float | None, info: ValidationInfo[None]) -> float | None:
        if requests_per_s is not None and info.data.get("rate_limit") is False:
            raise ValueError("it contradicts rate_limit, which is off")
        return requests_per_s

    @field_validator("retry_max_s")
    @classmethod
    def _not_below_the_base(cls, retry_max_s: float, info: ValidationInfo[None]) -> float:
        base_s = info.data.get("retry_base_s")
        if base_s is not None and retry_max_s < base_s:
            raise ValueError(f"it is below retry_base_s, which is {base_s:g}")
        return retry_max_s

    @field_validator("api_secret")
    @classmethod
    def _with_its_key(cls, api_secret: SecretStr | None, info: ValidationInfo[None]) -> SecretStr | None:
        if (api_secret is None) != (info.data.get("api_key") is None):
            raise ValueError("api_key and api_secret go together; only one of them is set")
        return api_secret


class QualitySettings(Section):
    """What a run does when something is known to be wrong with its candles."""

    gate: Annotated[
        Literal["off", "warn", "refuse"],
        BeforeValidator(lambda given: "off" if given is False else given),  # YAML takes a bare off for false
    ] = Field(
        "warn", description="Whether a backtest or a paper cycle looks at the open findings of its window: `warn` says them."
    )
    severity: Literal["info", "warning", "error"] = Field("warning", description="The least severe finding that counts.")
    ignore: Annotated[tuple[Text, ...], BeforeValidator(split_list)] = Field(
        ("stale",), description="Kinds of findings that never count; that a series ended long ago says nothing of its bars."
    )


class ServeSettings(Section):
    """What `make serve` starts on this machine."""

    port: int = Field(4200, ge=1, le=65535, description="Port of the Prefect server, on loopback.")
    work_pool: Name = Field("candlewick", description="Name of the process work pool.")
    schedules: bool = Field(True, description="Whether the deployments' schedules are active.")
    worker_limit: int = Field(4, ge=1, le=1000, description="Most flow runs that the worker runs at once.")


ExchangeId = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Settings(Section):
    """All settings, validated. Sections are documented in docs/settings.md, which is generated from here."""

    store: StoreSettings = StoreSettings()
    lake: LakeSettings = LakeSettings()
    reports: ReportsSettings = ReportsSettings()
    logging: LoggingSettings = LoggingSettings()
    paper: PaperSettings = PaperSettings()
    rules: RulesSettings = RulesSettings()
    fees: FeesSettings = FeesSettings()
    exchanges: Mapping[ExchangeId, ExchangeSettings] = Field(default_factory=dict)
    datasets: Mapping[DatasetName, DatasetSettings] = Field(default_factory=dict)
    quality: QualitySettings = QualitySettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    regimes: RegimeSettings = RegimeSettings()
    signals: SignalSettings = SignalSettings()
    desk_risk: DeskRiskSettings = DeskRiskSettings()
    alerts: AlertSettings = AlertSettings()
    events: EventSettings = EventSettings()
    serve: ServeSettings = ServeSettings()

    def exchange(self, exchange_id: str) -> ExchangeSettings:
        """Settings of an exchange; the defaults where nothing is set for it."""
        return self.exchanges.get(exchange_id, ExchangeSettings())


SCHEMA = Schema(Settings)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings with, for each dotted key that is not at its default, where it came from (for people)."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    overrides: Mapping[str, object] | None = None, *, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> Settings:
    """The effective settings. ``overrides`` are the command line's, by dotted key (``{"paper.cash": "5000"}``); None: not given.

    ``environment`` and ``directory`` default to the process's. Raises SettingsError with one line for every problem.
    """
    return load_settings_with_origins(overrides, environment=environment, directory=directory).settings


def load_settings_with_origins(
    overrides: Mapping[str, object] | None = None, *, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> LoadedSettings:
    """As ``load_settings``, with where each value came from."""
    variables = os.environ if environment is None else environment
    entries = merge(
        SCHEMA,
        (
            file_layer(variables.get("CANDLEWICK_CONFIG"), directory or Path.cwd(), DEFAULT_FILE),
            environment_layer(variables),
            command_line_layer(overrides or {}),
        ),
    )
    settings = validate(Settings, SCHEMA, entries)
    return LoadedSettings(settings, {".".join(path): entry.origin for path, entry in entries.items()})


if __name__ == "__main__":
    from candlewick.settings_report import main

    raise SystemExit(main())
