"""What `prefect deploy` needs beyond prefect.yaml: the work pool, block types and documents, automations. Idempotent.

python -m deployments.register                 # on the server that PREFECT_API_URL names
prefect --no-prompt deploy --all
"""

import argparse
import asyncio
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings

import blocks
from blocks.exchange import Exchange
from candlewick.errors import CandlewickError, UsageError
from candlewick.settings import ExchangeSettings, Settings, load_settings
from deployments.automations import ensure_automations
from deployments.prefect_yaml import planned_deployments


async def register(client: PrefectClient, settings: Settings, directory: Path) -> list[str]:
    """Make everything that is missing, change nothing that is there; returns what there is now, a line each."""
    pools = dict.fromkeys([settings.serve.work_pool, *(planned.work_pool for planned in planned_deployments(directory))])
    lines = [f"work pool {pool} ({await ensure_work_pool(client, pool)})" for pool in pools]
    for block_type in block_types():
        await block_type.aregister_type_and_schema(client=client)
        lines.append(f"block type {block_type.get_block_type_slug()}")
    lines += [f"block {await save_exchange(name, exchange)}" for name, exchange in settings.exchanges.items()]
    return lines + await ensure_automations(client)


async def ensure_work_pool(client: PrefectClient, name: str) -> str:
    """A process work pool of that name. One that exists stays as it is, whatever its type."""
    try:
        await client.create_work_pool(
            WorkPoolCreate(name=name, type="process", description="Candlewick's flow runs, as processes on the worker's machine.")
        )
    except ObjectAlreadyExists:
        return "was there"
    return "made"


def block_types() -> Iterator[type[Block]]:
    """The block classes that the modules in blocks/ define."""
    for module_info in pkgutil.iter_modules(blocks.__path__, "blocks."):
        module = importlib.import_module(module_info.name)
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Block) and member.__module__ == module.__name__:
                yield member


async def save_exchange(exchange_id: str, settings: ExchangeSettings) -> str:
    """The exchange block of an exchange that the settings configure; it follows them. Returns its name.

    Blocks under other names are the user's own and stay untouched.
    """
    block = Exchange(exchange_id=exchange_id, **settings.model_dump())
    name = exchange_id.replace("_", "-")  # block documents have no underscores in their names
    await block.save(name, overwrite=True)
    return f"{Exchange.get_block_type_slug()}/{name}"


async def _register_here() -> None:
    async with get_client() as client:
        for line in await register(client, load_settings(), Path.cwd()):
            sys.stdout.write(f"{line}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Register on the server that PREFECT_API_URL (or the active profile) names."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.register", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.parse_args(arguments)
    try:
        if get_current_settings().api.url is None:
            raise UsageError("PREFECT_API_URL is not set: name the server to register on, such as http://127.0.0.1:4200/api")
        asyncio.run(_register_here())
    except CandlewickError as problem:
        sys.stderr.write(f"{problem}\n")
        return problem.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
