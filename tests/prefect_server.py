"""One real Prefect server for all tests of a session and all their processes."""

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from deployments.local import Environment, await_health, new_environment

SERVER: Final = (
    *("-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--lifespan", "on", "--log-level", "error"),
    *("--host", "127.0.0.1", "--port"),
)
"""What `prefect server start` runs, without a process before it that imports as much again."""

DATABASE: Final = "prefect.db"


@contextmanager
def shared_server(config: pytest.Config, folder: Path) -> Iterator[Environment]:
    """The environment of the clients of the session's server.

    The first process that needs the server starts it; the last one that used it ends it. Each holds a shared lock
    meanwhile, which goes away with its process however that ends.
    """
    home = (
        folder.parent if hasattr(config, "workerinput") else folder
    ) / "prefect"  # the folder of a pytest worker is inside ours
    home.mkdir(exist_ok=True)
    started = home / "server.json"
    with (home / "users").open("a") as users:
        with _exclusive(home / "lock"):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not started.exists():
                started.write_text(json.dumps(_start(home, _template(config))))
            server = json.loads(started.read_text())
        yield server["environment"]
        with _exclusive(home / "lock"):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another process still uses it
                return
            os.killpg(server["pid"], signal.SIGKILL)
            started.unlink()


def _start(home: Path, template: Path) -> dict[str, object]:
    environment = new_environment(home) | {"PREFECT_UI_ENABLED": "false", "PREFECT__SERVER_FINAL": "1"}
    port = environment["PREFECT_SERVER_API_PORT"]
    if template.exists():
        shutil.copyfile(template, home / DATABASE)
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *SERVER, port], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    await_health(environment, home / "server.log", lambda: process.poll() is None)
    process.returncode = 0  # another process may end it: this one neither waits for it nor warns that it still runs
    if not template.exists():
        _copy_database(home / DATABASE, template)
    return {"pid": process.pid, "environment": environment}


def _template(config: pytest.Config) -> Path:
    """An empty database as this version of Prefect makes it, which takes longer than all else at a server's start."""
    assert config.cache
    return config.cache.mkdir(f"prefect-{version('prefect')}") / DATABASE


def _copy_database(source: Path, target: Path) -> None:
    new = target.with_suffix(".new")
    with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(new)) as copy:
        database.backup(copy)
    new.rename(target)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
