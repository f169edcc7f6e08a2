"""The options that all backtesting commands share, said once; and how a run is named on the command line."""

from dataclasses import dataclass
from typing import Annotated, TypedDict

from cyclopts import Parameter

from candlewick.backtest_request import BacktestOptions, BacktestRequest, read_backtest
from candlewick.backtest_rows import BacktestRun, RunKind
from candlewick.cli import ParameterTexts, RuleTexts, parse_parameters
from candlewick.errors import UnknownRun
from candlewick.rule_texts import named_rules
from candlewick.settings import Settings
from candlewick.store.backtests import Backtests
from candlewick.store.database import Database
from flows.backtest_context import decimal_of

LATEST = "latest"


class FlowParameters(TypedDict):
    """The options as the flows take them: plain values that Prefect keeps and shows."""

    market: str | None
    symbols: list[str] | None
    timeframe: str | None
    strategy: str | None
    parameters: dict[str, str | int | float | bool] | None
    since: str | None
    until: str | None
    cash: str | int | float | None
    rules: dict[str, str | int | float | bool] | None
    maker_fee_bps: str | int | float | None
    taker_fee_bps: str | int | float | None
    detail: str | None
    allow_peeking: bool
    seed: int


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is backtested, as given on the command line; None: as the settings say."""

    market: Annotated[str | None, Parameter(help="sample, files:DIR, lake:NAME, or a ccxt exchange id. [sample]")] = None
    symbols: Annotated[tuple[str, ...] | None, Parameter(help="Symbols, separated by commas. [BTC/USDT,ETH/USDT,SOL/USDT]")] = (
        None
    )
    timeframe: Annotated[str | None, Parameter(help="Length of a candle, such as 15m, 4h or 1d. [4h]")] = None
    strategy: Annotated[
        str | None, Parameter(help="A built-in strategy, or my_pkg.my_mod:MyStrategy. [fibonacci_golden_zone]")
    ] = None
    param: ParameterTexts = None
    since: Annotated[str | None, Parameter(help="First bar (UTC). [all of a file; else 90 days before the end]")] = None
    until: Annotated[str | None, Parameter(help="Candles closed by this time only (UTC). [now]")] = None
    cash: Annotated[str | None, Parameter(help="Cash to start with, in quote currency. [10000]")] = None
    rule: RuleTexts = None
    maker_fee_bps: Annotated[str | None, Parameter(help="Fee of limit fills, in basis points. [what the market charges]")] = None
    taker_fee_bps: Annotated[
        str | None, Parameter(help="Fee of market and stop fills, in basis points. [what the market charges]")
    ] = None
    detail: Annotated[
        str | None, Parameter(help="A finer timeframe that decides what comes first inside a bar, such as 1m. [none]")
    ] = None
    allow_peeking: Annotated[bool, Parameter(help="Use a strategy that failed its look-ahead check; the report says so.")] = False
    seed: Annotated[int, Parameter(help="Seed of all that is drawn by chance.")] = 0

    def parameters(self) -> FlowParameters:
        """The same for a flow. Raises UsageError for a text that is not understood."""
        named = tuple(part.strip() for text in self.symbols or () for part in text.split(",") if part.strip())
        return FlowParameters(
            market=self.market, symbols=list(named) or None, timeframe=self.timeframe, strategy=self.strategy,
            parameters=dict(parse_parameters(self.param)) or None, since=self.since, until=self.until, cash=self.cash,
            rules=dict(named_rules(self.rule)) or None, maker_fee_bps=self.maker_fee_bps, taker_fee_bps=self.taker_fee_bps,
            detail=self.detail, allow_peeking=self.allow_peeking, seed=self.seed,
        )  # fmt: skip


def read_parameters(given: FlowParameters) -> BacktestRequest:
    """A flow's parameters over the settings. Raises SettingsError, UsageError, UnknownStrategy."""
    symbols = given["symbols"]
    return read_backtest(
        BacktestOptions(
            market=given["market"],
            symbols=tuple(symbols) if symbols else None,
            timeframe=given["timeframe"],
            strategy=given["strategy"],
            parameters=given["parameters"],
            since=given["since"],
            until=given["until"],
            cash=decimal_of("--cash", given["cash"]),
            rules=given["rules"],
            maker_fee_bps=decimal_of("--maker-fee-bps", given["maker_fee_bps"]),
            taker_fee_bps=decimal_of("--taker-fee-bps", given["taker_fee_bps"]),
            detail=given["detail"],
            allow_peeking=given["allow_peeking"],
            seed=given["seed"],
        )
    )


def open_store(settings: Settings) -> Backtests:
    """The run store that the settings name."""
    return Backtests(Database(settings.store.url, settings.store.lock_timeout_s))


def find_run(store: Backtests, named: str, kind: RunKind | None = None) -> BacktestRun:
    """A run by its id, the beginning of it, or `latest`. Raises UnknownRun, AmbiguousRun."""
    if named != LATEST:
        return store.find(named)
    run = store.latest(kind)
    if run is None:
        raise UnknownRun("there is no run yet: `python -m flows.backtesting run` makes one")
    return run
