"""`--think auto` is decided by one question to the model, over HTTP."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from selectllm import select
from selectllm.cli.main import main
from selectllm.errors import ModelChanged, ModelError, ModelUnavailable, TooManyAbstained
from selectllm.llm.model import Reply
from selectllm.ranking.diagnosis import _tried
from selectllm.report.format import counts
from selectllm.settings import RunSettings
from selectllm.steps.thinking import _ask
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import FakeModel, make_caller
from tests.llm.openai_server import CHOICE, GOOD, RankingServer, serve

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")

OBEYS = {"low": 200, True: 2000}
IGNORES_OFF = {False: 3000, "low": 200, True: 2000}  # as gpt-oss
LACKS_LOW = {False: 3000, True: 2000}  # it refuses `low`
IGNORES_OFF_BRIEFLY = {False: 5, "low": 5, True: 5}


def against(server: FaultyOllama, make_run: MakeRun, **ranking: Any) -> RunSettings:
    return make_run(rows=60, budget=5, selector="ollama:m", ranking={"hosts": [server.host], **ranking})


def trials(server: FaultyOllama) -> list[object]:
    """How the trial question was asked: it alone shows this candidate."""
    return [body["think"] for body in server.asked if "blood gas result, step by step" in shown(body)]


def shown(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"]).rpartition("Candidates:\n")[2]


@pytest.mark.parametrize(
    ("thoughts", "tried", "decided"),
    [
        ({}, [], False),
        (OBEYS, [False], False),
        (IGNORES_OFF, [False, "low"], "low"),
        (LACKS_LOW, [False, "low", True], True),
        (IGNORES_OFF_BRIEFLY, [False, "low"], "low"),
    ],
)
def test_thinking_is_decided_by_one_question(
    thoughts: dict[bool | str, int], tried: list[object], decided: object, make_run: MakeRun
) -> None:
    with FaultyOllama(thoughts=thoughts) as server:
        if decided is False and thoughts:
            server.thoughts = {**thoughts, False: 0}
        result = select(against(server, make_run))
        assert trials(server) == tried
        assert {body["think"] for body in server.asked if "blood gas" not in shown(body)} == {decided}
        assert result.summary["model"]["think"] == decided
        assert result.summary["ranking"]["errors_by_kind"] == {}
        assert result.summary["ranking"]["asked"] == len(server.asked) - ("low" in tried and "low" not in thoughts)
        name = {False: "off", "low": "low", True: "on"}[decided]  # type: ignore[index]
        assert any(f"(thinking: {name})" in line for line in counts(result.summary)) == bool(thoughts)
        asked, loads = len(server.asked), len(server.loads)
        again = select(against(server, make_run))
        assert (len(server.asked), len(server.loads)) == (asked, loads), "the decision stands with its replies"
        assert again.table().equals(result.table())
        explicit = select(against(server, make_run, think=name))
        assert len(server.asked) == asked, "what was decided is the key, not how it was decided"
        assert explicit.table().equals(result.table())


def test_a_setting_is_followed_without_a_question(make_run: MakeRun) -> None:
    with FaultyOllama(thoughts=IGNORES_OFF) as server:
        with pytest.raises(TooManyAbstained, match="cut off"):
            select(against(server, make_run, think="off"))
        assert trials(server) == []


@pytest.mark.parametrize(("mended", "think"), [(IGNORES_OFF, "low"), (LACKS_LOW, True)])
def test_a_model_that_could_be_asked_in_no_way_is_tried_again_once_it_is_mended(
    mended: dict[bool | str, int], think: object, make_run: MakeRun
) -> None:
    with FaultyOllama(thoughts=dict.fromkeys(mended, 100_000)) as server:
        with pytest.raises(TooManyAbstained):
            select(against(server, make_run))
        server.thoughts = mended
        assert select(against(server, make_run)).summary["model"]["think"] == think


class Reasoning(RankingServer):
    """Thinks for 600 tokens whatever it is asked, like gpt-5, and for 60 with little effort."""

    async def reply(self, request: HttpRequest) -> Response:
        body = json.loads(await request.body())
        thought = 60 if body.get("reasoning_effort") == "low" else 600
        if body["max_completion_tokens"] > thought:
            return await super().reply(request)
        self.seen.append(body)
        cut = CHOICE | {"message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
        return JSONResponse(GOOD | {"choices": [cut], "usage": {"prompt_tokens": 900, "completion_tokens": 9}})


def test_a_reasoning_model_over_openais_api_is_asked_with_little_effort(make_run: MakeRun) -> None:
    server = Reasoning()
    with serve(server.app) as url:
        prices = {"price_in": 1e6, "price_out": 1e6}
        summary = select(make_run(rows=60, selector="openai:m", ranking={"hosts": [url], **prices})).summary
    assert summary["model"]["think"] == "low"
    assert (summary["ranking"]["abstained"], summary["ranking"]["errors_by_kind"]) == (0, {})
    assert summary["ranking"]["asked"] == len(server.seen)
    assert summary["cost"]["this_run"] > summary["cost"]["selection"], "the trial was paid for, too"
    assert [body.get("reasoning_effort") for body in server.seen][:2] == [None, "low"]


@pytest.mark.parametrize(
    ("arguments", "ok", "seen"),
    [
        ([], True, "low, tried in this order: off, low"),
        (["--think", "low"], True, "low; an answer took"),
        (["--think", "off"], False, "no usable answer with thinking off"),
    ],
)
def test_doctor_tries_how_the_model_thinks(
    arguments: list[str], ok: bool, seen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaultyOllama(thoughts=IGNORES_OFF) as server:
        code = main(["doctor", "--selector", "ollama:m", "--host", server.host, "--json", *arguments])
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert (code == 0, findings["thinking"]["ok"], findings["query"]["ok"]) == (ok, ok, ok)
    assert seen in findings["thinking"]["seen"]
    assert ok or findings["thinking"]["advice"] == "use --think auto"


@pytest.mark.parametrize(
    ("error", "is_of_the_way"),
    [
        (ModelError("thinking is not supported"), True),
        (ModelUnavailable("no host takes questions"), False),
        (ModelChanged("another model by now"), False),
    ],
)
def test_only_a_refusal_of_the_way_to_think_speaks_against_it(
    error: ModelError, is_of_the_way: bool, tmp_path: Path
) -> None:
    def fail(_: object) -> Reply:
        raise error

    async def try_both() -> list[Reply | BaseException]:
        caller = make_caller(FakeModel(fail), tmp_path)
        tried = _tried(make_caller(FakeModel(fail), tmp_path)._hosts, "low", is_first=False)
        return await asyncio.gather(tried, _ask(caller, "low", 1), return_exceptions=True)

    expected = Reply("", "refused") if is_of_the_way else error
    assert asyncio.run(try_both()) == [expected, expected]
