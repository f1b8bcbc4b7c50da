"""Exports are taken by the real tools, and what comes back from them is read: docs/annotating.md as it is written."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployments.local import free_port
from deployments.steps import ROOT
from selectllm import pool, select
from selectllm.export.annotations import compare_annotations
from selectllm.export.export import export_selection
from selectllm.export.options import ExportOptions
from selectllm.report.result import Result
from tests import hostile
from tests.docs.pages import DOCS, TEXTS, blocks
from tests.export import tools
from tests.export.reading import MakeRun

pytestmark = pytest.mark.slow

PAGE = TEXTS[DOCS / "annotating.md"]
TOKEN = "0123456789abcdef0123456789abcdef01234567"
FIRST, *OF_LABEL_STUDIO = blocks(PAGE.partition("\n## Argilla\n")[0], "sh")
INSTALL, IMPORT, EXPORT, READ = OF_LABEL_STUDIO


@pytest.fixture(scope="module", autouse=True)
def annotators() -> Path:
    """The environment of the tools."""
    return tools.installed()


@dataclass(frozen=True)
class LabelStudio:
    """A server of Label Studio, started as the page says."""

    url: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask its API; returns the JSON of the answer."""
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)


@pytest.fixture(scope="module")
def label_studio(annotators: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    folder, port = tmp_path_factory.mktemp("server"), str(free_port())
    (folder / "label-studio").symlink_to(annotators)
    lines = [line for line in INSTALL.splitlines() if " venv " not in line and "pip install" not in line]
    assert len(lines) == len(INSTALL.splitlines()) - 2
    script = "\n".join(lines).replace("8080", port)
    with (folder / "output").open("wb") as output:
        server = subprocess.Popen(
            ["bash", "-ec", script], cwd=folder, env=tools.environment(folder), stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 600  # it makes its database first
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "output").read_text()[-3000:]
                assert time.monotonic() < deadline, (folder / "output").read_text()[-3000:]
                time.sleep(1)
        yield LabelStudio(f"http://127.0.0.1:{port}")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the examples, and with this checkout's command in `bin`."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "selectllm"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m selectllm "$@"\n')
    command.chmod(0o755)
    return tmp_path


def run_block(script: str, folder: Path, **variables: str) -> str:
    """Run a block of the page in a folder; returns what it prints."""
    environment = tools.environment(folder) | variables | {"SELECTLLM_QUALITY__NO_VALIDATE": "true"}
    environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def answer(text: str) -> dict[str, Any]:
    """An annotation with an answer, as Label Studio's pages send it."""
    return {"result": [{"from_name": "answer", "to_name": "prompt", "type": "textarea", "value": {"text": [text]}}]}


def test_the_page_leads_to_label_studio_and_back(label_studio: LabelStudio, checkout: Path) -> None:
    variables = {"LABEL_STUDIO": label_studio.url, "TOKEN": TOKEN}
    run_block(FIRST, checkout)
    run_block(IMPORT, checkout, **variables)
    project = json.loads((checkout / "project.json").read_text())["id"]
    tasks = label_studio.call("GET", f"/api/tasks?project={project}&page_size=100")["tasks"]
    ids = [task["data"]["row_id"] for task in sorted(tasks, key=lambda task: task["data"]["order"])]
    assert len(ids) == 20
    task_of = {task["data"]["row_id"]: task["id"] for task in tasks}
    problem = {"from_name": "problem", "to_name": "prompt", "type": "choices", "value": {"choices": ["unclear"]}}
    annotations = [
        *((id, answer(f"An answer.\nTo {id}.")) for id in ids[:10]),
        (ids[0], answer("A second thought.")),
        (ids[10], {"result": [], "was_cancelled": True}),
        (ids[11], {"result": [problem]}),
        (ids[12], {"result": []}),
    ]
    for id, annotation in annotations:
        label_studio.call("POST", f"/api/tasks/{task_of[id]}/annotations/", annotation)
    run_block(EXPORT, checkout, **variables, PROJECT=str(project))
    printed = run_block(READ, checkout)
    assert "Read 14 annotations of the 20 rows" in printed
    assert "10 rows answered, 2 skipped, 1 left empty, 7 missing." in printed
    assert "Problems: skip 1, unclear 1\n" in printed
    assert f"the latest counts: {ids[0][:8]} by 1\n" in printed
    trained = [json.loads(line) for line in (checkout / "train.jsonl").read_text().splitlines()]
    assert [row["id"] for row in trained] == ids[:10]
    assert trained[0]["messages"][-1] == {"role": "assistant", "content": "A second thought."}
    following = pq.read_table(checkout / "next" / "selection.parquet")["id"].to_pylist()
    assert len(set(following)) == 20
    assert set(following).isdisjoint(ids[:13])

    for form, name in (("JSON_MIN", "min.json"), ("CSV", "back.csv"), ("TSV", "back.tsv")):
        run_block(EXPORT.replace("=JSON", f"={form}").replace("annotated.json", name), checkout, **variables,
                  PROJECT=str(project))  # fmt: skip
        record = json.loads(run_block(f"selectllm annotations {name} --run {_first_run(checkout)} --json", checkout))
        assert record["counts"]["answered"] == 10, form
        assert record["problems"] == {"unclear": 1}, "these forms hold nothing of what was skipped"


def _first_run(folder: Path) -> str:
    return min(file.stem for file in (folder / "artifacts" / "v1" / "runs").glob("*.json"))


@pytest.mark.usefixtures("quick_embedding")
def test_hostile_texts_come_back_from_label_studio(
    label_studio: LabelStudio, make_run: MakeRun, tmp_path: Path
) -> None:
    result = _everything(make_run, tmp_path)
    files = export_selection(result.store, "label-studio", tmp_path / "out", options=ExportOptions(prefill=True)).files
    tasks, interface = json.loads(files[0].read_text()), files[1].read_text()
    project = label_studio.call("POST", "/api/projects/", {"title": "Hostile", "label_config": interface})["id"]
    told = label_studio.call("POST", f"/api/projects/{project}/import", tasks)
    assert (told["task_count"], told["prediction_count"]) == (len(tasks), len(tasks))
    back = label_studio.call("GET", f"/api/projects/{project}/export?exportType=JSON&download_all_tasks=true")
    by_id = {task["data"]["row_id"]: task["data"] for task in back}
    assert by_id == {task["data"]["row_id"]: task["data"] for task in tasks}


def _everything(make_run: MakeRun, tmp_path: Path) -> Result:
    """A run that chose all hostile rows, with scores and known answers."""
    rows = [{**row, "output": row["instruction"][:100], "note": "\ud800"} for row in hostile.rows()]
    path = tmp_path / "hostile.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    kept = pool.partition(pool.parse(pool.fetch(str(path)), pool.Columns()), {}).table.num_rows
    return select(make_run(pool=str(path), budget=kept, strategy="longest", near_duplicate=1.0))


@pytest.mark.usefixtures("quick_embedding")
def test_label_studios_own_check_accepts_all_tasks(make_run: MakeRun, tmp_path: Path) -> None:
    result = _everything(make_run, tmp_path)
    export_selection(result.store, "label-studio", tmp_path / "out", options=ExportOptions(prefill=True))
    counted = tools.run_python(
        "import json\n"
        "from label_studio_sdk.label_interface import LabelInterface\n"
        "interface = LabelInterface(open('out/interface.xml', encoding='utf-8').read())\n"
        "tasks = json.load(open('out/tasks.json'))\n"
        "assert not interface.validate_task({'data': {'other': 'x'}})\n"
        # With predictions in a task, this release's check of tasks raises TypeError.
        "predictions = [task.pop('predictions')[0] for task in tasks]\n"
        "print(json.dumps([len(tasks), sum(map(interface.validate_task, tasks)),\n"
        "    sum(map(interface.validate_prediction, predictions))]))\n",
        tmp_path,
    )
    assert counted == [len(result.table())] * 3


@pytest.mark.usefixtures("quick_embedding")
def test_argillas_sdk_makes_the_dataset_and_reads_it_again(make_run: MakeRun, tmp_path: Path) -> None:
    result = _everything(make_run, tmp_path)
    export_selection(result.store, "argilla", tmp_path / "for-argilla", options=ExportOptions(prefill=True))
    make, read = blocks(PAGE, "python")
    with tools.argilla_server() as (url, server):
        tools.run_python(_on(url, make) + "\nprint(1)", tmp_path)
        assert server.dataset["status"] == "ready"
        names = {kind: [made["name"] for made in found] for kind, found in server.properties.items()}
        assert names == {
            "fields": ["prompt"],
            "questions": ["answer", "problem"],
            "metadata-properties": ["order", "score", "picked_by"],
            "vectors-settings": ["embedding"],
        }
        ids = result.table()["id"].to_pylist()
        assert [record["external_id"] for record in server.records] == ids
        sent = json.loads((tmp_path / "for-argilla" / "records.json").read_text())
        for record, row in zip(server.records, sent, strict=True):
            assert record["fields"] == row["fields"]
            assert record["metadata"] == row["metadata"]
            assert record["suggestions"][0]["value"] == row["suggestions"]["answer"]["value"]
            vectors = record["vectors"]
            assert (vectors if isinstance(vectors, dict) else vectors[0])["embedding"] == row["vectors"]["embedding"]
        for number, record in enumerate(server.records[:4]):
            user = str(uuid.UUID(int=10 + number))
            value = {"answer": {"value": f"Answer {number}."}} if number < 3 else {"problem": {"value": "unclear"}}
            record["responses"] = [
                {"id": str(uuid.uuid4()), "values": value, "user_id": user, "status": "submitted",
                 "record_id": record["id"]},
            ]  # fmt: skip
        tools.run_python(_on(url, read) + "\nprint(1)", tmp_path)
        (condition,) = _filters(server.searches[0])
        assert condition == "submitted"
    annotated = compare_annotations(result.store, [str(tmp_path / "annotated.json")])
    assert {id: found[0].answer for id, found in annotated.answers.items()} == {
        id: f"Answer {number}." for number, id in enumerate(ids[:3])
    }
    assert annotated.skipped == (ids[3],)


def _on(url: str, block: str) -> str:
    """A block of the page against another server."""
    found, count = re.subn(r"http://127\.0\.0\.1:6900", url, block)
    assert count == 1
    return found


def _filters(search: Any) -> list[str]:
    """The values that a search asks for, wherever they stand."""
    return re.findall(r'"(?:value|values)": \[?"(\w+)"', json.dumps(search))


@pytest.mark.usefixtures("quick_embedding")
def test_datasets_loads_the_folder_with_every_type_of_column(make_run: MakeRun, tmp_path: Path) -> None:
    table = pa.table({
        "instruction": [f"Task {n}" for n in range(5)],
        "day": [date(2024, 5, n + 1) for n in range(5)],
        "time": pa.array([datetime(2024, 5, 1, n, tzinfo=UTC) for n in range(5)], pa.timestamp("us", "UTC")),
        "price": pa.array([Decimal("1.10")] * 5, pa.decimal128(10, 2)),
        "tags": [["a", "b"], [], None, ["c"], ["d"]],
        "facts": [{"n": n, "deep": {"x": None}} for n in range(5)],
        "nothing": pa.nulls(5),
        "kind": pa.array(["a", "b", "a", "b", "a"]).dictionary_encode(),
        "blob": [b"\xff\x00"] * 5,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "typed.parquet")
    result = select(make_run(pool=str(tmp_path / "typed.parquet"), budget=5, strategy="random"))
    export_selection(result.store, "hf", tmp_path / "typed")
    hostile_result = _everything(make_run, tmp_path)
    export_selection(hostile_result.store, "hf", tmp_path / "hostile")
    for folder, chosen in (("typed", result), ("hostile", hostile_result)):
        loaded = tools.run_python(
            "import json\nfrom datasets import load_dataset\n"
            f"rows = load_dataset({folder!r})['train']\n"
            "print(json.dumps([rows.column_names, list(rows['id']), list(rows['instruction'])]))\n",
            tmp_path,
        )
        table = chosen.table()
        names = [name for name in table.column_names if name != "output" or table["output"].null_count < len(table)]
        assert loaded == [names, table["id"].to_pylist(), table["instruction"].to_pylist()]
