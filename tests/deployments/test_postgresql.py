"""A deployed run on a Prefect server whose database is a real PostgreSQL, where its programs are installed."""

import asyncio
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType

from deployments.local import Environment, free_port, server, worker
from tests.conftest import write_pool
from tests.deployments.test_deploy import deploy

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
StateWhen = Callable[..., State[Any]]


def programs() -> Path:
    """The folder of PostgreSQL's programs: from PATH, or Debian's folder."""
    pg_ctl = shutil.which("pg_ctl")
    folders = [Path(pg_ctl).parent] if pg_ctl else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return folders[-1]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of an empty database on its own server. Another user than root runs the server."""
    bin_folder, port = programs(), free_port()
    user = None
    if os.getuid() == 0:
        known = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in known else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="selectllm-pg-"))
    if user:
        shutil.chown(folder, user)

    def run(name: str, *arguments: str) -> None:
        options = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([bin_folder / name, "--pgdata", folder / "data", *arguments], user=user, **options)  # type: ignore[call-overload]

    run("initdb", "--username", "prefect", "--auth", "trust", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder}"
    run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", options)
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "stop", "--mode", "immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def environment(home: Path, database: str) -> Iterator[Environment]:
    """The environment of the clients of a server that keeps its records in PostgreSQL."""
    with server(home / "prefect", {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}) as environment:
        yield environment


def test_a_worker_with_postgresql_selects_from_three_thousand_rows(
    environment: Environment,
    client: SyncPrefectClient,
    database: str,
    home: Path,
    state_when: StateWhen,
    tmp_path: Path,
) -> None:
    deploy(environment)
    on_demand = client.read_deployment_by_name("select-instructions/on-demand")
    pool = str(write_pool(tmp_path / "pool.jsonl", 3000))
    run = {"pool": pool, "budget": 500, "selector": "scripted:longest", "out": str(tmp_path / "out")}
    started = client.create_flow_run_from_deployment(on_demand.id, parameters={"run": run})
    with worker(environment | {"SELECTLLM_STORE": str(tmp_path / "store")}, tmp_path / "worker.log"):
        assert state_when(started.id, State.is_final, 600).type == StateType.COMPLETED
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["pool"]["kept"], summary["selection"]["selected"]) == (3000, 500)
    assert summary["ranking"]["asked"] >= 3000 // 14
    assert asyncio.run(_states(database)) == {"COMPLETED": 1}
    assert "Traceback" not in (home / "prefect" / "server.log").read_text(encoding="utf-8")
    assert not (home / "prefect" / "prefect.db").exists()


async def _states(database: str) -> dict[str, int]:
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch("SELECT state_type::text AS state, count(*) AS runs FROM flow_run GROUP BY 1")
    finally:
        await connection.close()
    return {row["state"]: row["runs"] for row in rows}
