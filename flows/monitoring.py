"""Monitoring: watch many symbols of a desk bar by bar, look at it, and tell it what to do.

python -m flows.monitoring --help
"""
# ruff: noqa: E402

from candlewick.command_environment import prepare_command

prepare_command(__name__)

from typing import Annotated

from cyclopts import Parameter

from candlewick.cli import JsonFlag, ParameterTexts, RuleTexts, command_app, main, parse_parameters
from candlewick.json_text import to_json
from candlewick.monitoring.results import SessionResult
from candlewick.rule_texts import named_rules
from flows.monitor_commands import add_monitor_commands

_HELP = """Watch a desk: many symbols bar by bar, each through its own pipeline, with health, restarts and global risk.

`start` begins a session, which lives for --duration; the other commands work from another terminal while it runs."""
_EXIT_CODES = {"ended": 0, "handed_over": 0, "stopped": 0, "stood_aside": 3, "failure": 1}

app = command_app("python -m flows.monitoring", _HELP)
add_monitor_commands(app)


@app.command(name="start")
def start(
    *,
    account: Annotated[str | None, Parameter(help="Name of the desk. [desk]")] = None,
    market: Annotated[str | None, Parameter(help="sample, or a ccxt exchange id. [sample]")] = None,
    symbols: Annotated[
        tuple[str, ...] | None, Parameter(help="Symbols, separated by commas. [BTC/USDT,ETH/USDT,SOL/USDT]")
    ] = None,
    timeframe: Annotated[str | None, Parameter(help="Length of a candle, such as 1m or 1h. [1m]")] = None,
    strategy: Annotated[
        str | None, Parameter(help="A built-in strategy, or my_pkg.my_mod:MyStrategy. [fibonacci_golden_zone]")
    ] = None,
    param: ParameterTexts = None,
    rule: RuleTexts = None,
    cash: Annotated[
        str | None, Parameter(help="Cash of a new desk, in quote currency, in equal parts for its symbols. [10000]")
    ] = None,
    since: Annotated[str | None, Parameter(help="First bar of a new desk (UTC). [a day before now]")] = None,
    duration: Annotated[str | None, Parameter(help="How long the session lives: 30m, 1h, 1d. [1h]")] = None,
    allow_peeking: Annotated[bool, Parameter(help="Trade a strategy although it failed its look-ahead check.")] = False,
    json: JsonFlag = False,
) -> int:
    """Watch until --duration is over, or somebody says `stop`; the next session goes on where this one ends."""
    from candlewick.monitoring.request import SessionOptions, read_session_request
    from flows.command import result_of, run_flow
    from flows.monitor import monitor, read_cash

    names = tuple(part.strip() for text in symbols for part in text.split(",") if part.strip()) if symbols else None
    parameters: dict[str, str | int | float | bool] = dict(parse_parameters(param))
    rules: dict[str, str | int | float | bool] = dict(named_rules(rule))
    read_session_request(
        SessionOptions(
            account, market, names, timeframe, strategy, parameters or None, read_cash(cash), since, duration, rules or None,
            allow_peeking,
        )
    )  # fmt: skip
    asked = monitor(
        account=account, market=market, symbols=list(names) if names else None, timeframe=timeframe, strategy=strategy,
        parameters=parameters or None, cash=cash, since=since, duration=duration, rules=rules or None,
        allow_peeking=allow_peeking, return_state=True,
    )  # fmt: skip
    result = run_flow(result_of(asked))
    print(to_json(result, indent=2) if json else _words(result))
    return _EXIT_CODES[result.status]


def _words(result: SessionResult) -> str:
    """What a trader wants to know of a session that has ended, and what to do next."""
    if result.status in ("stood_aside", "failure"):
        return f"{result.session_id}: {result.reason}"
    lag = (
        ""
        if result.lag_p50_s is None
        else f"; from a bar's close to its commit {result.lag_p50_s:.2f} s (p99 {result.lag_p99_s:.2f} s)"
    )
    lines = [
        f"{result.session_id}: {result.reason}",
        f"{result.symbols} symbols, {result.bars:,} bars, {result.signals:,} signals ({result.rejections:,} rejected), "
        f"{result.orders:,} orders, {result.fills:,} fills, {result.errors:,} errors{lag}",
    ]
    if result.quarantined:
        lines.append(f"given up: {', '.join(result.quarantined)}; the next session tries them again")
    lines.append("Next: `python -m flows.accounts list`, or `python -m flows.monitoring start` to go on")
    return "\n".join(lines)


if __name__ == "__main__":
    main(app)
