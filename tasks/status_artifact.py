"""A session's status in the Prefect UI: one artifact a desk, whose content moves on."""

from uuid import UUID

import httpx
from prefect import task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from candlewick.monitoring.status import SessionStatus
from candlewick.monitoring.status_text import status_markdown, title_text
from tasks.reports import artifact_key


@task(name="publish-session-status", task_run_name="publish status", cache_policy=NO_CACHE, timeout_seconds=30)
async def publish_status(status: SessionStatus, artifact_id: UUID | None = None) -> UUID:
    """The status as an artifact with the key `monitor-<desk>`; the artifact's id, which the session's next call hands over.

    An artifact that is there is changed: a new one at every heartbeat would let Prefect's database grow without end. One that
    somebody has deleted meanwhile is made anew. One request; raises what Prefect's client raises where the server is away.
    """
    markdown, told = status_markdown(status), title_text(status)
    if artifact_id is not None and await _changed(artifact_id, markdown, told):
        return artifact_id
    made = await acreate_markdown_artifact(markdown, key=f"monitor-{artifact_key(status.name)}", description=told)
    return made if isinstance(made, UUID) else UUID(str(made))


async def _changed(artifact_id: UUID, markdown: str, told: str) -> bool:
    """Whether the artifact was there to be changed.

    The client's own update would also emit an event that carries the whole text, and events are kept for days.
    """
    async with get_client() as client:
        try:
            await client.request(
                "PATCH", "/artifacts/{id}", path_params={"id": artifact_id}, json={"data": markdown, "description": told}
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
    return True
