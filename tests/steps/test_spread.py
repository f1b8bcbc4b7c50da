"""The choice where rows must not say the same: near-duplicates."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectllm import select
from selectllm.embedding.vector_cache import matrix
from selectllm.errors import TooFewRanked
from selectllm.explain.explain import explain
from selectllm.explain.render import render_explanation
from selectllm.report.format import format_selection
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.store import Artifact
from selectllm.store.pruning import prune
from tests.conftest import FakeModel, HashEmbedder

MakeRun = Callable[..., RunSettings]
MakeModel = Callable[..., FakeModel]

RATINGS = {"selector": "ollama:m", "ranking": {"gather": "ratings"}}
"""Settings of a run that gathers by ratings, asking a fake model."""


TIERS = {"ranking": {"depth": 14}}
"""Settings of a run that gathers by tiers, and ranks all rows of each query."""


class SubjectEmbedder(HashEmbedder):
    """Rows that end in the same word have nearly the same vector."""

    digest = "subject-embedder"

    def embed(self, texts: Any) -> np.ndarray:
        subjects = super().embed([text.split()[-1] for text in texts])
        vectors = subjects + 0.02 * super().embed(texts)
        unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float32)


@pytest.fixture(autouse=True)
def subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.embedding.models.open_embedder", lambda _name: SubjectEmbedder())


@pytest.fixture
def about_subjects(make_run: MakeRun, tmp_path: Path) -> MakeRun:
    """Settings of a run on 40 rows about 10 subjects; the longer rows come first in their subject."""

    def make(**fields: Any) -> RunSettings:
        lines = [json.dumps({"instruction": f"Explain {'it ' * n}about subject{n // 4}"}) for n in range(40)]
        (tmp_path / "subjects.jsonl").write_text("\n".join(lines))
        return make_run(**{"pool": str(tmp_path / "subjects.jsonl"), "budget": 6, **fields})

    return make


def subjects_of(result: Result) -> list[str]:
    return [text.split()[-1] for text in result.table()["instruction"].to_pylist()]


def test_by_default_nothing_changes(about_subjects: MakeRun) -> None:
    result = select(about_subjects())
    manifest = result.store.manifest(Artifact(kind="selection", key=result.summary["artifacts"]["selection"]))
    assert manifest is not None
    assert set(manifest.made_from) == {"pool", "preferences"}
    assert manifest.settings == {"budget": 6}
    assert manifest.facts == {"budget": 6, "selected": 6, "excluded": 0, "near_repeats": 5}
    assert "near_duplicates" not in result.summary["artifacts"]


@pytest.mark.parametrize("fields", [{"strategy": "longest"}, {"strategy": "random"}, TIERS, RATINGS])
def test_near_duplicates_of_a_chosen_row_are_passed_over_and_explained(
    fields: dict[str, Any], about_subjects: MakeRun, fake_model: MakeModel
) -> None:
    fake_model()
    plain = select(about_subjects(budget=15, **fields))
    result = select(about_subjects(budget=9, near_duplicate=0.95, **fields))
    assert len(set(subjects_of(result))) == 9
    passed = result.table("near_duplicates").to_pylist()
    assert result.summary["selection"]["passed_over"] == len(passed) > 0
    assert result.summary["selection"]["near_duplicate"] == 0.95
    assert f"{len(passed)} rows were passed over: they are nearly the same" in format_selection(result, None, 200)

    vectors = dict(zip(result.table("pool")["id"].to_pylist(), matrix(result.table("embeddings")), strict=True))
    numbers = dict(zip(result.table("pool")["id"].to_pylist(), result.table("pool")["row"].to_pylist(), strict=True))
    chosen = result.table()["id"].to_pylist()
    preferred = result.table("preferences")["id"].to_pylist()
    last = max(map(preferred.index, chosen))
    assert sorted([*chosen, *(row["id"] for row in passed)], key=preferred.index) == preferred[: last + 1]
    for row in passed:
        assert row["near"] in chosen
        assert preferred[row["place"] - 1] == row["id"]
        assert row["cosine"] == pytest.approx(float(vectors[row["id"]] @ vectors[row["near"]]), abs=1e-5)
        assert row["cosine"] >= 0.95
        explanation = explain(result.store, row["id"])
        assert (explanation.decision.chosen, explanation.decision.why) == (False, "passed_over")
        said = (
            f"passed over: it is nearly the same (cosine {row['cosine']:.2f}) as row {numbers[row['near']]}, which was"
        )
        assert said in render_explanation(explanation, 200)
    for id in result.table("pool")["id"].to_pylist():
        explanation = explain(result.store, id)
        assert explanation.decision.chosen == (id in chosen)
        assert "do not say why" not in render_explanation(explanation)
    if "strategy" in fields:
        assert plain.summary["artifacts"]["preferences"] == result.summary["artifacts"]["preferences"]


def test_a_limit_that_no_row_reaches_gives_the_plain_choice(about_subjects: MakeRun) -> None:
    result = select(about_subjects(strategy="longest", near_duplicate=1))
    assert result.table() == select(about_subjects(strategy="longest")).table()
    assert result.summary["selection"]["passed_over"] == len(result.table("near_duplicates")) == 0


def test_too_few_rows_are_an_error_and_no_question_is_asked_again(
    about_subjects: MakeRun, fake_model: MakeModel
) -> None:
    model = fake_model()
    with pytest.raises(TooFewRanked, match=r"10 rows are left, and the budget is 12: the other .* rows that may"):
        select(about_subjects(budget=12, near_duplicate=0.95, **RATINGS))
    asked = len(model.asked)
    assert asked
    result = select(about_subjects(budget=12, near_duplicate=0.9999, **RATINGS))
    assert len(result.table()) == 12
    assert len(model.asked) == asked


def test_a_second_run_loads_all_and_a_damaged_table_is_made_again(about_subjects: MakeRun) -> None:
    settings = about_subjects(strategy="longest", near_duplicate=0.95)
    first = select(settings)
    assert select(settings).summary["cached"] == ["embeddings", "pool", "preferences", "selection"]
    Path(first.path("near_duplicates")).write_bytes(b"damaged")
    again = select(settings)
    assert again.table("near_duplicates") == first.table("near_duplicates")
    assert again.table() == first.table()


def test_a_slot_keeps_its_rows_and_pruning_keeps_what_was_passed_over(about_subjects: MakeRun) -> None:
    settings = about_subjects(strategy="longest", near_duplicate=0.95, history="h", slot="one")
    first = select(settings)
    prune(first.store, 0)
    second = select(settings)
    assert second.table() == first.table()
    assert second.summary["artifacts"] == first.summary["artifacts"]
    assert second.table("near_duplicates") == first.table("near_duplicates")
    other = select(about_subjects(strategy="longest", near_duplicate=0.95, history="h", slot="two"))
    assert not set(other.table()["id"].to_pylist()) & set(first.table()["id"].to_pylist())


@pytest.mark.parametrize("fields", [{"strategy": "longest"}, {"strategy": "random"}, TIERS, RATINGS])
def test_diversity_chooses_rows_about_more_subjects_in_the_order_of_preference(
    fields: dict[str, Any], about_subjects: MakeRun, fake_model: MakeModel
) -> None:
    fake_model()
    result = select(about_subjects(budget=10, diversity=1, **fields))
    assert len(set(subjects_of(result))) == 10
    preferred = result.table("preferences")["id"].to_pylist()
    chosen = result.table()["id"].to_pylist()
    assert chosen == sorted(chosen, key=preferred.index)
    assert result.table()["order"].to_pylist() == list(range(1, 11))
    assert result.summary["selection"]["diversity"] == 1
    assert "by rating and diversity together (diversity 1)" in format_selection(result, None, 200)
    for id in result.table("pool")["id"].to_pylist():
        explanation = explain(result.store, id)
        assert explanation.decision.chosen == (id in chosen)
        if id in preferred:
            assert f"at place {preferred.index(id) + 1}, and 10 rows" in render_explanation(explanation, 200)
            assert "rating and diversity together" in render_explanation(explanation, 200)


def test_no_diversity_is_the_plain_choice_and_has_its_key(about_subjects: MakeRun) -> None:
    plain, zero = select(about_subjects(strategy="longest")), select(about_subjects(strategy="longest", diversity=0))
    assert zero.summary["artifacts"] == plain.summary["artifacts"]
    assert set(plain.summary["seconds"]) == {"pool", "preferences", "selection"}
    other = select(about_subjects(strategy="longest", diversity=0.5))
    assert other.summary["artifacts"]["selection"] != plain.summary["artifacts"]["selection"]
    assert other.summary["artifacts"]["preferences"] == plain.summary["artifacts"]["preferences"]


def test_diversity_passes_over_near_duplicates_and_never_excluded_rows(about_subjects: MakeRun, tmp_path: Path) -> None:
    first = select(about_subjects(strategy="longest", budget=3, diversity=0.5))
    (tmp_path / "ids.txt").write_text("\n".join(first.table()["id"].to_pylist()))
    fields = {"strategy": "longest", "diversity": 0.01, "exclude": (str(tmp_path / "ids.txt"),)}
    result = select(about_subjects(budget=9, near_duplicate=0.95, **fields))
    assert len(set(subjects_of(result))) == 9
    assert not set(result.table()["id"].to_pylist()) & set(first.table()["id"].to_pylist())
    assert len(result.table("near_duplicates")) == result.summary["selection"]["passed_over"] > 0
    assert select(about_subjects(budget=9, near_duplicate=0.95, **fields)).summary["cached"]
