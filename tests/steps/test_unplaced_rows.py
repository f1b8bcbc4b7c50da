"""Rows that no answer places do not end a run: they are counted, named and left out, within --max-abstained."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from selectllm import select
from selectllm.errors import ContentRefused, TooManyAbstained
from selectllm.explain.explain import explain
from selectllm.explain.render import reason_text
from selectllm.llm.model import Reply, Request
from selectllm.report.format import counts
from selectllm.settings import RunSettings
from tests.conftest import FakeModel, by_id
from tests.llm.openai_server import RankingServer, error, serve

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


@pytest.mark.parametrize("mode", ["listwise", "pointwise"])
def test_one_refused_row_does_not_end_a_run(mode: str, make_run: MakeRun, fake_model: MakeModel) -> None:
    refused: list[str] = []

    def answer(request: Request) -> Reply | str:
        refused.extend(request.shown[:1] if not refused else ())
        if set(refused) & set(request.shown):
            raise ContentRefused("content_filter")
        return by_id(request) if request.schema else Reply("", "length", logprobs={"yes": -1.0, "no": -2.0})

    model = fake_model(answer)
    model.info = replace(model.info, mode=mode)  # type: ignore[arg-type]
    settings = make_run(rows=200, budget=60)
    result = select(settings)
    ranking = result.summary["ranking"]
    assert ranking["refused_rows"] == refused
    assert "refused what it says" in reason_text(explain(result.store, refused[0]))
    assert (len(result.table()), refused[0] in result.table()["id"].to_pylist()) == (60, False)
    assert ranking["abstained"] == (1 if mode == "pointwise" else 0)
    assert any(
        f"refused the content of 1 rows, which are not ranked: {refused[0]}" in line for line in counts(result.summary)
    )
    asked = len(model.asked)
    assert select(settings).table().equals(result.table())
    assert len(model.asked) == asked


def test_a_refused_row_is_not_asked_about_on_the_next_page(make_run: MakeRun, fake_model: MakeModel) -> None:
    refused = []

    def answer(request: Request) -> str:
        refused.extend(request.shown[:1] if not refused else ())
        if refused[0] in request.shown:
            raise ContentRefused("content_filter")
        return by_id(request)

    model = fake_model(answer)
    select(make_run(rows=60, budget=50))
    pages = [request for request in model.asked if "from rank" in request.question]
    assert pages
    assert not any(refused[0] in request.shown for request in pages)


def test_too_many_refused_rows_fail_the_run(make_run: MakeRun, fake_model: MakeModel) -> None:
    def answer(request: Request) -> str:
        raise ContentRefused("content_filter")

    fake_model(answer)
    with pytest.raises(TooManyAbstained, match="refused the content of the rows"):
        select(make_run(rows=60, budget=5))


class Filtering(RankingServer):
    """Refuses prompts with one row, as Azure does, and fails to generate one answer, as Groq does."""

    async def reply(self, request: HttpRequest) -> Response:
        body = json.loads(await request.body())
        if "Task 77: " in body["messages"][0]["content"]:
            self.seen.append(body)
            refusal = error("The response was filtered due to the prompt.", code="content_filter", param="prompt")
            return JSONResponse(refusal, 400)
        if len(self.seen) == 3:
            self.seen.append(body)
            failed = error("Failed to generate JSON.", code="json_validate_failed")
            return JSONResponse({"error": failed["error"] | {"failed_generation": "The best"}}, 400)
        return await super().reply(request)


def test_refusals_over_openais_api_set_one_row_aside(make_run: MakeRun) -> None:
    server = Filtering()
    with serve(server.app) as url:
        ranking = {"hosts": [url], "think": "off", "gather": "tiers"}
        settings = make_run(rows=200, budget=30, selector="openai:m", ranking=ranking)
        result = select(settings)
    ranking = result.summary["ranking"]
    (refused,) = ranking["refused_rows"]
    row = next(row for row in result.table("pool").to_pylist() if row["id"] == refused)
    assert row["instruction"].startswith("Task 77: ")
    assert (ranking["abstained"], ranking["ranked"]) == (0, 15)
    assert ranking["errors_by_kind"] == {"refused": ranking["errors_by_kind"]["refused"], "unreadable": 1}
    assert len(server.seen) < 40
    assert all("response_format" in body for body in server.seen)
