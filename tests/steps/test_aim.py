"""Aims: a shortlist near to examples, and rows that are too near to tests."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from pydantic import ValidationError

from selectllm import plan_run, select
from selectllm.embedding.vector_cache import matrix
from selectllm.errors import PoolError, UsageError
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.report.format import format_selection
from selectllm.report.format_plan import format_plan
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Artifact
from selectllm.store.pruning import prune
from selectllm.strategies import OWN
from tests.conftest import FakeModel, HashEmbedder, by_rating

MakeRun = Callable[..., RunSettings]
MakeModel = Callable[..., FakeModel]
Write = Callable[..., str]

RATINGS = {"selector": "ollama:m", "ranking": {"gather": "ratings"}}
LONGEST = {"strategy": "longest"}


class SubjectEmbedder(HashEmbedder):
    """Rows that end in the same word have nearly the same vector."""

    digest = "aim-embedder"

    def embed(self, texts: Any) -> np.ndarray:
        subjects = super().embed([text.split()[-1] for text in texts])
        vectors = subjects + 0.05 * super().embed(texts)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float32)


ANSWERED = [name for name in OWN if not name.startswith("perplexity") and name != "deita"]
"""The strategies that a fake model serves. Those by perplexity read weights; DEITA names no rows that are as alike."""


@pytest.fixture(autouse=True)
def subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    HashEmbedder.texts = 0
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _name: SubjectEmbedder())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes instructions, or other lines, to a file."""

    def write(name: str, *lines: object) -> str:
        rows = [{"instruction": line} if isinstance(line, str) else line for line in lines]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture
def about_subjects(make_run: MakeRun, write: Write) -> MakeRun:
    """Settings of a run on 80 rows about 10 subjects, of kinds a and b; the later ones are longer. One has no text."""

    def make(**fields: Any) -> RunSettings:
        rows = [
            {"instruction": f"Explain {'it ' * n}about subject{n // 8}", "kind": "ab"[n % 2], "tag": [n]}
            for n in range(80)
        ]
        return make_run(**{"pool": write("subjects.jsonl", *rows, {"instruction": ""}, rows[0]), "budget": 4, **fields})

    return make


def subjects_of(result: Result, kind: str = "selection") -> set[str]:
    return {text.split()[-1] for text in result.table(kind)["instruction"].to_pylist()}


@pytest.mark.parametrize("name", ANSWERED)
def test_every_strategy_chooses_from_the_shortlist(
    name: str, about_subjects: MakeRun, write: Write, fake_model: MakeModel
) -> None:
    model = fake_model(by_rating)
    target = write("target.jsonl", "One on subject2", "One on subject5")
    settings = about_subjects(**RATINGS, strategy=name, aim={"target": target, "target_rows": 12})
    result = select(settings)
    assert subjects_of(result) <= {"subject2", "subject5"}
    assert len(result.table()) == 4
    assert result.table()["tag"].null_count == 0
    summary = result.summary
    assert summary["pool"] == {"rows_read": 82, "quarantined": 1, "duplicates": 1, "kept": 80}
    assert summary["target"] == {"examples": 2, "unusable": 0, "nearest": 3, "shortlisted": 12}
    assert len(result.table("pool")) == 12
    assert len(result.table("quarantine")) == 2
    assert subjects_of(result, "pool") == {"subject2", "subject5"}
    assert "Chosen from a shortlist of 12 rows, near to 2 examples." in format_selection(result, None, 100)
    shown = {id for request in model.asked for id in request.shown}
    assert shown <= set(result.table("pool")["id"].to_pylist())

    targets = result.table("targets").to_pylist()
    assert [row["place"] for row in targets] == [*range(1, 13), *[None] * 68]
    assert [row["example"] for row in targets[:12]] == [1, 2] * 6
    numbers = {row["id"]: row for row in targets}
    for row in range(1, 81):
        explanation = explain(result.store, f"row:{row}")
        assert explanation.target is not None
        assert explanation.target.place == numbers[explanation.id or ""]["place"]
        text = render_explanation(explanation, 200)
        assert "do not say why" not in text
        if explanation.target.place is None:
            assert explanation.decision.why == "off_target"
            assert "Not chosen: it is not on the shortlist of the rows that are nearest to the examples." in text
            assert f"Nearest to row {explanation.target.example} of the examples (cosine " in text
        else:
            assert f"At place {explanation.target.place} of the shortlist, taken by row " in text
    assert explain(result.store, "row:81").decision.why == "quarantined"
    assert explain(result.store, "row:82").repeat == 82

    embedded, asked = HashEmbedder.texts, len(model.asked)
    again = select(settings)
    assert set(again.summary["cached"]) == set(again.summary["seconds"])
    assert (HashEmbedder.texts, len(model.asked)) == (embedded, asked)
    assert again.table() == result.table()


def test_the_examples_take_their_nearest_rows_in_turn(about_subjects: MakeRun, write: Write) -> None:
    target = write("target.jsonl", "One on subject2", "One on subject5", "Two on subject5")
    result = select(about_subjects(**LONGEST, aim={"target": target}))
    pool = result.store.manifest(Artifact(kind="pool", key=result.summary["artifacts"]["pool"]))
    assert pool is not None
    whole = result.store.read(Artifact(kind="pool", key=pool.made_from["pool"]))
    vectors = SubjectEmbedder().embed(whole["instruction"].to_pylist())
    examples = SubjectEmbedder().embed(["One on subject2", "One on subject5", "Two on subject5"])
    cosines = (examples @ vectors.T).astype(np.float64).round(6)
    left = cosines.copy()
    for row in result.table("targets").to_pylist()[:40]:
        turn = row["place"] - 1
        taken = int(left[turn % 3].argmax())
        left[:, taken] = -2
        number = whole["id"].to_pylist().index(row["id"])
        assert (number, row["example"]) == (taken, turn % 3 + 1)
        assert row["cosine"] == pytest.approx(cosines[turn % 3, number], abs=1e-5)
        assert row["score"] == pytest.approx(cosines[:, number].mean(), abs=1e-5)


def test_a_shortlist_has_ten_rows_for_each_of_the_budget_and_no_more_than_there_are(
    about_subjects: MakeRun, write: Write
) -> None:
    target = write("target.jsonl", "One on subject2")
    assert select(about_subjects(**LONGEST, aim={"target": target})).summary["target"]["shortlisted"] == 40
    whole = select(about_subjects(**LONGEST, budget=9, aim={"target": target}))
    assert whole.summary["target"]["shortlisted"] == 80
    assert whole.table() == select(about_subjects(**LONGEST, budget=9)).table()


def test_excluded_rows_do_not_count_toward_the_shortlist(about_subjects: MakeRun, write: Write, tmp_path: Path) -> None:
    aim = {"target": write("target.jsonl", "One on subject2"), "target_rows": 8}
    first = select(about_subjects(**LONGEST, budget=8, aim=aim))
    assert subjects_of(first) == {"subject2"}
    (tmp_path / "ids.txt").write_text("\n".join(first.table()["id"].to_pylist()))
    second = select(about_subjects(**LONGEST, budget=8, aim=aim, exclude=(str(tmp_path / "ids.txt"),)))
    assert "subject2" not in subjects_of(second)
    assert second.summary["selection"]["excluded"] == 8
    assert len(second.table("targets")) == 72
    explanation = explain(second.store, first.table()["id"][0].as_py())
    assert (explanation.decision.why, explanation.target) == ("excluded", None)


def test_slots_of_a_history_take_the_next_rows_and_a_filled_one_stands(about_subjects: MakeRun, write: Write) -> None:
    aim = {"target": write("target.jsonl", "One on subject2"), "target_rows": 4}
    chosen: list[str] = []
    for slot in ("one", "two"):
        settings = about_subjects(**LONGEST, aim=aim, history="h", slot=slot)
        result = select(settings)
        assert subjects_of(result) == {"subject2"}
        chosen += result.table()["id"].to_pylist()
        prune(result.store, 0)
        again = select(settings)
        assert again.table() == result.table()
        assert again.summary["target"] == result.summary["target"]
        assert again.summary["pool"] == result.summary["pool"]
        assert explain(again.store, "row:1").decision.why == "off_target"
    assert len(set(chosen)) == 8


def test_rows_too_near_to_tests_are_not_chosen_and_the_pair_is_named(about_subjects: MakeRun, write: Write) -> None:
    rows = [f"Explain {'it ' * n}about subject{n // 8}" for n in range(80)]
    tests = write("tests.jsonl", rows[79], {"instruction": 7}, "A test of subject8")
    more = write("more.jsonl", "Another test of subject8", rows[0])
    plain = select(about_subjects(**LONGEST))
    result = select(about_subjects(**LONGEST, aim={"away_from": (tests, more)}))
    assert subjects_of(plain) == {"subject9"}
    assert subjects_of(result) == {"subject7"}
    reasons = {row["id"]: row["reason"] for row in result.table("excluded").to_pylist()}
    whole = plain.table("pool")
    vectors, ids = SubjectEmbedder().embed(whole["instruction"].to_pylist()), whole["id"].to_pylist()
    of_tests = SubjectEmbedder().embed([rows[79], "A test of subject8", "Another test of subject8", rows[0]])
    cosines = (vectors @ of_tests.T).astype(np.float64)
    assert set(reasons) == {id for id, line in zip(ids, cosines, strict=True) if line.max() >= 0.9}
    assert reasons[ids[79]] == f"too near to {tests}, row 1 (cosine 1.00)"
    assert reasons[ids[66]] == f"too near to {tests}, row 3 (cosine {cosines[66, 1]:.2f})"
    assert reasons[ids[0]] == f"too near to {more}, row 2 (cosine 1.00)"
    facts = {"test_rows": 4, "unusable": 1, "above": 0.9, "too_near": len(reasons)}
    assert result.summary["away_from"] == facts
    assert result.summary["selection"]["excluded"] == len(reasons)
    assert f"{len(reasons)} rows were too near to 4 rows of test sets (cosine of at least 0.9)" in format_selection(
        result, None, 100
    )
    explanation = explain(result.store, ids[66])
    assert f"it was excluded, {reasons[ids[66]]}" in render_explanation(explanation, 300)

    exact = select(about_subjects(**LONGEST, aim={"away_from": (tests, more), "away_above": 1.0}))
    assert {row["id"] for row in exact.table("excluded").to_pylist()} == {ids[79], ids[0]}


def test_all_aims_together(about_subjects: MakeRun, write: Write, fake_model: MakeModel, tmp_path: Path) -> None:
    model = fake_model()
    (tmp_path / "ids.txt").write_text(select(about_subjects(**LONGEST, budget=1)).table()["id"][0].as_py())
    target = write("target.jsonl", "One on subject2", "One on subject9", "One on subject4", "One on subject3")
    aim = {"target": target, "target_rows": 24, "quota": ("kind:a=3",), "away_from": (write("t.jsonl", "By subject4"),)}
    fields = {"aim": aim, "exclude": (str(tmp_path / "ids.txt"),), "near_duplicate": 0.9999, "diversity": 0.5}
    result = select(about_subjects(**RATINGS, **fields, history="h", slot="s"))
    assert sorted(result.table()["kind"].to_pylist()) == ["a", "a", "a", "b"]
    assert "subject4" not in subjects_of(result, "pool")
    shown = {id for request in model.asked for id in request.shown}
    excluded = {row["id"] for row in result.table("excluded").to_pylist()}
    assert len(excluded) == 9
    assert shown.isdisjoint(excluded), "the model is not asked about rows that are not on the shortlist"
    assert sum(row["rows"] for row in result.summary["strata"]["values"]) == 24
    for row in range(1, 81):
        explanation = explain(result.store, f"row:{row}")
        chosen = explanation.id in result.table()["id"].to_pylist()
        assert explanation.decision.chosen == chosen
        assert "do not say why" not in render_explanation(explanation)
    vectors = matrix(result.table("embeddings"))
    assert len(vectors) == 24


def test_quotas_count_the_rows_of_the_shortlist(about_subjects: MakeRun, write: Write) -> None:
    aim = {"target": write("target.jsonl", "One on subject2"), "target_rows": 8}
    with pytest.raises(
        UsageError, match=r"want 9 rows with kind = \"a\", and only 4 .*: lower that quota, or raise --ta"
    ):
        select(about_subjects(**LONGEST, budget=9, aim=aim | {"target_rows": 9, "quota": ("kind:a=9",)}))
    result = select(about_subjects(**LONGEST, aim=aim | {"stratify": "kind"}))
    assert sorted(result.table()["kind"].to_pylist()) == ["a", "a", "b", "b"]


def test_the_content_of_files_counts_and_not_their_names(about_subjects: MakeRun, write: Write, tmp_path: Path) -> None:
    target, tests = write("target.jsonl", "One on subject2"), write("tests.jsonl", "A test of subject3")
    first = select(about_subjects(**LONGEST, aim={"target": target, "away_from": (tests,)}))
    for name in ("target", "tests"):
        shutil.copy(tmp_path / f"{name}.jsonl", tmp_path / f"other-{name}.jsonl")
    other = {"target": str(tmp_path / "other-target.jsonl"), "away_from": (str(tmp_path / "other-tests.jsonl"),)}
    second = select(about_subjects(**LONGEST, aim=other))
    assert second.table() == first.table()
    assert second.summary["artifacts"]["too_near"] == first.summary["artifacts"]["too_near"]
    assert "other-tests.jsonl, row 1" in second.table("excluded")["reason"][0].as_py()
    write("other-target.jsonl", "One on subject4")
    assert subjects_of(select(about_subjects(**LONGEST, aim=other | {"target_rows": 4}))) == {"subject4"}


def test_damaged_tables_are_made_again(about_subjects: MakeRun, write: Write) -> None:
    aim = {"target": write("target.jsonl", "One on subject2"), "away_from": (write("tests.jsonl", "On subject3"),)}
    settings = about_subjects(**LONGEST, aim=aim | {"stratify": "kind"})
    first = select(settings)
    for kind in ("pool", "targets", "too_near", "strata", "excluded", "selection"):
        Path(first.path(kind)).write_bytes(b"damaged")
    again = select(settings)
    assert again.table() == first.table()
    for kind in ("pool", "targets", "too_near", "strata", "excluded"):
        assert again.table(kind) == first.table(kind)


def test_rows_that_cannot_be_used_are_counted_and_an_empty_file_is_an_error(
    about_subjects: MakeRun, write: Write, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write("target.jsonl", "One on subject2", {"instruction": ""}, "One on subject2", {"x": 1})
    with caplog.at_level(logging.WARNING, logger="selectllm"):
        result = select(about_subjects(**LONGEST, aim={"target": target}))
    assert f"2 rows of {target} cannot be used: row 2: the instruction is empty; row 4: no instruction" in caplog.text
    assert (result.summary["target"]["examples"], result.summary["target"]["unusable"]) == (1, 2)
    monkeypatch.setattr("selectllm.llm._connect", lambda *_: pytest.fail("asks"))
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _: pytest.fail("embeds"))
    for content, message in (((), "has no rows|is empty"), (({"instruction": ""},), "has no usable row: row 1")):
        for option in ("target", "away_from"):
            file = write("bad.jsonl", *content)
            aim = {option: (file,) if option == "away_from" else file}
            for function in (select, plan_run):
                with pytest.raises(PoolError, match=message):
                    function(about_subjects(**RATINGS, aim=aim))
    with pytest.raises(PoolError, match=r"missing\.jsonl does not exist"):
        select(about_subjects(**RATINGS, aim={"target": "missing.jsonl"}))


def test_too_few_rows_far_from_the_tests_are_an_error(about_subjects: MakeRun, write: Write) -> None:
    tests = write("tests.jsonl", *(f"About subject{n}" for n in range(10)))
    with pytest.raises(UsageError, match="the budget is 4, but 80 of the pool's 80 usable rows are excluded"):
        select(about_subjects(**LONGEST, aim={"away_from": (tests,), "away_above": 0.5}))


def test_more_examples_than_rows_of_the_shortlist_are_named(
    about_subjects: MakeRun, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    target = write("target.jsonl", *(f"About subject{n}" for n in range(10)))
    with caplog.at_level(logging.WARNING, logger="selectllm"):
        result = select(about_subjects(**LONGEST, aim={"target": target, "target_rows": 4}))
    assert "the shortlist has 4 rows, and" in caplog.text
    assert len(subjects_of(result)) == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"aim": {"target_rows": 5}}, "--target-rows needs --target"),
        ({"aim": {"target": "t", "target_rows": 5}, "budget": 6}, "--target-rows cannot be 5: the budget is 6"),
        ({"aim": {"away_above": 0}}, "greater than 0"),
        ({"aim": {"away_from": ("",)}}, "at least 1 character"),
    ],
)
def test_settings_that_do_not_agree_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RunSettings.model_validate({"pool": "p", "budget": 5} | fields)


def test_a_plan_counts_what_is_known_without_vectors(
    about_subjects: MakeRun, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _: pytest.fail("embeds"))
    tests = write("tests.jsonl", "Explain about subject0", "Other")
    aim = {"target": write("target.jsonl", "One on subject2"), "away_from": (tests,), "stratify": "kind"}
    plan = plan_run(about_subjects(**RATINGS, aim=aim))
    assert plan["target"] == {"examples": 1, "shortlisted": 40}
    assert plan["away_from"] == {"test_rows": 2, "in_tests": 1}
    assert plan["strata"] is None
    assert plan["queries"]["count"] == 3
    assert plan["selection"]["excluded"] == 1
    text = format_plan(plan)
    assert "Target     a shortlist of at most 40 rows, near to 1 examples: only embeddings tell which" in text
    assert "Tests      1 rows stand in 2 rows of test sets" in text
    quotas = plan_run(about_subjects(**RATINGS, aim={"stratify": "kind"}))
    assert quotas["strata"]["values"][0] == {"value": '"a"', "rows": 40, "wanted": 2}
    assert 'Quotas     By kind: 2 of 40 with "a", 2 of 40 with "b".' in format_plan(quotas)


def test_no_output_is_written_over_the_files_of_an_aim(about_subjects: MakeRun, write: Write, tmp_path: Path) -> None:
    target = write("selection.jsonl", "One on subject2")
    for aim, option in (({"target": target}, "--target"), ({"away_from": (target,)}, "--away-from")):
        with pytest.raises(UsageError, match=f"{option} .* would be written over by --out"):
            select(about_subjects(**LONGEST, aim=aim, out=str(tmp_path)))


def test_a_url_of_an_aim_is_kept_without_its_query(about_subjects: MakeRun, write: Write) -> None:
    with fsspec.open("memory://aim/target.jsonl?key=planted", "w") as file:
        file.write(Path(write("target.jsonl", "On subject2")).read_text(encoding="utf-8"))
    url = "memory://aim/target.jsonl?key=planted"
    result = select(about_subjects(**LONGEST, aim={"target": url, "away_from": (url,)}))
    record = json.loads(Path(result.store.root, "v1", "latest", "selection.json").read_bytes())["settings"]["aim"]
    assert (record["target"], record["away_from"]) == ("memory://aim/target.jsonl", ["memory://aim/target.jsonl"])
    assert "planted" not in str(result.table("excluded").to_pylist())
