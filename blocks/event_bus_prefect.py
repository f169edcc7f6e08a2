"""Prefect as a sink of external events: posted to its API, so that automations can act on what a desk did."""

import logging
from collections.abc import Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from candlewick.errors import EventBusUnavailable
from candlewick.json_text import iso_utc
from candlewick.monitoring.rows import OutboxEvent

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_LOG = logging.getLogger(__name__)
# Of uuid5: the same event has the same id in every session, and Prefect keeps an id once.
_NAMESPACE = UUID("6f1b1c8e-6f0a-5b0e-9d52-3d1d0c7a5a11")


class PrefectEvents:
    """Posts events to the API that ``client`` talks to; ``flow_run_id`` is the session's, where it is known."""

    def __init__(self, client: "SyncPrefectClient", flow_run_id: str | None = None) -> None:
        self._client = client
        self._flow_run_id = flow_run_id
        # The settings as they are here, for the sender's thread; made once, because that takes longer than a request.
        self._context = copy_context()
        self._context.run(_without_retries)

    @property
    def address(self) -> str:
        """The API's address, without user and password."""
        return str(self._client.api_url.copy_with(username=None, password=None))

    def send(self, events: Sequence[OutboxEvent]) -> tuple[str, ...]:
        """Post events in one request: all of them are confirmed by an answer of 2xx. Raises EventBusUnavailable without one."""
        import httpx

        told = [prefect_event(event, self._flow_run_id) for event in events]
        try:
            self._context.run(self._client.request, "POST", "/events", json=told)
        except httpx.HTTPStatusError as error:
            answer = f"{error.response.status_code}: {error.response.text[:200]}"
            raise EventBusUnavailable(f"Prefect's API at {self.address} refused {len(told)} events, {answer}") from None
        except httpx.HTTPError as error:
            text = f"Prefect's API at {self.address} took no event: {type(error).__name__}: {error}"
            raise EventBusUnavailable(text) from None
        return tuple(event.event_id for event in events)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.__exit__(None, None, None)


def _without_retries() -> None:
    """The client's own retries take a minute in silence; the sender tries again, and counts. For the rest of this context."""
    from prefect.context import SettingsContext, get_settings_context
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

    now = get_settings_context()
    SettingsContext(
        profile=now.profile, settings=now.settings.copy_with_update(updates={PREFECT_CLIENT_MAX_RETRIES: 0})
    ).__enter__()


def open_prefect_events(timeout_s: float, flow_run_id: str | None = None) -> PrefectEvents | None:
    """For the API of the settings (`PREFECT_API_URL`), or the one that the running flow uses; None, said once, without one."""
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext
    from prefect.settings import PREFECT_API_URL

    run = FlowRunContext.get()
    if not PREFECT_API_URL.value() and run is None:  # asking for a client would start a server
        _LOG.warning("events do not go to Prefect: there is no API; set PREFECT_API_URL, or events.prefect to false")
        return None
    if flow_run_id is None and run is not None and run.flow_run is not None:
        flow_run_id = str(run.flow_run.id)
    client = get_client(httpx_settings={"timeout": timeout_s}, sync_client=True)
    client.__enter__()
    return PrefectEvents(client, flow_run_id)


def prefect_event(event: OutboxEvent, flow_run_id: str | None) -> dict[str, Any]:
    """The event as Prefect's API takes it: `candlewick.<kind>` of the resource `candlewick.desk.<name>`, JSON-ready.

    Its id is a function of the event_id, so that a repeat is dropped. It occurs when it is sent, because an automation leaves out
    what is older than the time it looks at; the market's time is in the payload (`at`).
    """
    from prefect.events.schemas.events import Event, RelatedResource, Resource

    related = {f"candlewick.account.{event.account}": "account"} if event.account else {}
    related |= {f"candlewick.symbol.{event.symbol}": "symbol"} if event.symbol else {}
    related |= {f"prefect.flow-run.{flow_run_id}": "flow-run"} if flow_run_id else {}
    payload = {
        "event_id": event.event_id,
        "sequence": event.sequence,
        "account": event.account,
        "symbol": event.symbol,
        "at": iso_utc(event.at),
        "correlation_id": event.correlation_id,
        "causation_id": event.causation_id,
        "session_id": event.session_id,
        "document": dict(event.document),
    }
    desk = {"prefect.resource.id": f"candlewick.desk.{event.name}", "prefect.resource.name": event.name}
    return Event(
        id=uuid5(_NAMESPACE, event.event_id),
        event=f"candlewick.{event.kind}",
        resource=Resource(desk),
        related=[
            RelatedResource({"prefect.resource.id": resource, "prefect.resource.role": role})
            for resource, role in related.items()
        ],
        payload=payload,
    ).model_dump(mode="json")
