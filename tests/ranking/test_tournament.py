import asyncio
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.errors import ContentRefused
from selectllm.llm.model import Request
from selectllm.ranking import tournament
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker, RankingOptions
from selectllm.ranking.tournament import TournamentRank
from tests.conftest import FakeModel, by_id, make_caller


def run(rows: int, size: int, model: FakeModel, folder: Path, seed: int = 0) -> list[TournamentRank]:
    candidates = [Candidate(f"{number:04}", f"Task {number}") for number in range(rows)]

    async def ask() -> list[TournamentRank]:
        ranker = Ranker(make_caller(model, folder, concurrency=8), RankingOptions())
        return await tournament.run_tournament(candidates, size, ranker, seed)

    return asyncio.run(ask())


@given(rows=st.integers(1, 120), size=st.integers(2, 15), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_row_has_a_place_and_the_best_is_first(
    rows: int, size: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = FakeModel(by_id)
    ranks = run(rows, size, model, tmp_path_factory.mktemp("store"), seed)
    assert sorted(row.id for row in ranks) == [f"{number:04}" for number in range(rows)]
    assert [row.place for row in ranks] == list(range(1, rows + 1))
    assert ranks[0].id == "0000"
    assert [row.round for row in ranks] == sorted((row.round for row in ranks), reverse=True)
    assert len(model.asked) == sum(tournament.question_counts(rows, size))


def test_tournament_questions_are_labelled_with_their_round(tmp_path: Path) -> None:
    model = FakeModel(by_id)
    run(4, 2, model, tmp_path)
    names = [request.question for request in model.asked]
    assert sorted(names) == ["query 0 of round 1", "query 0 of round 2", "query 1 of round 1"]


def test_a_tournament_costs_about_one_query_per_place_minus_one() -> None:
    assert sum(tournament.question_counts(1000, 14)) == 72 + 6 + 1
    assert sum(tournament.question_counts(1000, 14)) == pytest.approx(1000 / 13, rel=0.05)
    assert tournament.question_counts(1, 14) == []
    assert tournament.question_counts(14, 14) == [1]


def test_ties_of_a_round_are_broken_by_rank_then_by_the_winners_place(tmp_path: Path) -> None:
    ranks = run(9, 3, FakeModel(by_id), tmp_path)
    final, out = ranks[:3], ranks[3:]
    assert [row.id for row in final] == sorted(row.id for row in final)
    assert [row.rank for row in out] == [2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("spoiled", ["0000", "0007", "0013"])
def test_a_query_without_an_answer_is_halved_and_what_spoils_it_comes_last(spoiled: str, tmp_path: Path) -> None:
    model = FakeModel(lambda request: "no idea" if spoiled in request.shown else by_id(request))
    ranks = run(14, 14, model, tmp_path)
    placed = [row.id for row in ranks if row.rank is not None]
    aside = [row.id for row in ranks if row.rank is None]
    assert spoiled in aside
    assert len(aside) <= 4
    assert placed == sorted(placed)
    assert [row.id for row in ranks] == placed + sorted(aside)


def test_merged_halves_without_an_answer_are_compared_in_smaller_parts(tmp_path: Path) -> None:
    model = FakeModel(lambda request: "no idea" if len(request.shown) > 4 else by_id(request))
    ranks = run(14, 14, model, tmp_path)
    assert [row.id for row in ranks] == sorted(row.id for row in ranks)
    assert [row.rank for row in ranks] == list(range(1, 15))


@pytest.mark.parametrize("refused", [["0000"], ["0003", "0011"], ["0006", "0007"]])
def test_refused_rows_come_last_also_where_merged_halves_repeat_themselves(refused: list[str], tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        if set(refused) & set(request.shown):
            raise ContentRefused("content_filter")
        numbers = json.loads(by_id(request))["ranking"]
        return json.dumps({"ranking": [*numbers[:-1], numbers[0]]} if len(numbers) > 2 else {"ranking": numbers})

    ranks = run(14, 14, FakeModel(answer), tmp_path)
    others = [f"{number:04}" for number in range(14) if f"{number:04}" not in refused]
    assert [row.id for row in ranks] == others + refused
    assert [row.rank for row in ranks] == [*range(1, len(others) + 1), *[None] * len(refused)]


def test_without_any_answer_rows_are_ordered_by_id(tmp_path: Path) -> None:
    ranks = run(9, 3, FakeModel(lambda _: ""), tmp_path)
    assert [row.id for row in ranks] == sorted(row.id for row in ranks)
    assert {row.rank for row in ranks} == {None}


def test_the_order_is_the_same_on_every_run_and_machine(tmp_path: Path) -> None:
    first = run(40, 6, FakeModel(by_id), tmp_path / "first")
    assert first == run(40, 6, FakeModel(by_id), tmp_path / "second")
    assert math.ceil(40 / 6) == 7
