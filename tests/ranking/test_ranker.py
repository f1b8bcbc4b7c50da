import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from selectllm.errors import ContentRefused, ContextLengthExceeded, ModelError, TooManyAbstained, TransientError
from selectllm.llm import backoff
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import Reply, Request
from selectllm.ranking.lists import ATTEMPTS, Outcome, gather_or_raise
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker, RankingOptions
from selectllm.store import Store
from tests.conftest import FakeModel, by_id, make_caller

CANDIDATES = [Candidate(f"{number:02}", f"Task {number}") for number in range(6)]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_SECONDS", 0.001)


def run(
    model: FakeModel,
    folder: Path,
    ask: Callable[[Ranker], Awaitable[Outcome]],
    options: RankingOptions | None = None,
    **hosts: Any,
) -> tuple[Outcome, Ranker]:
    async def asked() -> tuple[Outcome, Ranker]:
        ranker = Ranker(
            make_caller(model, folder, **{"concurrency": 2, "retries": 1, **hosts}), options or RankingOptions()
        )
        return await ask(ranker), ranker

    return asyncio.run(asked())


def rank(model: FakeModel, folder: Path, top_k: int = 3, **hosts: Any) -> tuple[Outcome, Ranker]:
    return run(model, folder, lambda ranker: ranker.rank(CANDIDATES, top_k, "query 0"), **hosts)


def score(model: FakeModel, folder: Path) -> tuple[Outcome, Ranker]:
    return run(model, folder, lambda ranker: ranker.score(CANDIDATES[0], "candidate 00 of query 0"))


def test_a_ranking_is_given_in_ids_whatever_the_shown_order(tmp_path: Path) -> None:
    outcome, ranker = rank(FakeModel(by_id), tmp_path)
    assert outcome.ids == ("00", "01", "02")
    assert (ranker.stats.ranked, ranker.stats.usage.asked, ranker.stats.usage.prompt_tokens) == (1, 1, 10)


def test_a_second_run_sends_no_request(tmp_path: Path) -> None:
    first, _ = rank(FakeModel(by_id), tmp_path)
    model = FakeModel(by_id)
    second, ranker = rank(model, tmp_path)
    assert second == first
    assert not model.asked
    assert (ranker.stats.usage.asked, ranker.stats.usage.replies, ranker.stats.ranked) == (0, 1, 1)


def test_after_an_unusable_answer_the_model_is_asked_again_with_the_error(tmp_path: Path) -> None:
    def bad_once(request: Request) -> str:
        return "[99, 1, 2]" if request.attempt == 1 else by_id(request)

    model = FakeModel(bad_once)
    outcome, ranker = rank(model, tmp_path)
    assert outcome.ids == ("00", "01", "02")
    assert "not from 1 to 6" in model.asked[1].text
    assert model.asked[0].seed != model.asked[1].seed
    assert (ranker.stats.reasked, ranker.stats.abstained, ranker.stats.usage.replies) == (1, 0, 2)


@pytest.mark.parametrize("answer", ["", "I refuse.", "[1, 1, 1]", "[0, 7, 8]", '{"ranking": [1,'])
def test_a_query_without_a_usable_answer_abstains(answer: str, tmp_path: Path) -> None:
    model = FakeModel(lambda _: answer)
    outcome, ranker = rank(model, tmp_path)
    assert outcome.abstained
    assert len(model.asked) == ATTEMPTS
    assert (ranker.stats.abstained, ranker.stats.ranked, ranker.stats.reasked) == (1, 0, 1)
    again, ranker = rank(FakeModel(by_id), tmp_path)
    assert again.abstained, "a run that goes on with a killed one repeats no question"
    assert ranker.stats.usage.asked == 0


def test_after_a_run_has_ended_an_abstained_query_is_asked_about_once_more(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    rank(prose := FakeModel(lambda _: "prose"), tmp_path)
    for number in (1, 2):
        note_end(store, prose.info)
        still_bad = FakeModel(lambda _: "prose")
        outcome, ranker = rank(still_bad, tmp_path)
        assert (outcome.abstained, ranker.stats.abstained, ranker.stats.reasked_old) == (True, 1, 1)
        assert [request.attempt for request in still_bad.asked] == [ATTEMPTS + number]
        assert rank(FakeModel(by_id), tmp_path)[1].stats.usage.asked == 0, "without another end nothing is repeated"
    note_end(store, prose.info)
    outcome, ranker = rank(FakeModel(by_id), tmp_path)
    assert (outcome.ids, ranker.stats.usage.asked) == (("00", "01", "02"), 1)
    assert (ranker.stats.abstained, ranker.stats.reasked, ranker.stats.reasked_old) == (0, 1, 1)
    note_end(store, prose.info)
    assert rank(FakeModel(by_id), tmp_path)[1].stats.usage.asked == 0, "a usable answer is not asked for again"


def test_a_candidate_without_odds_is_asked_about_again_after_the_run_has_ended(tmp_path: Path) -> None:
    score(model := FakeModel(lambda _: Reply(" ?", "length")), tmp_path)
    note_end(Store(str(tmp_path)), model.info)
    outcome, ranker = score(FakeModel(lambda _: Reply("", "length", logprobs={"yes": -1.0, "no": -1.0})), tmp_path)
    assert (outcome.score, ranker.stats.usage.asked, ranker.stats.reasked_old) == (0.0, 1, 1)


def test_the_room_for_an_answer_that_is_cut_off_stops_growing(tmp_path: Path) -> None:
    for _ in range(3):
        rank(model := FakeModel(lambda _: Reply("{", "length")), tmp_path)
        note_end(Store(str(tmp_path)), model.info)
    assert model.asked[-1].max_tokens == 8 * 56


@pytest.mark.parametrize("done_reason", ["length", "unfinished", "load"])
def test_an_answer_that_is_cut_off_within_its_ranking_is_not_accepted(done_reason: str, tmp_path: Path) -> None:
    outcome, _ = rank(FakeModel(lambda _: Reply('{"ranking": [1, ', done_reason)), tmp_path)
    assert outcome.abstained


def test_an_answer_whose_padding_is_cut_off_is_used_at_once(tmp_path: Path) -> None:
    model = FakeModel(lambda request: Reply(by_id(request).removesuffix("]}") + "\t" * 80, "length"))
    outcome, ranker = rank(model, tmp_path)
    assert (outcome.ids, len(model.asked)) == (("00", "01", "02"), 1)
    assert (ranker.stats.repaired, ranker.stats.errors_by_kind) == (1, {})


def repeats_its_last(request: Request) -> str:
    """The right answer, but its last number repeats the one before."""
    numbers = json.loads(by_id(request))["ranking"]
    return json.dumps({"ranking": [*numbers[:-1], numbers[-2 if len(numbers) > 1 else 0]]})


def test_after_repeated_ids_only_the_rest_is_asked_about(tmp_path: Path) -> None:
    model = FakeModel(repeats_its_last)
    outcome, ranker = rank(model, tmp_path, top_k=5)
    assert outcome.ids == ("00", "01", "02", "03", "04")
    assert [(request.question, len(request.shown)) for request in model.asked] == [("query 0", 6), ("query 0, rest", 2)]
    assert len((outcome.reply or "").split(",")) == 2
    assert (ranker.stats.ranked, ranker.stats.repaired, ranker.stats.abstained) == (1, 1, 0)
    assert ranker.stats.errors_by_kind == {"repeated ids": 1}
    assert rank(FakeModel(by_id), tmp_path, top_k=5)[1].stats.usage.asked == 0


def test_one_missing_id_is_known_without_a_question(tmp_path: Path) -> None:
    model = FakeModel(repeats_its_last)
    outcome, _ = rank(model, tmp_path, top_k=6)
    assert outcome.ids == ("00", "01", "02", "03", "04", "05")
    assert len(model.asked) == 1


def test_the_beginning_of_a_ranking_stands_when_the_rest_has_no_answer(tmp_path: Path) -> None:
    model = FakeModel(lambda request: "no" if "rest" in request.question else repeats_its_last(request))
    outcome, ranker = rank(model, tmp_path, top_k=3)
    assert (outcome.ids, ranker.stats.ranked) == (("00", "01"), 1)


def test_a_score_is_the_log_odds_of_yes(tmp_path: Path) -> None:
    model = FakeModel(lambda _: Reply(" yes", "length", logprobs={" yes": -0.5, " no": -2.0, " maybe": -3.0}))
    outcome, _ = score(model, tmp_path)
    assert outcome.ids == ("00",)
    assert outcome.score == pytest.approx(1.5)


@pytest.mark.parametrize("logprobs", [{}, {" yes": -0.5}, {" yes": -0.5, " no": float("-inf")}, {"y": -1, "n": -1}])
def test_unreadable_odds_are_an_abstention_without_a_second_request(logprobs: dict[str, float], tmp_path: Path) -> None:
    model = FakeModel(lambda _: Reply(" ?", "length", logprobs=logprobs))
    outcome, ranker = score(model, tmp_path)
    assert outcome.abstained
    assert len(model.asked) == 1
    assert ranker.stats.abstained == 1


def test_other_spellings_of_the_labels_count_too(tmp_path: Path) -> None:
    model = FakeModel(
        lambda _: Reply("Yes", "length", logprobs={"Yes": math.log(0.5), " yes": math.log(0.25), "no": math.log(0.25)})
    )
    assert score(model, tmp_path)[0].score == pytest.approx(math.log(3))


def test_after_a_truncated_answer_more_tokens_are_allowed(tmp_path: Path) -> None:
    def needs_room(request: Request) -> Reply | str:
        return by_id(request) if request.max_tokens == 224 else Reply("{", "length")

    model = FakeModel(needs_room)
    outcome, ranker = rank(model, tmp_path)
    assert outcome.ids == ("00", "01", "02")
    assert [request.max_tokens for request in model.asked] == [56, 112, 224]
    assert ranker.stats.errors_by_kind == {"cut off": 2}


def test_a_list_that_does_not_fit_is_halved_and_merged(tmp_path: Path) -> None:
    def small(request: Request) -> str:
        if len(request.shown) > 4:
            raise ContextLengthExceeded("too long")
        return by_id(request)

    model = FakeModel(small)
    outcome, ranker = rank(model, tmp_path, top_k=2)
    assert outcome.ids == ("00", "01")
    assert [len(request.shown) for request in model.asked] == [6, 3, 3, 4]
    names = [request.question for request in model.asked]
    assert names == ["query 0", "query 0, part", "query 0, part", "query 0, merge"]
    assert ranker.stats.split == 1


@pytest.mark.parametrize("most", [2, 3, 4])
def test_a_list_that_does_not_fit_is_still_ranked_completely(most: int, tmp_path: Path) -> None:
    def small(request: Request) -> str:
        if len(request.shown) > most:
            raise ContextLengthExceeded("too long")
        return by_id(request)

    outcome, ranker = rank(FakeModel(small), tmp_path, top_k=6)
    assert outcome.ids == ("00", "01", "02", "03", "04", "05")
    assert (ranker.stats.abstained, ranker.stats.ranked) == (0, 1)
    keys = (outcome.reply or "").split(",")
    assert len(set(keys)) == len(keys) == ranker.stats.usage.replies, "the outcome depends on all replies"


def test_one_deadline_covers_all_requests_of_a_question(tmp_path: Path) -> None:
    class Slow(FakeModel):
        async def answer(self, request: Request) -> Reply:
            await asyncio.sleep(0.1)
            return await super().answer(request)

    model = Slow(lambda _: "no")
    outcome, ranker = rank(model, tmp_path, deadline=0.15)
    assert outcome.abstained
    assert len(model.asked) < ATTEMPTS
    assert ranker.stats.errors_by_kind["given up"] == 1


def test_a_list_that_never_fits_abstains(tmp_path: Path) -> None:
    def tiny(_: Request) -> str:
        raise ContextLengthExceeded("too long")

    outcome, ranker = rank(FakeModel(tiny), tmp_path)
    assert outcome.abstained
    assert ranker.stats.errors_by_kind["too long"] >= 1


def test_an_endless_answer_does_not_halve_the_list(tmp_path: Path) -> None:
    def thinks_for_ever(request: Request) -> Reply:
        if request.max_tokens > 112:
            raise ContextLengthExceeded("no room")
        return Reply("", "length")

    model = FakeModel(thinks_for_ever)
    outcome, ranker = rank(model, tmp_path)
    assert outcome.abstained
    assert ranker.stats.split == 0
    assert ranker.stats.errors_by_kind == {"cut off": 2, "too long": 1}


def test_a_failing_host_makes_the_question_abstain_and_no_reply_is_stored(tmp_path: Path) -> None:
    def broken(_: Request) -> str:
        raise TransientError("busy", "busy")

    outcome, ranker = rank(FakeModel(broken), tmp_path)
    assert outcome.abstained
    assert ranker.stats.errors_by_kind == {"given up": 1}
    assert not list(tmp_path.rglob("*.jsonl"))
    assert rank(FakeModel(by_id), tmp_path)[0].ids, "a later run asks again"


def test_requests_in_flight_never_exceed_the_host_capacity(tmp_path: Path) -> None:
    in_flight = most = 0

    class Slow(FakeModel):
        async def answer(self, request: Request) -> Reply:
            nonlocal in_flight, most
            in_flight += 1
            most = max(most, in_flight)
            await asyncio.sleep(0.005)
            in_flight -= 1
            return await super().answer(request)

    async def many(ranker: Ranker) -> Outcome:
        sizes = [(start, end) for start in range(6) for end in range(start + 1, 7)]
        return (await gather_or_raise(ranker.rank(CANDIDATES[start:end], 1, "query") for start, end in sizes))[0]

    run(Slow(by_id), tmp_path, many, concurrency=3)
    assert most == 3


def test_one_failure_cancels_the_other_requests_and_is_raised_unchanged() -> None:
    finished = []

    async def fail() -> None:
        raise ModelError("gone")

    async def wait() -> None:
        await asyncio.sleep(5)
        finished.append(1)

    with pytest.raises(ModelError, match="gone"):
        asyncio.run(gather_or_raise([wait(), fail(), wait()]))
    assert not finished


def test_each_pass_is_a_separate_question_with_its_own_order(tmp_path: Path) -> None:
    model = FakeModel(by_id)
    options = RankingOptions(passes=3)
    outcome, ranker = run(model, tmp_path, lambda ranker: ranker.rank(CANDIDATES, 3, "query 4"), options)
    assert outcome.ids == ("00", "01", "02")
    assert len((outcome.reply or "").split(",")) == 3
    passes = {request.question: request.pass_index for request in model.asked}
    assert passes == {"query 4": 1, "query 4, pass 2": 2, "query 4, pass 3": 3}
    assert len({request.shown for request in model.asked}) == 3
    assert ranker.stats.agreement_by_question == {"query 4": 1.0}


def test_the_ledger_records_outcome_and_question_of_each_reply(tmp_path: Path) -> None:
    rank(FakeModel(lambda request: "[1, 2, 3]" if request.attempt > 1 else "no"), tmp_path)
    score(FakeModel(lambda _: Reply("?", "length")), tmp_path)
    lines = [json.loads(line) for path in tmp_path.rglob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert sorted((line["question"], line["attempt"], line["outcome"]) for line in lines) == [
        ("candidate 00 of query 0", 1, "neither yes nor no"),
        ("query 0", 1, "unreadable"),
        ("query 0", 2, "repaired"),
    ]


def test_too_many_abstentions_stop_the_run_and_are_named_with_their_errors(tmp_path: Path) -> None:
    busy = [TransientError("busy", "busy")]

    def answer(_: Request) -> str:
        if busy:
            raise busy.pop()
        return "no"

    async def ask(ranker: Ranker) -> Outcome:
        await ranker.rank(CANDIDATES, 3, "query 0")
        return await ranker.rank(CANDIDATES, 2, "query 1")

    with pytest.raises(TooManyAbstained, match="no usable answer to query 0, query 1: more") as raised:
        run(FakeModel(answer), tmp_path, ask, RankingOptions(max_abstained=1))
    assert str(raised.value).endswith("Errors: 8 unreadable, 1 busy")


def test_progress_is_reported_once_per_question(tmp_path: Path) -> None:
    done = 0

    def on_progress() -> None:
        nonlocal done
        done += 1

    async def ask() -> None:
        ranker = Ranker(make_caller(FakeModel(by_id), tmp_path), RankingOptions(passes=2), on_progress)
        await ranker.rank(CANDIDATES, 3, "query 0")
        await ranker.rank(CANDIDATES[:2], 1, "query 1")

    asyncio.run(ask())
    assert done == 2


def refuses(*ids: str) -> Callable[[Request], str]:
    """A model whose provider refuses prompts that show one of these rows."""

    def answer(request: Request) -> str:
        if set(ids) & set(request.shown):
            raise ContentRefused("content_filter")
        return by_id(request)

    return answer


@pytest.mark.parametrize("refused", [["00"], ["02"], ["05"], ["01", "04"], ["00", "01", "02", "03", "04"]])
@pytest.mark.parametrize("top_k", [1, 3, 6])
def test_refused_rows_are_set_aside_and_the_others_are_ranked(refused: list[str], top_k: int, tmp_path: Path) -> None:
    model = FakeModel(refuses(*refused))
    outcome, ranker = rank(model, tmp_path, top_k=top_k)
    others = [candidate.id for candidate in CANDIDATES if candidate.id not in refused]
    assert outcome.ids == tuple(others[:top_k])
    assert outcome.reply
    assert sorted(ranker.stats.refused_rows) == refused
    assert (ranker.stats.ranked, ranker.stats.abstained) == (1, 0)
    assert ranker.stats.errors_by_kind["refused"] >= len(refused)


def test_a_query_of_refused_rows_alone_abstains(tmp_path: Path) -> None:
    outcome, ranker = rank(FakeModel(refuses(*(candidate.id for candidate in CANDIDATES))), tmp_path)
    assert (outcome.abstained, ranker.stats.abstained, len(ranker.stats.refused_rows)) == (True, 1, 6)


def test_rows_that_are_refused_only_together_are_not_shown_together(tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        if {"01", "04"} <= set(request.shown):
            raise ContentRefused("content_filter")
        return by_id(request)

    outcome, ranker = rank(FakeModel(answer), tmp_path)
    assert not {"01", "04"} <= set(outcome.ids)
    assert outcome.ids
    assert set(ranker.stats.refused_rows) & {"01", "04"}


def test_rows_that_were_not_shown_in_a_refused_comparison_are_not_refused(tmp_path: Path) -> None:
    """The halves of 12 rows are merged from their first 3: "00" and "06" are among them."""

    def answer(request: Request) -> str:
        if {"00", "06"} <= set(request.shown):
            raise ContentRefused("content_filter")
        return by_id(request)

    candidates = [Candidate(f"{number:02}", f"Task {number}") for number in range(12)]
    outcome, ranker = run(FakeModel(answer), tmp_path, lambda ranker: ranker.rank(candidates, 12, "query 0"))
    assert sorted(ranker.stats.refused_rows) == ["06", "07", "08"]
    assert outcome.ids == ("00", "01", "02", "03", "04", "05", "09", "10", "11")


@pytest.mark.parametrize("text", ["", '{"ranking": ['])
def test_an_answer_that_a_filter_ends_is_kept_and_its_row_is_set_aside(text: str, tmp_path: Path) -> None:
    model = FakeModel(lambda request: Reply(text, "content_filter") if "03" in request.shown else by_id(request))
    outcome, ranker = rank(model, tmp_path, top_k=6)
    assert outcome.ids == ("00", "01", "02", "04", "05")
    assert list(ranker.stats.refused_rows) == ["03"]
    again, ranker = rank(FakeModel(by_id), tmp_path, top_k=6)
    assert (again, ranker.stats.usage.asked) == (outcome, 0), "the reply was paid for"


def test_a_whole_ranking_counts_also_when_a_filter_ends_it(tmp_path: Path) -> None:
    outcome, ranker = rank(FakeModel(lambda request: Reply(by_id(request), "content_filter")), tmp_path)
    assert (outcome.ids, ranker.stats.refused_rows) == (("00", "01", "02"), {})


def test_a_refused_candidate_abstains_when_it_is_scored(tmp_path: Path) -> None:
    outcome, ranker = score(FakeModel(refuses("00")), tmp_path)
    assert (outcome.abstained, list(ranker.stats.refused_rows)) == (True, ["00"])


def test_more_refused_rows_than_allowed_stop_the_run_and_are_named(tmp_path: Path) -> None:
    with pytest.raises(TooManyAbstained, match=r"refused the content of the rows 0[15], 0[15]: more than --max-abst"):
        run(
            FakeModel(refuses("01", "05")),
            tmp_path,
            lambda ranker: ranker.rank(CANDIDATES, 3, "query 0"),
            RankingOptions(max_refused=1),
        )
