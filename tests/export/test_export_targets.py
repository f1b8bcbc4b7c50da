"""What each target's files hold."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from selectllm import pool, select
from selectllm.errors import UsageError
from selectllm.export.export import export_selection
from selectllm.export.label_studio import _TAKEN
from selectllm.export.options import ExportOptions
from selectllm.llm.model import Request
from selectllm.report.result import Result
from tests.conftest import by_id
from tests.export.reading import MakeRun, chosen_from

pytestmark = pytest.mark.usefixtures("quick_embedding")

ROWS = [
    {"instruction": "Explain rust.", "input": "On\niron", "output": "Oxide.", "tag": "a", "n": -1},
    {"instruction": "=SUM(A1)", "output": "Zero.", "tag": "b", "n": 2},
    {"instruction": "Name 3 colours.", "tag": "=1+1", "n": 3, "answer": "mine", "id": 7, "prompt_id": [1, {"a": None}]},
]


@pytest.fixture
def result(make_run: MakeRun, tmp_path: Path) -> Result:
    return chosen_from(ROWS, make_run, tmp_path)


def by_text(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the order of ROWS."""
    order = [row["instruction"] for row in ROWS]
    return sorted(rows, key=lambda row: order.index(row["instruction"]))


def test_label_studio_gets_tasks_and_an_interface_that_agree(result: Result, tmp_path: Path) -> None:
    exported = export_selection(result.store, "label-studio", tmp_path / "out")
    assert [file.name for file in exported.files] == ["tasks.json", "interface.xml"]
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    data = [task["data"] for task in tasks]
    assert [row["order"] for row in data] == [1, 2, 3]
    first, second, third = by_text(data)
    assert first["prompt"] == "Explain rust.\n\nOn\niron"
    assert second["prompt"] == second["instruction"] == "=SUM(A1)"
    assert (first["input"], first["tag"], first["n"], first["picked_by"]) == ("On\niron", "a", -1, "random")
    assert "output" not in first
    assert (third["source_answer"], third["source_id"], third["prompt_id"]) == ("mine", 7, [1, {"a": None}])
    assert [row["row_id"] for row in data] == result.table()["id"].to_pylist()
    view = ElementTree.fromstring((tmp_path / "out" / "interface.xml").read_text())
    assert {part.get("value") for part in view if part.get("value")} == {"$prompt"}
    (text,) = view.iter("Text")
    assert {part.get("toName") for part in view if part is not text} == {text.get("name")}
    assert {part.get("name") for part in view} <= set(_TAKEN)
    assert [choice.get("value") for choice in view.iter("Choice")] == ["skip", "unclear"]
    assert not any("predictions" in task for task in tasks), "there is no score, and known answers are not shown"


def test_scores_and_known_answers_become_predictions(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_from(ROWS, make_run, tmp_path)
    export_selection(result.store, "label-studio", tmp_path / "out", options=ExportOptions(prefill=True))
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    shown = {task["data"]["instruction"]: task.get("predictions") for task in tasks}
    (prediction,) = shown["Explain rust."]
    assert prediction["model_version"] == "selectllm random"
    assert prediction["result"] == [
        {"from_name": "answer", "to_name": "prompt", "type": "textarea", "value": {"text": ["Oxide."]}}
    ]
    assert shown["Name 3 colours."] is None
    longest = select(make_run(budget=20, strategy="longest"))
    export_selection(longest.store, "label-studio", tmp_path / "longest")
    scored = json.loads((tmp_path / "longest" / "tasks.json").read_text())
    assert [task["data"]["score"] for task in scored] == longest.table()["score"].to_pylist()
    scores = [task["predictions"][0]["score"] for task in scored]
    assert (scores[0], scores[-1]) == (1, 0)
    assert scores == sorted(scores, reverse=True)


def test_argilla_gets_settings_and_records_with_vectors(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_from(ROWS, make_run, tmp_path, near_duplicate=0.99)
    export_selection(result.store, "argilla", tmp_path / "out", options=ExportOptions(prefill=True))
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    records = json.loads((tmp_path / "out" / "records.json").read_text())
    assert [field["name"] for field in settings["fields"]] == ["prompt"]
    assert [(question["name"], question["required"]) for question in settings["questions"]] == [
        ("answer", True), ("problem", False),
    ]  # fmt: skip
    assert settings["vectors"] == [{"name": "embedding", "title": "Embedding", "dimensions": 16}]
    assert [record["id"] for record in records] == result.table()["id"].to_pylist()
    embeddings = dict(zip(*(result.table("embeddings")[name].to_pylist() for name in ("id", "vector")), strict=True))
    for record in records:
        np.testing.assert_allclose(record["vectors"]["embedding"], embeddings[record["id"]], atol=1e-6)
    texts = {record["fields"]["prompt"]: record for record in records}
    known = texts["Explain rust.\n\nOn\niron"]
    assert known["suggestions"]["answer"]["value"] == "Oxide."
    assert known["metadata"] == {"order": records.index(known) + 1, "picked_by": "random", "tag": "a", "n": -1}
    assert texts["Name 3 colours."]["suggestions"] == {}
    assert json.loads(texts["Name 3 colours."]["metadata"]["prompt_id"]) == [1, {"a": None}]


def test_csv_runs_no_formula_and_has_a_column_to_fill_in(result: Result, tmp_path: Path) -> None:
    export_selection(result.store, "csv", tmp_path / "chosen.csv")
    content = (tmp_path / "chosen.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbforder,id,instruction,input,output,answer,")
    with (tmp_path / "chosen.csv").open(encoding="utf-8-sig", newline="") as file:
        first, _, third = by_text(
            [{**row, "instruction": row["instruction"].removeprefix("'")} for row in csv.DictReader(file)]
        )
    assert (first["input"], first["n"], first["answer"]) == ("On\niron", "-1", "")
    assert (third["tag"], third["source_answer"], third["prompt_id"]) == ("'=1+1", "mine", '[1, {"a": null}]')
    assert b"'=SUM(A1)" in content
    export_selection(result.store, "csv", tmp_path / "raw.csv", options=ExportOptions(raw=True))
    raw = (tmp_path / "raw.csv").read_bytes()
    assert b"'=" not in raw
    assert (b",=SUM(A1)," in raw, b",=1+1," in raw) == (True, True)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "＋", "－", "＠"])
def test_no_cell_begins_as_a_formula(start: str, make_run: MakeRun, tmp_path: Path) -> None:
    rows = [{"instruction": f"{start}cmd|'/c calc'!A1", "output": f"{start}1", f"{start}name": f"{start}2"}]
    result = chosen_from(rows, make_run, tmp_path)
    export_selection(result.store, "csv", tmp_path / "chosen.csv")
    with (tmp_path / "chosen.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert [cell for cell in cells if cell.startswith(start)] == []
    assert len([cell for cell in cells if cell.startswith(f"'{start}")]) == 4


def test_jsonl_and_parquet_hold_what_was_chosen(result: Result, tmp_path: Path) -> None:
    for to in ("jsonl", "parquet"):
        export_selection(result.store, to, tmp_path / f"chosen.{to}")
    assert pq.read_table(tmp_path / "chosen.parquet").equals(result.table())
    lines = [json.loads(line) for line in (tmp_path / "chosen.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == result.table()["id"].to_pylist()
    assert {line["instruction"]: line.get("tag") for line in lines} == {row["instruction"]: row["tag"] for row in ROWS}
    for to in ("jsonl", "parquet"):
        named = pool.named_ids(str(tmp_path / f"chosen.{to}"), pool.Columns())
        assert named >= set(result.table()["id"].to_pylist())


def test_a_hugging_face_card_says_how_the_rows_were_chosen(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_from(ROWS, make_run, tmp_path, seed=7)
    export_selection(result.store, "hf", tmp_path / "out")
    _, head, text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["license"] == "unknown"
    (files,) = card["configs"][0]["data_files"]
    assert pq.read_table(tmp_path / "out" / files["path"]).equals(result.table())
    facts = card["selectllm"]
    assert (facts["strategy"], facts["selector"], facts["seed"], facts["budget"]) == ("random", None, 7, 3)
    assert (facts["pool"], facts["pool_rows_read"], facts["pool_kept"]) == (["given.jsonl"], 3, 3)
    assert str(tmp_path) not in head + text, "a card names no path of this machine"
    assert "    seed: 7\n" in text


def test_criteria_and_model_stand_in_the_card_whatever_they_say(
    make_run: MakeRun, fake_model: Any, tmp_path: Path
) -> None:
    fake_model()
    criteria = "Nursing\n---\n# Heading </script> ```\n\u2028 \x85 \U000e0041 \ufeff é"
    result = select(make_run(budget=3, selector="openai:fake", criteria=criteria))
    card = export_selection(result.store, "hf", tmp_path / "out").files[1].read_text(encoding="utf-8")
    head, text = card.removeprefix("---\n").split("\n---\n", 1)
    facts = yaml.safe_load(head)["selectllm"]
    assert facts["criteria"] == criteria.strip()
    assert (facts["selector"], facts["model"]) == ("openai:fake", "fake")
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# A selection of 3 instructions"]


def test_a_batch_asks_the_model_each_row_by_its_id(make_run: MakeRun, tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Explain rust."},
        {"role": "assistant", "content": "Oxide."},
    ]
    rows = [{"instruction": "Sum up.", "input": "A text."}, {"messages": chat}, {"messages": chat[1:2]}]
    result = chosen_from(rows, make_run, tmp_path)
    export_selection(result.store, "openai-batch", tmp_path / "b.jsonl", options=ExportOptions(model="gpt-x"))
    lines = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == result.table()["id"].to_pylist()
    assert {(line["method"], line["url"], line["body"]["model"]) for line in lines} == {
        ("POST", "/v1/chat/completions", "gpt-x")
    }
    messages = sorted((line["body"]["messages"] for line in lines), key=len)
    assert messages[2] == chat[:4]
    one = [{"role": "user", "content": "Sum up.\n\nA text."}]
    assert one in messages
    assert [{"role": "user", "content": "Hello"}] in messages
    export_selection(result.store, "label-studio", tmp_path / "out")
    prompts = [task["data"]["prompt"] for task in json.loads((tmp_path / "out" / "tasks.json").read_text())]
    assert "System: Be brief.\nUser: Hello\nAssistant: Hi\n\nUser: Explain rust." in prompts


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("csv", {"prefill": True}, "--prefill is for --to label-studio and argilla alone, not for csv"),
        ("jsonl", {"raw": True}, "--raw is for --to csv alone"),
        ("hf", {"model": "gpt-x"}, "--model is for --to openai-batch alone"),
        ("openai-batch", {}, "--to openai-batch needs --model"),
    ],
)
def test_options_that_a_target_does_not_have_are_refused(
    to: Any, options: dict[str, Any], message: str, result: Result, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        export_selection(result.store, to, tmp_path / "out", options=ExportOptions(**options))
    assert not (tmp_path / "out").exists()


def test_prefill_without_known_answers_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    result = select(make_run(strategy="random"))
    with pytest.raises(UsageError, match="--prefill has nothing to show"):
        export_selection(result.store, "argilla", tmp_path / "out", options=ExportOptions(prefill=True))


def test_reasons_go_along(make_run: MakeRun, fake_model: Any, tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        is_ranking = "ranking" in (request.schema or {}).get("properties", {})
        return by_id(request) if is_ranking else json.dumps({"reason": "Worth it."})

    fake_model(answer)
    result = select(make_run(budget=3, selector="openai:fake", reasons=True))
    reasons = result.chosen()["reason"].to_pylist()
    assert reasons == ["Worth it."] * 3
    export_selection(result.store, "label-studio", tmp_path / "out")
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert [task["data"]["reason"] for task in tasks] == reasons
    export_selection(result.store, "parquet", tmp_path / "chosen.parquet")
    assert pq.read_table(tmp_path / "chosen.parquet")["reason"].to_pylist() == reasons
