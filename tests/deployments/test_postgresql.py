"""The flow on a Prefect server whose database is a real PostgreSQL, where its programs are installed."""

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local import free_port, server
from flows.selection import select_instructions
from selectllm.settings import RunSettings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def programs() -> Path:
    """Where PostgreSQL's programs are: on PATH, or where Debian puts them."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return folders[-1]


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database on a server of its own, which does not run as root: it refuses to."""
    bin_folder, port = programs(), free_port()
    user = None
    if os.getuid() == 0:
        known = {one.pw_name for one in pwd.getpwall()}
        user = "postgres" if "postgres" in known else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="selectllm-pg-"))
    if user:
        shutil.chown(folder, user)

    def run(name: str, *arguments: str) -> None:
        given = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([bin_folder / name, "--pgdata", folder / "data", *arguments], user=user, **given)  # type: ignore[call-overload]

    run("initdb", "--username", "prefect", "--auth", "trust", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder}"
    run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", options)
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "stop", "--mode", "immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("quick_embedding")
def test_three_thousand_rows_on_postgresql(
    database: str, make_run: Callable[..., RunSettings], shared: Path, tmp_path: Path
) -> None:
    run = make_run(pool=str(shared / "dolly_3k.jsonl"), budget=500)
    with server(tmp_path / "prefect", {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}) as environment:
        with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}):
            summary = select_instructions(run)
            APILogHandler.flush()  # else it would go on without a server
        found = asyncio.run(_states(database))
    assert summary["selection"]["selected"] == 500
    assert found == {"COMPLETED": 1}
    log = (tmp_path / "prefect" / "server.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert not (tmp_path / "prefect" / "prefect.db").exists()


async def _states(database: str) -> dict[str, int]:
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch("SELECT state_type::text AS state, count(*) AS runs FROM flow_run GROUP BY 1")
    finally:
        await connection.close()
    return {row["state"]: row["runs"] for row in rows}
