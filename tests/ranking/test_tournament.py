import asyncio
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectllm.llm import HostPool, Request
from selectllm.llm.ledger import Ledger
from selectllm.ranking import tournament
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker, RankingOptions
from selectllm.ranking.tournament import TournamentRank
from selectllm.store import Store
from tests.conftest import ToldModel, by_id


def play(rows: int, size: int, model: ToldModel, folder: Path, seed: int = 0) -> list[TournamentRank]:
    candidates = [Candidate(f"{number:04}", f"Task {number}") for number in range(rows)]

    async def run() -> list[TournamentRank]:
        asker = Ranker(HostPool([model], concurrency=8), Ledger(Store(str(folder)), model.card), RankingOptions())
        return await tournament.play(candidates, size, asker, seed)

    return asyncio.run(run())


@given(rows=st.integers(1, 120), size=st.integers(2, 15), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_everyone_has_a_place_and_the_best_is_first(
    rows: int, size: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = ToldModel(by_id)
    standings = play(rows, size, model, tmp_path_factory.mktemp("store"), seed)
    assert sorted(one.id for one in standings) == [f"{number:04}" for number in range(rows)]
    assert [one.place for one in standings] == list(range(1, rows + 1))
    assert standings[0].id == "0000"
    assert [one.round for one in standings] == sorted((one.round for one in standings), reverse=True)
    assert len(model.asked) == sum(tournament.questions(rows, size))


def test_the_cost_is_about_one_query_for_each_seat_but_one() -> None:
    assert sum(tournament.questions(1000, 14)) == 72 + 6 + 1
    assert sum(tournament.questions(1000, 14)) == pytest.approx(1000 / 13, rel=0.05)
    assert tournament.questions(1, 14) == []
    assert tournament.questions(14, 14) == [1]


def test_ties_of_a_round_are_broken_by_rank_then_by_the_winners_place(tmp_path: Path) -> None:
    standings = play(9, 3, ToldModel(by_id), tmp_path)
    final, out = standings[:3], standings[3:]
    assert [one.id for one in final] == sorted(one.id for one in final)
    assert [one.rank for one in out] == [2, 2, 2, 3, 3, 3]


def test_a_query_that_abstains_sends_nobody_on_and_comes_last_in_its_round(tmp_path: Path) -> None:
    def silent_about_the_best(request: Request) -> str:
        return "no idea" if any(one.id == "0000" for one in request.prompt.candidates) else by_id(request)

    standings = play(9, 3, ToldModel(silent_about_the_best), tmp_path)
    assert len(standings) == 9
    assert {one.rank for one in standings[-3:]} == {None}
    assert "0000" in {one.id for one in standings[-3:]}
    assert standings[0].round == 2


def test_with_no_answer_at_all_the_order_is_that_of_ids(tmp_path: Path) -> None:
    standings = play(9, 3, ToldModel(lambda _: ""), tmp_path)
    assert [one.id for one in standings] == sorted(one.id for one in standings)
    assert {one.rank for one in standings} == {None}


def test_the_order_is_the_same_on_every_run_and_machine(tmp_path: Path) -> None:
    first = play(40, 6, ToldModel(by_id), tmp_path / "one")
    assert first == play(40, 6, ToldModel(by_id), tmp_path / "two")
    assert math.ceil(40 / 6) == 7
