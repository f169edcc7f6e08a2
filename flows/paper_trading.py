"""Paper trading: advance one account over every bar that has closed since it was last seen.

python -m flows.paper_trading --help
"""
# ruff: noqa: E402

from candlewick.command_environment import prepare_command

prepare_command(__name__)

from decimal import Decimal, InvalidOperation
from typing import Annotated

from cyclopts import Parameter
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import SyncClientContext
from prefect.runtime import flow_run

from candlewick.cli import EXIT_CODES, JsonFlag, ParameterTexts, RuleTexts, command_app, main, parse_parameters, python_command
from candlewick.errors import CandlewickError, UsageError
from candlewick.json_text import to_json
from candlewick.logs import configure_logging
from candlewick.paper_request import PaperOptions, PaperRequest, read_request
from candlewick.results import CycleResult
from candlewick.rule_texts import named_rules
from candlewick.store.lock import Holder
from flows.command import result_of, run_flow
from flows.cycle import begin, check_quality, commit, complete_payments, compute_all_signals, decide, fetch_all, read_candles
from flows.cycle_context import Cycle
from flows.cycle_ending import fail, finish, preview_result, stand_aside

_HELP = """Paper-trade one account: process every candle that has closed since the last run, and show what happened.

What is not given comes from the environment (CANDLEWICK_PAPER__...), candlewick.yaml, or the defaults; an existing account keeps
the terms it was opened with."""


def _run_name() -> str:
    given = flow_run.parameters
    account = given.get("account") or "paper"
    return f"{account} until {given['until']}" if given.get("until") else str(account)


@flow(name="paper-trading", flow_run_name=_run_name, persist_result=False)
async def paper_trading(
    account: str | None = None,
    market: str | None = None,
    symbols: list[str] | None = None,
    timeframe: str | None = None,
    strategy: str | None = None,
    parameters: dict[str, str | int | float | bool] | None = None,
    cash: str | int | float | None = None,
    since: str | None = None,
    until: str | None = None,
    dry_run: bool = False,
    rules: dict[str, str | int | float | bool] | None = None,
    allow_peeking: bool = False,
) -> State[CycleResult]:
    """One cycle of a paper account; a parameter that is not given comes from the settings, or from the account itself.

    Ends Completed, Completed with the name Partial, or Failed, each with a CycleResult. Bad input raises before anything is
    written.
    """
    options = PaperOptions(
        account, market, tuple(symbols) if symbols else None, timeframe, strategy, parameters, _cash(cash), since, until,
        dry_run, rules, allow_peeking,
    )  # fmt: skip
    request = read_request(options)
    log_as_set(request)
    cycle = Cycle(request)
    # One connection for all synchronous tasks; without it each makes its own, and that alone took half of a task's time.
    with SyncClientContext.get_or_create(), cycle.turn() as turn:
        if isinstance(turn, Holder):
            return stand_aside(cycle, turn)
        try:
            return await trade(cycle)
        except UsageError:
            raise
        except CandlewickError as error:
            return fail(cycle, error)
        finally:
            await cycle.close()


async def trade(cycle: Cycle) -> State[CycleResult]:
    """The cycle's table of contents."""
    begun = await begin(cycle)
    fetched = await fetch_all(cycle, begun)
    candles = await read_candles(cycle, begun, fetched)
    check_quality(cycle, begun, fetched)
    fetched = await complete_payments(cycle, begun, fetched, candles)
    signals = await compute_all_signals(cycle, begun, candles)
    decided = decide(cycle, begun, fetched, candles, signals)
    if cycle.request.options.dry_run:
        return preview_result(cycle, fetched, decided, candles)
    commit(cycle, begun, fetched, decided)
    return await finish(cycle, fetched, decided, candles)


def log_as_set(request: PaperRequest) -> None:
    """Log as the settings say, where they say anything; where not, a command tells its story in its own words only."""
    if any(key.startswith("logging.") for key in request.origins):
        configure_logging(request.settings.logging.level, request.settings.logging.json_lines)


def _cash(cash: str | int | float | None) -> Decimal | None:
    try:
        return None if cash is None else Decimal(str(cash))
    except InvalidOperation:
        raise UsageError(f"--cash {cash!r} is not a number; write it in quote currency, such as 10000") from None


app = command_app("python -m flows.paper_trading", _HELP)


@app.default
def command(
    *,
    account: Annotated[str | None, Parameter(help="Name of the account; it is opened on its first run. [demo]")] = None,
    market: Annotated[str | None, Parameter(help="sample, files:DIR, lake:NAME, or a ccxt exchange id. [sample]")] = None,
    symbols: Annotated[
        tuple[str, ...] | None, Parameter(help="Symbols, separated by commas. [BTC/USDT,ETH/USDT,SOL/USDT]")
    ] = None,
    timeframe: Annotated[str | None, Parameter(help="Length of a candle, such as 15m, 4h or 1d. [4h]")] = None,
    strategy: Annotated[
        str | None, Parameter(help="A built-in strategy, or my_pkg.my_mod:MyStrategy. [fibonacci_golden_zone]")
    ] = None,
    param: ParameterTexts = None,
    rule: RuleTexts = None,
    cash: Annotated[str | None, Parameter(help="Cash a new account starts with, in quote currency. [10000]")] = None,
    since: Annotated[str | None, Parameter(help="First bar of a new account (UTC). [90 days before now]")] = None,
    until: Annotated[str | None, Parameter(help="Process candles closed by this time only (UTC). [now]")] = None,
    dry_run: Annotated[bool, Parameter(help="Show decisions and orders; write none.")] = False,
    allow_peeking: Annotated[bool, Parameter(help="Trade a strategy although it failed its look-ahead check.")] = False,
    json: JsonFlag = False,
) -> int:
    """Run one cycle and print its result."""
    names = tuple(part.strip() for text in symbols for part in text.split(",") if part.strip()) if symbols else None
    parameters: dict[str, str | int | float | bool] = dict(parse_parameters(param))
    rules: dict[str, str | int | float | bool] = dict(named_rules(rule))
    read_request(
        PaperOptions(
            account, market, names, timeframe, strategy, parameters or None, _cash(cash), since, until, dry_run, rules or None,
            allow_peeking,
        )
    )  # fmt: skip
    asked = paper_trading(
        account=account, market=market, symbols=list(names) if names else None, timeframe=timeframe, strategy=strategy,
        parameters=parameters or None, cash=cash, since=since, until=until, dry_run=dry_run, rules=rules or None,
        allow_peeking=allow_peeking, return_state=True,
    )  # fmt: skip
    result = run_flow(result_of(asked))
    _show(result, json)
    return EXIT_CODES[result.status]


def _show(result: CycleResult, as_json: bool) -> None:
    if as_json:
        print(to_json(result, indent=2))
        return
    from rich.console import Console

    from candlewick.reports.summary import render_summary

    Console().print(render_summary(result, python_command()))


if __name__ == "__main__":
    main(app)
