import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.errors import ContextLengthExceeded, ModelError, TransientError
from selectllm.llm import HostPool, Reply, Request
from selectllm.llm.ledger import Ledger
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import ATTEMPTS, Outcome, Ranker, RankingOptions, gather_or_raise
from selectllm.store import Store
from tests.conftest import ToldModel, by_id

CANDIDATES = [Candidate(f"{number:02}", f"Task {number}") for number in range(6)]


def asking(
    model: ToldModel, tmp_path: Path, ask: Callable[[Ranker], Awaitable[Outcome]], concurrency: int = 2, **manner: Any
) -> tuple[Outcome, Ranker]:
    async def run() -> tuple[Outcome, Ranker]:
        hosts = HostPool([model], concurrency=concurrency, retries=1)
        asker = Ranker(hosts, Ledger(Store(str(tmp_path)), model.card), RankingOptions(**manner))
        return await ask(asker), asker

    return asyncio.run(run())


def ask(model: ToldModel, tmp_path: Path, **manner: Any) -> tuple[Outcome, Ranker]:
    return asking(model, tmp_path, lambda asker: asker.rank(CANDIDATES, 3, "query 0"), **manner)


def score(model: ToldModel, tmp_path: Path) -> tuple[Outcome, Ranker]:
    return asking(model, tmp_path, lambda asker: asker.score(CANDIDATES[0], "candidate 00"))


def test_the_answer_is_in_ids_whatever_the_order_shown(tmp_path: Path) -> None:
    outcome, asker = ask(ToldModel(by_id), tmp_path)
    assert outcome.ids == ("00", "01", "02")
    assert (asker.tally.ranked, asker.tally.asked, asker.tally.prompt_tokens) == (1, 1, 10)


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    first, _ = ask(ToldModel(by_id), tmp_path)
    model = ToldModel(by_id)
    second, asker = ask(model, tmp_path)
    assert second == first
    assert not model.asked
    assert (asker.tally.asked, asker.tally.replies, asker.tally.ranked) == (0, 1, 1)


def test_a_bad_answer_is_asked_again_naming_the_fault(tmp_path: Path) -> None:
    def bad_once(request: Request) -> str:
        return "[99, 1, 2]" if request.attempt == 1 else by_id(request)

    model = ToldModel(bad_once)
    outcome, asker = ask(model, tmp_path)
    assert outcome.ids == ("00", "01", "02")
    assert "not from 1 to 6" in model.asked[1].prompt.text
    assert model.asked[0].seed != model.asked[1].seed
    assert (asker.tally.reasked, asker.tally.abstained, asker.tally.replies) == (1, 0, 2)


@pytest.mark.parametrize("answer", ["", "I refuse.", "[1, 1, 1]", "[0, 7, 8]", '{"ranking": [1, 2'])
def test_a_model_that_never_answers_usably_abstains(answer: str, tmp_path: Path) -> None:
    model = ToldModel(lambda _: answer)
    outcome, asker = ask(model, tmp_path)
    assert outcome.abstained
    assert len(model.asked) == ATTEMPTS
    assert (asker.tally.abstained, asker.tally.ranked, asker.tally.reasked) == (1, 0, 1)
    again, asker = ask(ToldModel(by_id), tmp_path)
    assert again.abstained, "the same replies give the same outcome"
    assert asker.tally.asked == 0


@pytest.mark.parametrize("done_reason", ["length", "unfinished", "load"])
def test_an_answer_that_was_cut_off_is_not_accepted(done_reason: str, tmp_path: Path) -> None:
    whole = json.dumps({"ranking": [1, 2, 3]})
    outcome, _ = ask(ToldModel(lambda _: Reply(whole, done_reason)), tmp_path)
    assert outcome.abstained


def test_a_score_is_the_log_odds_of_yes(tmp_path: Path) -> None:
    model = ToldModel(lambda _: Reply(" yes", "length", logprobs={" yes": -0.5, " no": -2.0, " maybe": -3.0}))
    outcome, _ = score(model, tmp_path)
    assert outcome.ids == ("00",)
    assert outcome.score == pytest.approx(1.5)


@pytest.mark.parametrize("logprobs", [{}, {" yes": -0.5}, {" yes": -0.5, " no": float("-inf")}, {"y": -1, "n": -1}])
def test_odds_that_cannot_be_read_are_an_abstention_and_not_asked_again(
    logprobs: dict[str, float], tmp_path: Path
) -> None:
    model = ToldModel(lambda _: Reply(" ?", "length", logprobs=logprobs))
    outcome, asker = score(model, tmp_path)
    assert outcome.abstained
    assert len(model.asked) == 1
    assert asker.tally.abstained == 1


def test_other_spellings_of_the_labels_count_too(tmp_path: Path) -> None:
    model = ToldModel(
        lambda _: Reply("Yes", "length", logprobs={"Yes": math.log(0.5), " yes": math.log(0.25), "no": math.log(0.25)})
    )
    assert score(model, tmp_path)[0].score == pytest.approx(math.log(3))


def test_an_answer_that_was_cut_off_gets_more_room(tmp_path: Path) -> None:
    def needs_room(request: Request) -> Reply | str:
        return by_id(request) if request.room == 4 else Reply("{", "length")

    model = ToldModel(needs_room)
    outcome, asker = ask(model, tmp_path)
    assert outcome.ids == ("00", "01", "02")
    assert [request.num_predict for request in model.asked] == [56, 112, 224]
    assert asker.tally.faults == {"cut off": 2}


def test_a_list_that_does_not_fit_is_halved_and_the_best_meet(tmp_path: Path) -> None:
    def small(request: Request) -> str:
        if len(request.prompt.candidates) > 4:
            raise ContextLengthExceeded("too long")
        return by_id(request)

    model = ToldModel(small)
    outcome, asker = asking(model, tmp_path, lambda asker: asker.rank(CANDIDATES, 2, "query 0"))
    assert outcome.ids == ("00", "01")
    assert [len(request.prompt.candidates) for request in model.asked] == [6, 3, 3, 4]
    assert asker.tally.split == 1


@pytest.mark.parametrize("most", [2, 3, 4])
def test_a_list_that_does_not_fit_is_ranked_whole_all_the_same(most: int, tmp_path: Path) -> None:
    def small(request: Request) -> str:
        if len(request.prompt.candidates) > most:
            raise ContextLengthExceeded("too long")
        return by_id(request)

    outcome, asker = asking(ToldModel(small), tmp_path, lambda asker: asker.rank(CANDIDATES, 6, "query 0"))
    assert outcome.ids == ("00", "01", "02", "03", "04", "05")
    assert (asker.tally.abstained, asker.tally.ranked) == (0, 1)
    keys = (outcome.reply or "").split(",")
    assert len(set(keys)) == len(keys) == asker.tally.replies, "it rests on all of them"


def test_the_deadline_is_of_the_question_with_all_that_is_asked_again(tmp_path: Path) -> None:
    class Slow(ToldModel):
        async def answer(self, request: Request) -> Reply:
            await asyncio.sleep(0.1)
            return await super().answer(request)

    async def run() -> tuple[Outcome, Ranker, ToldModel]:
        model = Slow(lambda _: "no")
        hosts = HostPool([model], concurrency=2, deadline=0.15)
        asker = Ranker(hosts, Ledger(Store(str(tmp_path)), model.card), RankingOptions())
        return await asker.rank(CANDIDATES, 3, "query 0"), asker, model

    outcome, asker, model = asyncio.run(run())
    assert outcome.abstained
    assert len(model.asked) < ATTEMPTS
    assert asker.tally.faults["given up"] == 1


def test_a_list_that_never_fits_abstains(tmp_path: Path) -> None:
    def tiny(_: Request) -> str:
        raise ContextLengthExceeded("too long")

    outcome, asker = ask(ToldModel(tiny), tmp_path)
    assert outcome.abstained
    assert asker.tally.faults["too long"] >= 1


def test_an_answer_that_never_ends_is_not_taken_for_a_list_that_does_not_fit(tmp_path: Path) -> None:
    def thinks_for_ever(request: Request) -> Reply:
        if request.room > 2:
            raise ContextLengthExceeded("no room")
        return Reply("", "length")

    model = ToldModel(thinks_for_ever)
    outcome, asker = ask(model, tmp_path)
    assert outcome.abstained
    assert asker.tally.split == 0
    assert asker.tally.faults == {"cut off": 2, "too long": 1}


def test_a_host_that_keeps_failing_costs_the_question_and_nothing_is_kept(tmp_path: Path) -> None:
    def broken(_: Request) -> str:
        raise TransientError("busy", "busy")

    outcome, asker = ask(ToldModel(broken), tmp_path)
    assert outcome.abstained
    assert asker.tally.faults == {"given up": 1}
    assert not list(tmp_path.rglob("*.jsonl"))
    assert ask(ToldModel(by_id), tmp_path)[0].ids, "a later run asks again"


def test_no_more_than_the_agreed_number_are_under_way(tmp_path: Path) -> None:
    under_way = most = 0

    class Slow(ToldModel):
        async def answer(self, request: Request) -> Reply:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.005)
            under_way -= 1
            return await super().answer(request)

    async def many(asker: Ranker) -> Outcome:
        sizes = [(start, end) for start in range(6) for end in range(start + 1, 7)]
        return (await gather_or_raise(asker.rank(CANDIDATES[start:end], 1, "query") for start, end in sizes))[0]

    asking(Slow(by_id), tmp_path, many, concurrency=3)
    assert most == 3


def test_one_failure_stops_the_others_and_is_raised_as_it_is() -> None:
    finished = []

    async def fail() -> None:
        raise ModelError("gone")

    async def wait() -> None:
        await asyncio.sleep(5)
        finished.append(1)

    with pytest.raises(ModelError, match="gone"):
        asyncio.run(gather_or_raise([wait(), fail(), wait()]))  # type: ignore[arg-type]
    assert not finished
