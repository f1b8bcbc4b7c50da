"""What came back from annotators, joined with the selection."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from selectllm import pool, select
from selectllm.cli.main import main
from selectllm.errors import PoolError, UsageError
from selectllm.export.annotations import AnnotatedSelection, compare_annotations
from selectllm.export.came_back import read_annotations
from selectllm.export.export import export_selection
from selectllm.export.training import training_rows, write_training
from selectllm.report.result import Result
from tests.export.reading import MakeRun, chosen_from, write_json

pytestmark = pytest.mark.usefixtures("quick_embedding")
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def result(make_run: MakeRun) -> Result:
    return select(make_run(budget=6, strategy="random"))


@pytest.fixture
def ids(result: Result) -> list[str]:
    chosen: list[str] = result.table()["id"].to_pylist()
    return chosen


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Run a command line in this process with this test's store; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--store", str(tmp_path / "store")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def counts(annotated: AnnotatedSelection) -> dict[str, int]:
    """The counts that are not 0, but for rows and annotations."""
    found: dict[str, int] = annotated.record()["counts"]
    assert found["answered"] + found["skipped"] + found["empty"] + found["missing"] == found["rows"]
    return {name: count for name, count in found.items() if count and name not in ("rows", "annotations")}


def task(id: str, number: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    """A task as in Label Studio's JSON export."""
    return {"id": number, "data": {"row_id": id, "prompt": "x"}, "annotations": list(annotations), "predictions": []}


def made(answer: str | None = None, by: Any = 1, at: str = "2026-01-01T10:00:00Z", **fields: Any) -> dict[str, Any]:
    """An annotation as in Label Studio's JSON export."""
    result = [] if answer is None else [_result("answer", "textarea", text=[answer])]
    if problem := fields.pop("problem", None):
        result.append(_result("problem", "choices", choices=[problem]))
    return {"completed_by": by, "result": result, "was_cancelled": False, "updated_at": at, **fields}


def _result(name: str, kind: str, **value: list[str]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "prompt", "type": kind, "value": value}


# Label Studio


def test_each_row_is_answered_skipped_empty_or_missing(result: Result, ids: list[str], tmp_path: Path) -> None:
    tasks = [
        task(ids[0], 1, made("One.")),
        task(ids[1], 2, made(was_cancelled=True)),
        task(ids[2], 3, made("Half an ans", problem="unclear")),
        task(ids[3], 4, made()),
        task(ids[4], 5),
        task("f" * 32, 6, made("Stray.")),
    ]
    annotated = compare_annotations(result.store, [write_json(tmp_path / "back.json", tasks)])
    assert counts(annotated) == {"answered": 1, "skipped": 2, "empty": 1, "missing": 2, "unknown": 1}
    assert annotated.problems == {"skip": 1, "unclear": 1}
    assert (annotated.skipped, annotated.empty, annotated.missing) == ((ids[1], ids[2]), (ids[3],), (ids[4], ids[5]))
    assert annotated.unknown == ("f" * 32,)
    assert [(a.answer, a.annotator) for a in annotated.answers[ids[0]]] == [("One.", "1")]


def test_the_latest_of_one_annotators_answers_counts(result: Result, ids: list[str], tmp_path: Path) -> None:
    later = made("Second.", at="2026-01-02T00:00:00Z")
    tasks = [
        task(ids[0], 1, later, made("First.")),
        task(ids[1], 2, made(was_cancelled=True), made("After all.", at="2026-02-01T00:00:00Z")),
        task(ids[2], 3, made("Same."), made("Same.", by={"id": 2, "email": "b@example.com"})),
    ]
    annotated = compare_annotations(result.store, [write_json(tmp_path / "back.json", tasks)])
    assert annotated.doubled == ((ids[0], "1"), (ids[1], "1"))
    assert [annotated.answers[id][0].answer for id in ids[:2]] == ["Second.", "After all."]
    assert [a.annotator for a in annotated.answers[ids[2]]] == ["1", "b@example.com"]
    assert (annotated.several, annotated.disputed, annotated.agreement) == ((ids[2],), (), 1.0)


def test_agreement_is_of_pairs_of_answers_and_spaces_do_not_count(
    result: Result, ids: list[str], tmp_path: Path
) -> None:
    tasks = [
        task(ids[0], 1, made("Yes", by=1), made(" yes", by=2), made("Yes\n", by=3)),
        task(ids[1], 2, made("a  b", by=1), made("a\nb", by=2)),
        task(ids[2], 3, made("alone", by=1), made(by=2, was_cancelled=True)),
    ]
    annotated = compare_annotations(result.store, [write_json(tmp_path / "back.json", tasks)])
    assert annotated.several == (ids[0], ids[1])
    assert annotated.disputed == (ids[0],)
    assert annotated.agreement == pytest.approx(2 / 4)


def test_json_min_and_csv_of_label_studio_are_read(result: Result, ids: list[str], tmp_path: Path) -> None:
    fields = {"annotator": 7, "annotation_id": 1, "updated_at": "2026-01-01T00:00:00Z", "prompt": "x"}
    rows = [
        {"id": 1, "row_id": ids[0], "answer": "One.", **fields},
        {"id": 2, "row_id": ids[1], "answer": {"text": ["Two.", "And more."]}, **fields},
        {"id": 3, "row_id": ids[2], "problem": "unclear", **fields},
        {"id": 4, "row_id": ids[3], "answer": [], **fields},
    ]
    annotated = compare_annotations(result.store, [write_json(tmp_path / "min.json", rows)])
    assert counts(annotated) == {"answered": 2, "skipped": 1, "empty": 1, "missing": 2}
    assert annotated.answers[ids[1]][0].answer == "Two.\nAnd more."
    assert annotated.answers[ids[0]][0].annotator == "7"
    (tmp_path / "back.csv").write_text(f'"annotator","answer","id","row_id"\n7,"One,\nmore",1,{ids[0]}\n')
    annotated = compare_annotations(result.store, [str(tmp_path / "back.csv")])
    assert annotated.answers[ids[0]][0].answer == "One,\nmore"


# Other files


def test_argilla_records_are_read(result: Result, ids: list[str], tmp_path: Path) -> None:
    def record(id: str, **responses: list[dict[str, str]]) -> dict[str, Any]:
        return {"id": id, "fields": {"prompt": "x"}, "metadata": {}, "suggestions": {}, "responses": responses}

    records = [
        record(ids[0], answer=[{"value": "A", "user_id": "u1"}, {"value": "B", "user_id": "u2"}]),
        record(ids[1], problem=[{"value": "unclear", "user_id": "u1"}]),
        record(ids[2]),
        record(ids[3], answer=[{"value": "draft", "user_id": "u1", "status": "draft"}]),
        record(ids[4], answer=[{"value": "no", "user_id": "u1", "status": "discarded"}]),
    ]
    annotated = compare_annotations(result.store, [write_json(tmp_path / "records.json", records)])
    assert counts(annotated) == {
        "answered": 1, "skipped": 2, "empty": 1, "missing": 2, "several": 1, "disputed": 1,
    }  # fmt: skip
    assert annotated.problems == {"skip": 1, "unclear": 1}


def test_the_output_of_a_batch_is_read(result: Result, ids: list[str], tmp_path: Path) -> None:
    def line(id: str, status: int, **body: Any) -> str:
        return json.dumps(
            {"id": "b", "custom_id": id, "response": {"status_code": status, "body": body}, "error": None}
        )

    said = {"choices": [{"message": {"role": "assistant", "content": "An answer."}}], "model": "gpt-x"}
    failed = json.dumps({"id": "b", "custom_id": ids[2], "response": None, "error": {"code": "batch_expired"}})
    lines = [line(ids[0], 200, **said), line(ids[1], 400, error={"message": "no"}), failed, "{broken"]
    (tmp_path / "output.jsonl").write_text("\n".join(lines) + "\n")
    annotated = compare_annotations(result.store, [str(tmp_path / "output.jsonl")])
    assert counts(annotated) == {"answered": 1, "skipped": 2, "missing": 3, "faults": 1}
    assert annotated.problems == {"failed": 2}
    assert (annotated.answers[ids[0]][0].answer, annotated.answers[ids[0]][0].annotator) == ("An answer.", "gpt-x")
    assert pool.named_ids(str(tmp_path / "output.jsonl"), pool.Columns()) == frozenset(ids[:3])


def test_answers_of_a_batch_that_did_not_end_are_problems(
    cli: Cli, result: Result, ids: list[str], tmp_path: Path
) -> None:
    def line(id: str, reason: str | None, **message: Any) -> str:
        choices = [{"finish_reason": reason, "message": {"role": "assistant", **message}}]
        response = {"status_code": 200, "body": {"choices": choices, "model": "gpt-x"}}
        return json.dumps({"id": "b", "custom_id": id, "response": response, "error": None})

    lines = [
        line(ids[0], "stop", content="Whole.", refusal=None),
        line(ids[1], "length", content="Half an ans"),
        line(ids[2], "content_filter", content="Half a th"),
        line(ids[3], "stop", content=None, refusal="I cannot help with that."),
        line(ids[4], None, content="A server that gives no reason."),
        line(ids[5], "length", content=""),
    ]
    (tmp_path / "output.jsonl").write_text("\n".join(lines) + "\n")
    train = tmp_path / "train.jsonl"
    code, out, _ = cli("annotations", tmp_path / "output.jsonl", "--to", "alpaca", "--out", train)
    assert code == 0
    assert "2 rows answered, 4 skipped, 0 left empty, 0 missing." in out
    assert "Problems: cut short 2, refused 2\n" in out
    assert [json.loads(row)["id"] for row in train.read_text().splitlines()] == [ids[0], ids[4]]


def test_our_csv_is_read_back_with_answers_filled_in(result: Result, ids: list[str], tmp_path: Path) -> None:
    import pandas as pd

    export_selection(result.store, "csv", tmp_path / "chosen.csv")
    for name in ("ann", "bob"):
        table = pd.read_csv(tmp_path / "chosen.csv", dtype={"answer": "string"})
        table.loc[0, "answer"] = f"{name} says\n=1"
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    annotated = compare_annotations(result.store, [str(tmp_path / "ann.csv"), str(tmp_path / "bob.csv")])
    assert counts(annotated) == {"answered": 1, "empty": 5, "several": 1, "disputed": 1}
    assert [a.answer for a in annotated.answers[ids[0]]] == ["ann says\n=1", "bob says\n=1"]
    assert annotated.doubled == ()


def test_any_table_with_ids_and_answers_is_read(result: Result, ids: list[str], tmp_path: Path) -> None:
    rows = [{"id": ids[0], "completion": "One."}, {"completion": "Nobody's."}, {"id": ids[1], "completion": None}]
    (tmp_path / "back.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    annotated = compare_annotations(result.store, [str(tmp_path / "back.jsonl")])
    assert counts(annotated) == {"answered": 1, "empty": 1, "missing": 4, "without_id": 1}
    other = write_json(tmp_path / "other.json", [{"id": ids[0], "text": "One."}])
    with pytest.raises(UsageError, match=r"has none of the columns answer, output.*id, text.*--answer-column"):
        compare_annotations(result.store, [other])
    assert counts(compare_annotations(result.store, [other], answer_column="text"))["answered"] == 1
    with pytest.raises(UsageError, match="has no column 'nothing'"):
        compare_annotations(result.store, [other], answer_column="nothing")
    with pytest.raises(PoolError, match="does not exist"):
        compare_annotations(result.store, [str(tmp_path / "nothing.json")])


# To train on


@pytest.fixture
def annotated(make_run: MakeRun, tmp_path: Path) -> AnnotatedSelection:
    chat = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hello"}]
    rows = [{"instruction": "Sum up.", "input": "A text."}, {"conversations": chat}]
    result = chosen_from(rows, make_run, tmp_path)
    by_text = {row["instruction"]: row["id"] for row in result.table().to_pylist()}
    tasks = [
        task(by_text["Sum up."], 1, made("Long answer.", by=2, at="2026-02-01"), made("Short.", by=1, at="2026-01-01")),
        task(by_text["Hello"], 2, made("Hi.", by=1), made("Hi.", by=2)),
    ]
    return compare_annotations(result.store, [write_json(tmp_path / "back.json", tasks)])


def test_several_answers_are_settled_as_asked(annotated: AnnotatedSelection) -> None:
    def outputs(several: Any) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in training_rows(annotated, "alpaca", several):
            found.setdefault(row["instruction"], []).append(row["output"])
        return found

    assert outputs("first") == {"Sum up.": ["Short."], "Hello": ["Hi."]}
    assert outputs("longest") == {"Sum up.": ["Long answer."], "Hello": ["Hi."]}
    assert outputs("all") == {"Sum up.": ["Short.", "Long answer."], "Hello": ["Hi."]}
    assert outputs("none-if-disputed") == {"Hello": ["Hi."]}
    with pytest.raises(UsageError, match="--several cannot be"):
        outputs("best")


def test_layouts_of_training_files(annotated: AnnotatedSelection, tmp_path: Path) -> None:
    ids = {row["instruction"]: row["id"] for row in annotated.chosen.rows()}
    rows = {row["id"]: row for row in training_rows(annotated, "alpaca")}
    assert rows[ids["Sum up."]] == {
        "id": ids["Sum up."], "instruction": "Sum up.", "input": "A text.", "output": "Short.",
    }  # fmt: skip
    rows = {row["id"]: row["messages"] for row in training_rows(annotated, "messages")}
    assert rows[ids["Hello"]] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
    ]
    assert rows[ids["Sum up."]][0] == {"role": "user", "content": "Sum up.\n\nA text."}
    rows = {row["id"]: row["conversations"] for row in training_rows(annotated, "sharegpt")}
    assert [turn["from"] for turn in rows[ids["Hello"]]] == ["system", "human", "gpt"]


@pytest.mark.parametrize("to", ["alpaca", "messages", "sharegpt"])
def test_training_files_are_pools_that_name_their_rows(to: Any, annotated: AnnotatedSelection, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    assert write_training(annotated, to, path) == 2
    parsed = pool.parse(pool.fetch(str(path)), pool.Columns())
    assert sorted(parsed.table["instruction"].to_pylist())[0] == "Hello"
    assert pool.named_ids(str(path), pool.Columns()) >= set(annotated.answers)
    with pytest.raises(UsageError, match="nothing is written over"):
        write_training(annotated, "alpaca", path, "all")


# Exclusion


@pytest.mark.parametrize("form", ["full", "min", "argilla"])
def test_annotated_rows_are_excluded_from_the_next_choice(
    form: str, result: Result, ids: list[str], make_run: MakeRun, tmp_path: Path
) -> None:
    forms: dict[str, list[dict[str, Any]]] = {
        "full": [task(id, number, made("An answer.")) for number, id in enumerate(ids)],
        "min": [{"id": number, "row_id": id, "prompt": "shown", "answer": "x"} for number, id in enumerate(ids)],
        "argilla": [{"id": id, "fields": {"prompt": "shown"}, "responses": {}} for id in ids],
    }
    file = write_json(tmp_path / "back.json", forms[form])
    assert pool.named_ids(file, pool.Columns()) >= set(ids)
    following = select(make_run(budget=54, strategy="random", exclude=[file]))
    assert following.summary["selection"]["excluded"] == 6
    assert set(following.table()["id"].to_pylist()).isdisjoint(ids)


# The command


def test_the_command_reports_and_writes_a_training_file(
    cli: Cli, result: Result, ids: list[str], tmp_path: Path
) -> None:
    tasks = [
        task(ids[0], 1, made("A", by=1), made("B", by=2)),
        task(ids[1], 2, made("\x1b[31mred", by=1), made("\x1b[31mred", by=1)),
        task(ids[2], 3, made(was_cancelled=True)),
    ]
    back, train = write_json(tmp_path / "back.json", tasks), tmp_path / "train.jsonl"
    code, out, err = cli("annotations", back, "--to", "messages", "--out", train)
    assert (code, err) == (0, "")
    assert "Read 5 annotations of the 6 rows" in out
    assert "2 rows answered, 1 skipped, 0 left empty, 3 missing." in out
    assert "1 rows have answers of several annotators: 0% of the pairs agree." in out
    assert f"Disputed: {ids[0][:8]}\n" in out
    assert f"Annotated more than once by one annotator, of which the latest counts: {ids[1][:8]} by 1" in out
    assert f"Wrote 2 rows to train on (messages): {train}" in out
    assert len(train.read_text().splitlines()) == 2
    code, out, _ = cli("annotations", back, "--json")
    record = json.loads(out)
    assert (record["counts"]["disputed"], record["agreement"], record["ids"]["missing"]) == (1, 0.0, ids[3:])
    assert record["doubled"] == [{"id": ids[1], "annotator": "1"}]
    foreign = write_json(tmp_path / "foreign.json", [task("f" * 32, 1, made("A"))])
    assert "annotations of another run? Name it with --run" in cli("annotations", foreign)[1]
    assert "another run" not in out


def test_what_is_missing_to_train_is_told(cli: Cli, result: Result, ids: list[str], tmp_path: Path) -> None:
    def told(name: str, rows: list[Any], *options: str) -> str:
        out = tmp_path / "train.jsonl"
        code, printed, err = cli(
            "annotations", write_json(tmp_path / name, rows), "--to", "messages", "--out", out, *options
        )
        assert (code, printed, out.exists()) == (2, "", False)
        assert "there is nothing to write. " in err
        return err

    run = result.run
    foreign = told("foreign.json", [{"id": f"{n:032x}", "answer": "A"} for n in range(5)])
    assert f"Not in the selection of run {run}: {0:032x}, {1:032x}, {2:032x} and 2 more" in foreign
    assert "Are they annotations of another run? Name it with --run" in foreign
    assert "Records without an id: 1. Keep the column `id`" in told("no_id.json", [{"answer": "A"}])
    disputed = [{"id": ids[0], "answer": name, "annotator": name} for name in ("ann", "bob")]
    assert "choose with --several" in told("disputed.json", disputed, "--several", "none-if-disputed")
    assert "without --to" in told("empty.json", [{"id": ids[0], "answer": None}])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "FILES"),
        (["nothing.json"], "nothing.json does not exist"),
        (["back.json", "--to", "alpaca"], "--to and --out go together"),
        (["back.json", "--out", "train.jsonl"], "--to and --out go together"),
        (["back.json", "--to", "alpaca", "--out", "train.jsonl"], "there is nothing to write"),
    ],
)
def test_bad_usage_has_exit_code_2(
    arguments: list[str], message: str, cli: Cli, result: Result, ids: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "back.json", [task(ids[0], 1)])
    code, out, err = cli("annotations", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "train.jsonl").exists()


NAMES = [
    *("data", "annotations", "result", "value", "text", "from_name", "completed_by", "id", "row_id", "was_cancelled"),
    *("fields", "responses", "answer", "user_id", "custom_id", "response", "body", "choices", "message", "content"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(rows=st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=6), max_size=3))
@example(rows=[{"data": {}, "annotations": [None, {"result": [{}], "completed_by": {}}]}])
@example(rows=[{"fields": {}, "responses": {"answer": [1, {}]}}])
@example(rows=[{"custom_id": 1, "response": {"status_code": 200, "body": {"choices": [1, {"message": []}]}}}])
@example(rows=[{"id": ["x"], "answer": {"text": {"a": "\ud800"}}}])
def test_odd_files_are_read_or_refused(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    file = write_json(tmp_path / "odd.json", rows)
    with suppress(UsageError):
        for annotation in read_annotations(file)[0]:
            annotation.answer.encode()
            assert annotation.id is None or annotation.id
