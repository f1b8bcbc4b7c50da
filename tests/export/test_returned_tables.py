"""Tables that came back from a pool whose own columns have the names that annotators' have."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selectllm import pool, select
from selectllm.cli.main import main
from selectllm.errors import PoolError, UsageError
from selectllm.export.annotations import AnnotatedSelection, compare_annotations
from selectllm.export.export import export_selection
from selectllm.export.training import training_rows
from selectllm.report.result import Result
from tests.export.reading import MakeRun, chosen_from

pytestmark = pytest.mark.usefixtures("quick_embedding")
Row = dict[str, Any]

OF_POOL: dict[str, list[Any]] = {
    "problem": ["algebra", "algebra", "geometry"],
    "Problem": [True, False, True],
    "row_id": [7, 8, 9],
    "custom_id": ["q-1", "q-2", "q-3"],
    "user_id": [1.0, 2.0, 2.0],
    "annotator": ["old", "old", None],
    "completed_by": [{"id": 3}, {"id": 4}, {"id": 5}],
    "updated_at": ["2026-03-01", "2026-02-01", "2026-01-01"],
    "answer": ["Old one.", "Old two.", "=3"],
    "response": [{"status_code": 500}] * 3,
}
EACH = [{name: values} for name, values in OF_POOL.items()]
EACH += [
    OF_POOL,
    {"annotator": ["a"] * 3, "source_annotator": ["b"] * 3},
    {"custom_id": OF_POOL["custom_id"], "response": OF_POOL["response"]},
]
each_pool = pytest.mark.parametrize("columns", EACH, ids=["+".join(columns) for columns in EACH])


def chosen_with(columns: Mapping[str, list[Any]], make_run: MakeRun, tmp_path: Path, **texts: Any) -> Result:
    """A run that chose three rows with these columns."""
    rows = [
        {"instruction": f"Task {n}.", **texts, **{name: values[n] for name, values in columns.items()}}
        for n in range(3)
    ]
    return chosen_from(rows, make_run, tmp_path)


def fill_csv(source: Path, target: Path, change: Callable[[int, Row], None]) -> str:
    """Write a CSV file again with its rows changed, as people do in a spreadsheet."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        change(number, row)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(target)


def fill(result: Result, to: Any, folder: Path, name: str, change: Callable[[int, Row], None]) -> str:
    """Export a run, and change the rows of the file as one annotator."""
    export = folder / f"export.{to}"
    export_selection(result.store, to, export)
    path = folder / f"{name}.{to}"
    if to == "csv":
        return fill_csv(export, path, change)
    if to == "parquet":
        rows = pq.read_table(export).to_pylist()
    else:
        rows = [json.loads(line) for line in export.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        change(number, row)
    if to == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def says(name: str, column: str) -> Callable[[int, Row], None]:
    def change(number: int, row: Row) -> None:
        row[column] = f"{name} on {number}."

    return change


def texts(annotated: AnnotatedSelection) -> list[list[str]]:
    """All answers by row, in the order of the selection."""
    assert (annotated.unknown, annotated.without_id, annotated.doubled) == ((), 0, ())
    return [[answer.answer for answer in annotated.answers[id]] for id in annotated.chosen.table["id"].to_pylist()]


@each_pool
def test_no_answer_of_a_spreadsheet_is_lost(columns: dict[str, list[Any]], make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with(columns, make_run, tmp_path)
    files = [fill(result, "csv", tmp_path, name, says(name, "answer")) for name in ("ann", "bob")]
    annotated = compare_annotations(result.store, files)
    assert texts(annotated) == [[f"ann on {n}.", f"bob on {n}."] for n in range(3)]
    assert [answer.annotator for answer in next(iter(annotated.answers.values()))] == files
    assert annotated.problems == {}
    following = select(
        make_run(budget=5, strategy="random", exclude=[files[0]], more_files=[str(tmp_path / "given.jsonl")])
    )
    assert following.summary["selection"]["excluded"] == 3


@each_pool
@pytest.mark.parametrize("to", ["jsonl", "parquet"])
def test_no_answer_of_a_file_with_the_pools_names_is_lost(
    to: str, columns: dict[str, list[Any]], make_run: MakeRun, tmp_path: Path
) -> None:
    result = chosen_with(columns, make_run, tmp_path)
    files = [fill(result, to, tmp_path, name, says(name, "completion")) for name in ("ann", "bob")]
    annotated = compare_annotations(result.store, files)
    assert texts(annotated) == [[f"ann on {n}.", f"bob on {n}."] for n in range(3)]
    assert annotated.problems == {}
    assert pool.named_ids(files[0], pool.Columns()) >= set(annotated.answers)


@each_pool
def test_files_of_earlier_exports_are_read(columns: dict[str, list[Any]], make_run: MakeRun, tmp_path: Path) -> None:
    """Those kept the pool's names in CSV as well; a spreadsheet has written numbers and true its own way."""
    result = chosen_with(columns, make_run, tmp_path)

    def change(number: int, row: Row) -> None:
        for name in [name for name in row if name.startswith("source_") and name != "source_answer"]:
            old = row.pop(name)
            row[name if name in columns else name.removeprefix("source_")] = old.replace(".0", "").replace(
                "true", "TRUE"
            )
        says("ann", "answer")(number, row)

    file = fill(result, "csv", tmp_path, "ann", change)
    assert texts(compare_annotations(result.store, [file])) == [[f"ann on {n}."] for n in range(3)]


def test_what_annotators_write_in_columns_of_the_pools_names_counts(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({"annotator": ["old"] * 3, "problem": ["algebra"] * 3}, make_run, tmp_path)
    ids = result.table()["id"].to_pylist()
    rows = [
        {"id": ids[0], "answer": "A", "annotator": "ann"},
        {"id": ids[0], "answer": "B", "annotator": "bob"},
        {"id": ids[1], "annotator": "bob", "problem": "skip"},
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    annotated = compare_annotations(result.store, [str(tmp_path / "own.jsonl")])
    assert [answer.annotator for answer in annotated.answers[ids[0]]] == ["ann", "bob"]
    assert (annotated.skipped, annotated.problems) == ((ids[1],), {"skip": 1})


def test_ids_of_another_run_are_told_and_not_those_of_the_pool(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({"row_id": [1, 2, 3]}, make_run, tmp_path)
    (tmp_path / "other.jsonl").write_text(json.dumps({"row_id": 1, "id": "f" * 32, "answer": "A"}) + "\n")
    assert compare_annotations(result.store, [str(tmp_path / "other.jsonl")]).unknown == ("f" * 32,)


# Files as people write them


def test_names_of_columns_are_read_in_capitals_too(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({}, make_run, tmp_path)
    ids = result.table()["id"].to_pylist()
    path = tmp_path / "back.csv"
    path.write_text(f"ID, Answer ,Annotator,PROBLEM\n{ids[0]},A,ann,\n{ids[0]},B,bob,\n{ids[1]},,bob,skip\n")
    annotated = compare_annotations(result.store, [str(path)])
    assert [(answer.answer, answer.annotator) for answer in annotated.answers[ids[0]]] == [("A", "ann"), ("B", "bob")]
    assert (annotated.skipped, annotated.without_id) == ((ids[1],), 0)
    assert pool.named_ids(str(path), pool.Columns()) == frozenset(ids[:2])


def test_a_name_as_it_is_goes_before_one_in_capitals(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({}, make_run, tmp_path)
    ids = result.table()["id"].to_pylist()
    path = tmp_path / "back.csv"
    path.write_text(f"ID,id,ANSWER,answer\n1,{ids[0]},no,yes\n")
    assert [answer.answer for answer in compare_annotations(result.store, [str(path)]).answers[ids[0]]] == ["yes"]


@pytest.mark.parametrize("answers", [["Größe", "Size"], ["Größe", "Maß"]], ids=["some rows", "all rows"])
def test_a_file_in_another_encoding_says_how_to_save_it(
    answers: list[str], make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = chosen_with({}, make_run, tmp_path)
    ids = result.table()["id"].to_pylist()
    lines = ["id,answer", *(f"{id},{answer}" for id, answer in zip(ids, answers, strict=False))]
    (tmp_path / "back.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    assert main(["annotations", str(tmp_path / "back.csv"), "--store", result.store.root]) == 0
    printed = capsys.readouterr().out
    assert "row 2: not UTF-8" in printed
    assert 'which spreadsheets call "CSV UTF-8", and read it again' in printed


def test_a_header_in_another_encoding_says_how_to_save_it(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({}, make_run, tmp_path)
    (tmp_path / "back.csv").write_bytes("id,Größe,answer\r\n1,2,A\r\n".encode("cp1252"))
    with pytest.raises(PoolError, match=r"header that cannot be read: not UTF-8\. Save the file as UTF-8"):
        compare_annotations(result.store, [str(tmp_path / "back.csv")])


def test_records_without_an_id_say_what_to_keep(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = chosen_with({}, make_run, tmp_path)
    (tmp_path / "back.csv").write_text("instruction,answer\nTask 0.,A\n")
    assert main(["annotations", str(tmp_path / "back.csv"), "--store", result.store.root]) == 0
    assert "Without an id: 1 records. Keep the column `id` in the files" in capsys.readouterr().out


# Answers that the pool had


@pytest.mark.parametrize("to", ["jsonl", "parquet"])
def test_the_pools_own_answers_are_not_trained_on(to: str, make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({"answer": OF_POOL["answer"]}, make_run, tmp_path, output="Known.")
    file = fill(result, to, tmp_path, "ann", says("ann", "output"))
    rows = training_rows(compare_annotations(result.store, [file]), "alpaca")
    assert [row["output"] for row in rows] == [f"ann on {n}." for n in range(3)]


def test_rows_that_nobody_changed_are_not_trained_on(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({}, make_run, tmp_path, output="Known.")

    def change(number: int, row: Row) -> None:
        if number == 1:
            row["output"] = "Better."

    file = fill(result, "jsonl", tmp_path, "ann", change)
    annotated = compare_annotations(result.store, [file])
    assert [row["output"] for row in training_rows(annotated, "alpaca")] == ["Better."]
    assert annotated.problems == {"unchanged": 2}
    assert len(compare_annotations(result.store, [file], answer_column="output").answers) == 3


def test_answers_that_may_be_the_pools_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({"answer": OF_POOL["answer"]}, make_run, tmp_path, output="Known.")
    untouched = fill(result, "jsonl", tmp_path, "untouched", lambda *_: None)
    with pytest.raises(
        UsageError, match=r"no answers but those that the pool had, in 'answer', 'output'.*--answer-column"
    ):
        compare_annotations(result.store, [untouched])

    def both(number: int, row: Row) -> None:
        row |= {"answer": f"A {number}", "output": f"B {number}"}

    file = fill(result, "jsonl", tmp_path, "both", both)
    with pytest.raises(UsageError, match=r"can be those of 'answer', 'output'.*--answer-column"):
        compare_annotations(result.store, [file])
    assert texts(compare_annotations(result.store, [file], answer_column="output")) == [[f"B {n}"] for n in range(3)]


def test_a_column_of_the_pools_that_is_empty_hides_no_answers(make_run: MakeRun, tmp_path: Path) -> None:
    result = chosen_with({"answer": [None] * 3}, make_run, tmp_path)
    file = fill(result, "jsonl", tmp_path, "ann", says("ann", "output"))
    assert texts(compare_annotations(result.store, [file])) == [[f"ann on {n}."] for n in range(3)]
