"""What a user asks of backtesting, from options and settings: checked before anything is read or written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from candlewick.detail_bars import refuse_detail_timeframe
from candlewick.errors import UsageError
from candlewick.rule_texts import read_rules
from candlewick.rules import Rules
from candlewick.settings import Settings, load_settings_with_origins
from candlewick.strategies.catalog import Scalar, load_strategy, strategy_class
from candlewick.strategies.contract import Strategy
from candlewick.timeframes import parse_utc, timeframe_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestOptions:
    """Options as given on the command line or to the flow; None where not given.

    ``parameters`` and ``rules`` by name, as text or as values; a sweep's parameters may be ranges (`5:50:5`). ``detail`` is the
    finer timeframe that decides what happens inside a bar. ``seed`` is that of everything drawn by chance.
    """

    market: str | None = None
    symbols: tuple[str, ...] | None = None
    timeframe: str | None = None
    strategy: str | None = None
    parameters: Mapping[str, Scalar] | None = None
    since: str | None = None
    until: str | None = None
    cash: Decimal | None = None
    rules: Mapping[str, Scalar] | None = None
    maker_fee_bps: Decimal | None = None
    taker_fee_bps: Decimal | None = None
    detail: str | None = None
    allow_peeking: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class BacktestRequest:
    """Options and settings together: ``settings.paper`` says market, symbols, timeframe, strategy and cash.

    ``parameters`` are those of the strategy that were given, not yet read: text may be a range. ``since_ms`` None: not said;
    ``until_ms`` None: now.
    """

    options: BacktestOptions
    settings: Settings
    origins: Mapping[str, str]
    rules: Rules
    parameters: Mapping[str, Scalar]
    since_ms: int | None
    until_ms: int | None
    strategy_type: type[Strategy] = field(repr=False)

    @property
    def strategy_name(self) -> str:
        """The strategy's name or import path, as it was given."""
        return self.settings.paper.strategy

    def strategy(self, parameters: Mapping[str, Scalar] | None = None) -> Strategy:
        """The strategy with its parameters, or with these. Raises UnknownStrategy naming each that is refused."""
        return load_strategy(self.strategy_name, self.parameters if parameters is None else parameters)


def read_backtest(options: BacktestOptions) -> BacktestRequest:
    """Options over settings. Raises SettingsError, UsageError, UnknownStrategy (no such strategy); nothing is read or written.

    The parameters' values are not looked at: ``BacktestRequest.strategy`` does that, and a search reads them as ranges.
    """
    overrides = {
        "paper.market": options.market,
        "paper.symbols": options.symbols,
        "paper.timeframe": options.timeframe,
        "paper.strategy": options.strategy,
        "paper.cash": None if options.cash is None else str(options.cash),
        "paper.since": options.since,
        "fees.maker_bps": None if options.maker_fee_bps is None else str(options.maker_fee_bps),
        "fees.taker_bps": None if options.taker_fee_bps is None else str(options.taker_fee_bps),
    }
    loaded = load_settings_with_origins({key: value for key, value in overrides.items() if value is not None})
    settings = loaded.settings
    since_ms = None if settings.paper.since is None else parse_utc(settings.paper.since)
    until_ms = None if options.until is None else parse_utc(options.until)
    if since_ms is not None and until_ms is not None and until_ms - since_ms < timeframe_ms(settings.paper.timeframe):
        raise UsageError(
            f"--until {options.until} is not after --since {settings.paper.since} by a bar of {settings.paper.timeframe}: "
            "there is no bar between them"
        )
    if options.detail is not None:
        refuse_detail_timeframe(settings.paper.timeframe, options.detail)
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed} is below 0, the least that is allowed")
    own: Mapping[str, Scalar] = {} if options.strategy is not None else settings.paper.parameters
    return BacktestRequest(
        options=options,
        settings=settings,
        origins=loaded.origins,
        rules=read_rules(options.rules or {}, settings.rules.to_rules()),
        parameters={**own, **(options.parameters or {})},
        since_ms=since_ms,
        until_ms=until_ms,
        strategy_type=strategy_class(settings.paper.strategy),
    )
