"""Creates the missing work pools of prefect.yaml: `python -m deployments.work_pools`."""

import asyncio
import sys
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL

from deployments.steps import ROOT
from selectllm.paths import redact_users
from tasks.server import is_unreachable, server_problem


def named_work_pools() -> list[dict[str, Any]]:
    """The work pools of the deployments in prefect.yaml, each once."""
    project = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    pools = (deployment["work_pool"] for deployment in project["deployments"])
    return list({pool["name"]: pool for pool in pools}.values())


async def ensure(client: PrefectClient, pool: dict[str, Any]) -> bool:
    """Create a work pool as in prefect.yaml; returns whether it was missing. An existing work pool is not changed."""
    if any(known.name == pool["name"] for known in await client.read_work_pools()):
        return False
    metadata = (await client.read_worker_metadata()).values()
    kinds = {kind: details for collection in metadata for kind, details in collection.items()}
    template = kinds[pool["type"]]["default_base_job_configuration"]
    options = {"type": pool["type"], "concurrency_limit": pool["limit"], "base_job_template": template}
    await client.create_work_pool(WorkPoolCreate(name=pool["name"], **options))
    return True


async def main() -> None:
    """Create and print the missing work pools. `make deploy` runs this first, so it also reports a missing server."""
    url = PREFECT_API_URL.value()
    if not url:  # Prefect would start a server that ends with this command
        sys.exit("Which server? Start one with `make serve`, and export PREFECT_API_URL=http://127.0.0.1:4200/api")
    try:
        async with get_client() as client:
            for pool in named_work_pools():
                created = await ensure(client, pool)
                print(f"Work pool {pool['name']} ({pool['type']}): {'made' if created else 'there already'}")
    except (RuntimeError, httpx.HTTPError) as error:
        if problem := server_problem(error, url):
            sys.exit(problem)
        if not is_unreachable(error):
            raise
        sys.exit(f"No server answers at {redact_users(url)}: start one with `make serve`, or correct PREFECT_API_URL")


if __name__ == "__main__":
    asyncio.run(main())
