"""Audit an account: replay it from its stored inputs and compare every row of the ledger.

`python -m flows.accounts audit ACCOUNT` is its command; the flow is for schedules and the Prefect UI.
"""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from candlewick.audit import AuditReport
from candlewick.reports.audit_text import audit_verdict
from candlewick.settings import load_settings
from flows.command import ending
from tasks.audit import audit_ledger, publish_audit


@flow(name="audit-account", flow_run_name="audit {account}", persist_result=False)
async def audit_account(account: str) -> State[AuditReport]:
    """Ends Completed where the replay gives what the ledger has, else Failed; both carry the AuditReport. Writes nothing."""
    report = await audit_ledger(load_settings(), account)
    await publish_audit(report)
    return conclude_audit(report)


def conclude_audit(report: AuditReport) -> State[AuditReport]:
    """The flow's final state."""
    verdict = audit_verdict(report)
    return ending(Failed(message=verdict, data=report) if report.differences else Completed(message=verdict, data=report))
