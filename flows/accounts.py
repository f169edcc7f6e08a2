"""The accounts of the ledger: list, show, export, audit and amend them. Nothing here trades.

python -m flows.accounts --help
"""

import os
from datetime import UTC, datetime
from decimal import Decimal
from json import loads
from pathlib import Path
from typing import Annotated

import polars as pl
from cyclopts import Parameter

from candlewick.account import terms_rows
from candlewick.amending import AMENDMENT, amend_terms, describe_amendment
from candlewick.cli import FAILURE, SUCCESS, JsonFlag, ParameterTexts, command_app, parse_parameters, run_command
from candlewick.command_environment import prepare_command
from candlewick.errors import LedgerBusy, LedgerUnwritable, UnknownAccount, UsageError
from candlewick.json_text import to_json
from candlewick.metrics import total_return
from candlewick.reports.numbers import format_share, money_decimals, rounded
from candlewick.rows import AMOUNT
from candlewick.settings import Settings, load_settings
from candlewick.store.database import Database
from candlewick.store.ledger import Ledger
from candlewick.store.lock import Holder
from candlewick.store.queries import plain_rows, refuse_unknown
from candlewick.tables import Row, print_rows
from candlewick.timeframes import format_utc

app = command_app(
    "python -m flows.accounts",
    "Look into the accounts of the ledger, and amend their terms. Nothing here trades.\n\n"
    "The ledger is data/ledger.duckdb in the working directory, or CANDLEWICK_STORE__URL.",
)

AccountName = Annotated[str, Parameter(help="Name of the account.")]

_LIST_COLUMNS = {
    "account": "Account", "market": "Market", "timeframe": "Timeframe", "symbols": "Symbols", "strategy": "Strategy",
    "equity": "Equity", "return": "Return", "watermark_at": "Watermark (UTC)", "last_run_at": "Last run (UTC)",
    "last_status": "Status",
}  # fmt: skip
_AUDIT_COLUMNS = {"table": "Compared", "stored": "Ledger", "replayed": "Replay", "differences": "Differences"}
_FILE_COLUMNS = {"file": "File", "rows": "Rows"}


def open_ledger(settings: Settings) -> Ledger:
    """The ledger that the settings name."""
    return Ledger(Database(settings.store.url, settings.store.lock_timeout_s))


@app.command(name="list")
def list_accounts(*, json: JsonFlag = False) -> int:
    """Every account, with its equity, its return and its last run."""
    frame = open_ledger(load_settings()).list_accounts()
    if frame.is_empty():
        print_rows([], _LIST_COLUMNS, json, empty="There is no account yet. `make paper` opens one.")
        return SUCCESS
    returns = [total_return(frame[number : number + 1], cash).value for number, cash in enumerate(frame["initial_cash"])]
    accounts = frame.with_columns(pl.Series("return_share", returns, dtype=AMOUNT))
    rows = plain_rows(accounts) if json else [_readable(row) for row in accounts.to_dicts()]
    print_rows(rows, _LIST_COLUMNS, json)
    return SUCCESS


def _readable(row: Row) -> Row:
    """A row of the list for people: symbols as text, money rounded, the return as a percentage."""
    equity, share, quote = row["equity"], row["return_share"], str(row["quote"])
    assert isinstance(equity, Decimal)
    assert isinstance(share, Decimal | None)
    return {
        **row,
        "symbols": ", ".join(loads(str(row["symbols"]))),
        "equity": rounded(equity, money_decimals(quote)),
        "return": format_share(share, sign=True),
    }


@app.command(name="show")
def show_account(account: AccountName, /, *, json: JsonFlag = False) -> int:
    """One account: figures, terms, positions, orders, fills, refusals, runs, and where its report is."""
    from candlewick.reports.html import report_name
    from candlewick.reports.statement import build_statement

    settings = load_settings()
    ledger = open_ledger(settings)
    view = ledger.view(account, {})
    loaded = ledger.load_account(account)
    if loaded is None:
        raise UnknownAccount(f"there is no account {account!r} any more")
    report = Path(settings.reports.directory) / report_name(account)
    statement = build_statement(view, loaded.account, str(report) if report.exists() else None)
    if json:
        print(to_json(statement, indent=2))
        return SUCCESS
    from rich.console import Console

    from candlewick.reports.statement_text import render_statement

    Console().print(render_statement(statement))
    return SUCCESS


@app.command(name="export")
def export_account(
    account: AccountName,
    /,
    *,
    directory: Annotated[
        Path | None, Parameter(help="Folder for the Parquet files. [data/export/ACCOUNT]", show_default=False)
    ] = None,
    json: JsonFlag = False,
) -> int:
    """All rows of an account: Parquet files, one a table; with --json one document on standard output."""
    if json and directory is not None:
        raise UsageError("--directory is where Parquet files go; --json writes one document to standard output: give one of them")
    ledger = open_ledger(load_settings())
    if json:
        print(to_json(ledger.export_document(account)))
        return SUCCESS
    folder = directory or Path("data") / "export" / account
    try:
        files = ledger.export_parquet(account, folder)
    except OSError as error:
        raise LedgerUnwritable(f"{folder}: the export cannot be written ({error.strerror or error})") from error
    rows = [{"file": str(path), "rows": pl.scan_parquet(path).select(pl.len()).collect().item()} for path in files.values()]
    print_rows(rows, _FILE_COLUMNS, json=False)
    return SUCCESS


@app.command(name="audit")
def audit(account: AccountName, /, *, json: JsonFlag = False) -> int:
    """Replay an account from its stored inputs and compare every row of the ledger; 1 when anything differs.

    Where a Prefect server is known (`make serve`, PREFECT_API_URL) the audit is a run of the flow `audit-account` there;
    without one it is done here, without the wait for a temporary server.
    """
    settings = load_settings()
    refuse_unknown(open_ledger(settings).database, account)
    prepare_command(__name__)
    from candlewick.reports.audit_text import audit_document, audit_lines, audit_verdict, table_rows
    from flows.command import run_announced

    if os.environ.get("PREFECT_API_URL"):
        from flows.audit import audit_account
        from flows.command import result_of, run_flow

        report = run_flow(result_of(audit_account(account, return_state=True)))
    else:
        from tasks.audit import audit_ledger

        report = run_announced(audit_ledger.fn(settings, account), f"auditing account {account}")
    if json:
        print(to_json(audit_document(report), indent=2))
    else:
        print(audit_verdict(report))
        print_rows(table_rows(report), _AUDIT_COLUMNS, json=False)
        for line in audit_lines(report):
            print(line)
    return FAILURE if report.differences else SUCCESS


@app.command(name="amend")
def amend_account(
    account: AccountName,
    /,
    *,
    rules: Annotated[bool, Parameter(help="Take on the rules that the settings say now (risk, sizing, slippage).")] = False,
    strategy: Annotated[str | None, Parameter(help="Trade by another strategy.")] = None,
    param: ParameterTexts = None,
    lift_halt: Annotated[bool, Parameter(help="Trade again after a drawdown halt or a day's loss limit.")] = False,
    json: JsonFlag = False,
) -> int:
    """Give an account new terms from its next bar on; what it has traded stays as it was, and an audit repeats the change."""
    settings = load_settings()
    ledger = open_ledger(settings)
    refuse_unknown(ledger.database, account)
    turn = ledger.try_account_lock(account)
    if isinstance(turn, Holder):
        raise LedgerBusy(f"a cycle of account {account} is at work ({turn}); try again when it has ended")
    with turn:
        loaded = ledger.load_account(account)
        if loaded is None or loaded.checkpoint is None:
            raise UnknownAccount(f"account {account!r} is not open yet: run a cycle first")
        if loaded.checkpoint.state is None:
            raise UsageError(
                f"an older version of Candlewick wrote account {account!r}: run a cycle first, it brings it up to date"
            )
        asked: dict[str, str | int | float | bool] = dict(parse_parameters(param))
        new_rules = settings.rules.to_rules() if rules else None
        after = amend_terms(loaded.account, loaded.checkpoint.state, new_rules, strategy, asked, lift_halt=lift_halt)
        now = datetime.now(UTC)
        ledger.amend(
            account, terms_rows(loaded.account, (after,)), loaded.checkpoint.version, f"{AMENDMENT}{now:%Y%m%dT%H%M%S}", now
        )
    if not json:
        since = format_utc(after.effective_from_ms)
        print(f"account {account}: terms version {after.version} acts from the bar of {since} UTC on")
    print_rows([{"change": line} for line in describe_amendment(loaded.account.current, after)], {"change": "Change"}, json)
    return SUCCESS


if __name__ == "__main__":
    raise SystemExit(run_command(app))
