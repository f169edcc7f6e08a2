"""From an idea to an account that trades it, on the sample market: run, sweep, walk-forward, paper, parity.

    python docs/walkthrough.py
    python docs/walkthrough.py --days 90

Every step is a command that may as well be typed; here they run in one process, so that Prefect's temporary server is started
once. What they write is under data/ in the working directory, as always. The sample market is random, with trends that come and
go: what a strategy earns on it says nothing of a real market. The steps are the same there: --market binance, or your own files.
"""
# ruff: noqa: E402

from candlewick.command_environment import prepare_command

prepare_command(__name__)

import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from cyclopts import App, Parameter

from candlewick.cli import SUCCESS, command_app, main, run_command
from candlewick.errors import UsageError
from candlewick.timeframes import DAY_MS, format_utc, parse_utc
from flows import backtesting, paper_trading

END = "2026-10-01"
FEWEST_DAYS = 80
"""Half of them is a train window, and a Sharpe ratio needs 30 days."""
APPS = {"flows.backtesting": backtesting.app, "flows.paper_trading": paper_trading.app}

app = command_app("python docs/walkthrough.py", "Run, sweep, walk-forward, paper and parity on the sample market, step by step.")


@dataclass(frozen=True)
class Step:
    """One command, as it follows `python -m`, and why it is the next one."""

    title: str
    why: str
    command: str

    @property
    def module(self) -> str:
        """The module that the command is of."""
        return self.command.split()[0]

    @property
    def app(self) -> App:
        """The command itself."""
        return APPS[self.module]

    @property
    def arguments(self) -> list[str]:
        """What the command is given."""
        return shlex.split(self.command)[1:]


def steps(days: int, account: str) -> Iterator[Step]:
    """The way from an idea to an account, over the ``days`` before END."""
    since, middle = day_before_end(days), day_before_end(days // 4)
    idea = "--market sample --symbols BTC/USDT,ETH/USDT --timeframe 1h --strategy sma_cross"
    span = f"--since {since} --until {END}"
    chosen, grid = "--param fast=20 --param slow=60", "--param fast=10:40:10 --param slow=40:160:40"
    yield Step(
        "1. How would it have done?",
        "A moving-average cross on hourly candles. Look at the notices, at `Holding instead`, at the fees.",
        f"flows.backtesting run {idea} {chosen} {span}",
    )
    yield Step(
        "2. Was it those two numbers?",
        "The same with other averages. Compare the best set with the median, and with what luck alone would reach.",
        f"flows.backtesting sweep {idea} {grid} {span} --objective sharpe --top 5",
    )
    yield Step(
        "3. Would I have chosen well?",
        "Choose on the past only, count on what came after: the out-of-sample return is what the choosing is worth.",
        f"flows.backtesting walk-forward {idea} {grid} {span} --train {days // 2}d --test {days // 8}d",
    )
    paper = f"flows.paper_trading --account {account} {idea.removeprefix('--market sample ')} --market sample {chosen}"
    yield Step(
        "4. Trade it on paper",
        "The first cycle opens the account and trades up to where `--until` says it is; as if it were three months ago.",
        f"{paper} --since {since} --until {middle}",
    )
    yield Step(
        "5. And again, later",
        "The next cycle goes on where the last one ended. On a schedule there would have been hundreds: it makes no difference.",
        f"flows.paper_trading --account {account} --until {END}",
    )
    yield Step(
        "6. Did the account do what the backtest said?",
        "One backtest of its whole life, row by row against what its cycles wrote. Its equity is the final equity of step 1.",
        f"flows.backtesting parity {account}",
    )


def day_before_end(days: int) -> str:
    """The date so many days before END."""
    return format_utc(parse_utc(END) - days * DAY_MS)[:10]


def walk(days: int, account: str) -> int:
    """Take every step, saying what it is. The exit code of the first command that fails, else 0."""
    for step in steps(days, account):
        print(f"\n\n{step.title}\n{step.why}\n\n  python -m {step.command}\n", flush=True)
        code = run_command(step.app, step.arguments)
        if code != SUCCESS:
            print(f"\nThis step ended with exit code {code}.")
            return code
    return SUCCESS


@app.default
def command(days: Annotated[int, Parameter(help="Days of hourly candles, before the autumn of 2026.")] = 180) -> int:
    """Take every step."""
    if days < FEWEST_DAYS:
        raise UsageError(f"--days {days}: it must be {FEWEST_DAYS} or more")
    return walk(days, f"walk-{secrets.token_hex(3)}")


if __name__ == "__main__":
    main(app)
