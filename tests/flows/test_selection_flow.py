import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from flows.selection import select_instructions
from selectllm import select
from selectllm.errors import UsageError
from selectllm.settings import RunSettings
from selectllm.store import Store

MakeRun = Callable[..., RunSettings]
Ended = Callable[[Any], dict[str, list[str]]]
ROOT = Path(__file__).resolve().parents[2]
WITH_QUICK_EMBEDDING = """
import sys
from flows.command_line import main
from flows.selection import select_instructions
from selectllm.embedding import models
from tests.conftest import HashEmbedder
models.open_embedder = lambda _name: HashEmbedder()
sys.exit(main(select_instructions))
"""
STEPS = {"pool", "embeddings", "queries", "rankings", "tournament", "selection"}
pytestmark = [
    pytest.mark.usefixtures("quick_embedding"),
    # Prefect's own code warns under Python 3.11 and later; ours must not.
    pytest.mark.filterwarnings("default"),
]


def test_the_flow_and_the_library_choose_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(budget=7, out=str(tmp_path / "out"))
    by_flow = select_instructions(run)
    apart = select(run.model_copy(update={"store": str(tmp_path / "another store"), "out": str(tmp_path / "out2")}))
    assert by_flow["artifacts"] == apart.summary["artifacts"]
    for name in ("selection.jsonl", "selection.parquet", "quarantine.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()


def test_every_step_shows_cached_on_the_second_run(make_run: MakeRun, ended: Ended) -> None:
    run = make_run(budget=7)
    first = select_instructions(run, return_state=True)
    assert {name for name, ended in ended(first).items() if ended == ["Completed"]} >= STEPS
    second = select_instructions(run, return_state=True)
    names = ended(second)
    assert {name for name, names in names.items() if names == ["Cached"]} == STEPS
    assert "rankings-batch" not in names
    assert second.result()["ranking"]["asked"] == 0


def test_what_the_library_made_shows_cached_in_the_flow_and_the_other_way_round(
    make_run: MakeRun, ended: Ended
) -> None:
    run = make_run(budget=7)
    select(run)
    assert {
        name for name, names in ended(select_instructions(run, return_state=True)).items() if names == ["Cached"]
    } == STEPS
    other = make_run(budget=9, seed=5)
    select_instructions(other)
    assert set(select(other).summary["cached"]) == STEPS


def test_a_deleted_artifact_is_made_again_and_nothing_else(make_run: MakeRun, ended: Ended) -> None:
    run = make_run(budget=7)
    key = select_instructions(run)["artifacts"]["queries"]
    (Path(run.store) / "v1" / "artifacts" / "queries" / f"{key}.parquet").unlink()
    names = ended(select_instructions(run, return_state=True))
    assert {name for name, names in names.items() if name in STEPS and names != ["Cached"]} == {"queries"}


def test_ranking_goes_in_batches_of_task_runs(make_run: MakeRun, ended: Ended) -> None:
    names = ended(select_instructions(make_run(rows=700, budget=3, queries={"size": 5}), return_state=True))
    assert names["rankings-batch"] == ["Completed"] * 3


def test_the_run_leaves_its_artifacts_on_its_page(make_run: MakeRun) -> None:
    final = select_instructions(make_run(budget=7), return_state=True)
    ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[final.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        found = {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=ours)}
    assert {"selection-summary", "selection", "rankings-progress"} <= set(found)
    assert found["rankings-progress"].type == "progress"
    assert found["selection"].type == "table"
    assert "Chose 7 of 60 rows" in str(found["selection-summary"].data)
    assert "fixed rule" in str(found["selection-summary"].data)


def test_parameters_come_as_the_form_sends_them(make_run: MakeRun) -> None:
    as_json = make_run(budget=3).model_dump(mode="json")
    assert select_instructions(as_json)["selection"]["selected"] == 3  # type: ignore[arg-type]
    title = select_instructions.parameters.definitions["RunSettings"]["properties"]["budget"]["title"]  # type: ignore[index]
    assert title == "Budget"


def test_an_error_is_the_runs_own(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="the pool holds 60"):
        select_instructions(make_run(rows=60, budget=61))


@pytest.mark.usefixtures("validated")
def test_the_stores_hold_no_pickle(make_run: MakeRun, tmp_path: Path) -> None:
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    results = tmp_path / "results"
    run = make_run(budget=7, history="nightly", quality={})
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: results}):  # its own: other tests' runs fail meanwhile
        select_instructions(run)
    assert (Path(run.store) / "v1" / "verdicts" / "pool").is_dir()
    files = [path for path in Path(Store(run.store).root).rglob("*") if path.is_file()]
    assert {path.suffix or path.name for path in files} == {".parquet", ".json", ".jsonl", ".lock"}
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".parquet":
            assert content.startswith(b"PAR1")
        elif path.suffix == ".json":
            json.loads(content)
        else:
            assert all(json.loads(line) for line in content.splitlines())
    assert not list(results.rglob("*")), "of a run that succeeded Prefect keeps nothing"
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: results}):
        select_instructions(make_run(rows=60, budget=61), return_state=True)
    kept = list(results.rglob("*"))
    assert kept, "the error of a run that failed is all that it keeps"
    for path in kept:
        json.loads(path.read_bytes())


def test_the_command_line_prints_the_summary_alone(make_run: MakeRun, with_server: dict[str, str]) -> None:
    run = make_run(budget=3)
    select(run)  # no model that embeds is needed where everything is found
    command = [sys.executable, "-c", WITH_QUICK_EMBEDDING, run.pool, "--budget", "3", "--selector", run.selector]
    command += ["--store", run.store, "--no-validate", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=with_server)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["selection"]["selected"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--budget", "61"], 2, "selectllm: the budget is 61, but the pool holds 60 usable rows"),
        (["--budget", "0"], 2, "selectllm: --budget should be greater than or equal to 1"),
        (["--budget", "3", "--selector", "ollama:m", "--host", "http://127.0.0.1:9"], 2, "ollama serve"),
    ],
)
def test_the_command_line_ends_with_one_line_and_no_traceback(
    arguments: list[str], code: int, said: str, make_run: MakeRun, with_server: dict[str, str]
) -> None:
    run = make_run(rows=60)
    command = [sys.executable, "-m", "flows.selection", run.pool, "--store", run.store, "--selector", "scripted:first"]
    given = [one for one in command if "--selector" not in arguments or one not in ("--selector", "scripted:first")]
    done = subprocess.run([*given, *arguments], capture_output=True, text=True, check=False, cwd=ROOT, env=with_server)
    assert done.returncode == code
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
