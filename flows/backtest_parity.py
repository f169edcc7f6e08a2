"""The flow that shows parity: an account's whole life as one backtest, compared with its ledger."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from candlewick.parity import ParityReport, parity_verdict
from candlewick.settings import load_settings
from flows.command import ending
from tasks.parity import prove_account, publish_parity


@flow(name="parity", flow_run_name="parity {account}", persist_result=False)
async def show_parity(account: str) -> State[ParityReport]:
    """Ends Completed where one backtest gives what the ledger has, else Failed; both carry the ParityReport. Writes nothing."""
    report = await prove_account(load_settings(), account)
    await publish_parity(report)
    return conclude_parity(report)


def conclude_parity(report: ParityReport) -> State[ParityReport]:
    """The flow's final state."""
    verdict = parity_verdict(report)
    return ending(Failed(message=verdict, data=report) if report.differences else Completed(message=verdict, data=report))
