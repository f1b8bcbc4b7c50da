"""Rows that no answer places do not end a run: they are counted, named and left out, within --max-abstained."""

from collections.abc import Callable

import pytest

from selectllm import select
from selectllm.errors import TooManyAbstained
from selectllm.llm.model import Request
from selectllm.report.format import counts
from selectllm.settings import RunSettings
from tests.conftest import FakeModel, by_id

MakeRun = Callable[..., RunSettings]
MakeModel = Callable[..., FakeModel]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def silent_in_the_tournament(request: Request) -> str:
    return "no idea" if "round" in request.question else by_id(request)


def test_a_tournament_without_an_answer_does_not_end_the_run(make_run: MakeRun, fake_model: MakeModel) -> None:
    """Of the 11 questions of this run one may go without an answer: it is the only one of the tournament."""
    model = fake_model(silent_in_the_tournament)
    settings = make_run(rows=140, budget=5, ranking={"max_abstained": 0.1})
    result = select(settings)
    ranking = result.summary["ranking"]
    assert (ranking["abstained"], ranking["undecided"]) == (1, 10)
    assert ranking["abstained_questions"] == ["query 0 of round 1"]
    assert any("No usable answer places 10 rows of the tournament" in line for line in counts(result.summary))
    first = sorted(row["id"] for row in result.table("rankings").to_pylist() if row["rank"] == 1)
    assert result.table()["id"].to_pylist() == first[:5], "equal ranks are decided by id"
    assert set(result.table()["picked_by"].to_pylist()) == {"rank"}
    asked = len(model.asked)
    select(settings)
    assert len(model.asked) == asked


def test_more_abstentions_than_allowed_of_all_questions_still_fail_the_run(
    make_run: MakeRun, fake_model: MakeModel
) -> None:
    fake_model(silent_in_the_tournament)
    with pytest.raises(TooManyAbstained, match="query 0 of round 1"):
        select(make_run(rows=140, budget=5, ranking={"max_abstained": 0.09}))
