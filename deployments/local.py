"""Runs a Prefect server and workers during a block, for tests and for pictures in the documentation."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from deployments.steps import ROOT

Environment = dict[str, str]
SERVER = ["-m", "prefect", "server", "start"]


@contextmanager
def server(home: Path, more: Mapping[str, str] | None = None) -> Iterator[Environment]:
    """Run a real server on a free port, with its files in `home`; gives the environment of its clients."""
    environment = new_environment(home) | dict(more or {})
    home.mkdir(parents=True, exist_ok=True)
    with running(SERVER, environment, home / "server.log") as process:
        await_health(environment, home / "server.log", lambda: process.poll() is None)
        yield environment


def new_environment(home: Path) -> Environment:
    """The environment of a server on a free port and of its clients, without settings of this process."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SELECTLLM_"))}
    return environment | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": url,  # otherwise its pages would use port 4200
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }


@contextmanager
def worker(environment: Environment, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of the work pool of prefect.yaml."""
    with running(["-m", "prefect", "worker", "start", "--pool", "selectllm", *options], environment, log) as process:
        yield process


@contextmanager
def running(arguments: list[str], environment: Environment, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python process in the checkout. The end of the block ends it and its process group."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=take_interrupts,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def take_interrupts() -> None:
    """Accept SIGINT as in a terminal. Background jobs of a shell ignore it, but workers need it to end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    """A free port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def await_health(environment: Environment, log: Path, is_running: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until the server of an environment answers; raises RuntimeError if it does not start."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and is_running():
        try:
            if httpx.get(f"{environment['PREFECT_API_URL']}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
