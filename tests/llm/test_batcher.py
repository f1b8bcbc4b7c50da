"""Questions that go out as batches: what comes back in any order and state, what is lost, and what is asked again."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse

from selectllm import cancellation
from selectllm.errors import (
    ContentRefused,
    ContextLengthExceeded,
    CostExceeded,
    ModelError,
    ModelUnavailable,
    Stopped,
    TransientError,
)
from selectllm.llm.batch_records import KEPT_SECONDS, BatchRecord, BatchRecords
from selectllm.llm.batch_server import _progress
from selectllm.llm.caller import Caller, LongestRequest, open_caller
from selectllm.llm.context_guard import warn_once
from selectllm.llm.cost import NO_LIMIT, CostLimit
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger_lines import Entry
from selectllm.llm.model import ModelInfo, Request
from selectllm.llm.openai_batches import BatchState
from selectllm.settings import RunSettings
from selectllm.store import Store
from tests.llm.batch_server import BatchServer, Line, expired, refused
from tests.llm.in_process import in_process
from tests.llm.openai_server import HOST, KEY, error

pytestmark = [pytest.mark.usefixtures("no_openai_environment", "no_pauses"), pytest.mark.asyncio]

INFO = ModelInfo("openai:m", "m", "openai:m", "unknown", "model", "listwise", may_think=True)


def question(number: int, words: int = 1) -> Request:
    """A question whose right answer is the `number`-th of 9 candidates, and then the others."""
    texts = ["explain it " * (50 if place == number else words) for place in range(1, 10)]
    lines = [json.dumps({"number": place, "instruction": text}) for place, text in enumerate(texts, start=1)]
    schema = {"type": "object", "properties": {"ranking": {"type": "array", "minItems": 1}}}
    return Request("\n".join(["Which is best?", *lines]), schema, max_tokens=40, question=f"question {number}")


@asynccontextmanager
async def opened(
    server: BatchServer, folder: Path | str, limit: CostLimit = NO_LIMIT, **ranking: Any
) -> AsyncIterator[Caller]:
    """A caller that asks in batches."""
    options = {"hosts": [HOST], "batch": True, "give_up_after": 2.0} | ranking
    settings = RunSettings.model_validate(
        {"pool": "p", "budget": 1, "selector": "openai:m", "store": str(folder), "ranking": options}
    )
    longest, keys = LongestRequest(1000, 100), ApiKeys.from_environment()
    with in_process(server.app):
        async with open_caller(Store(str(folder)), settings, INFO, longest, limit, keys) as caller:
            yield caller


async def asked(caller: Caller, numbers: Sequence[int]) -> list[Entry | BaseException]:
    return await asyncio.gather(*(caller.ask(question(number)) for number in numbers), return_exceptions=True)


def firsts(entries: Sequence[Entry | BaseException]) -> list[int]:
    """The first number of each answer."""
    assert all(isinstance(entry, Entry) for entry in entries), entries
    return [json.loads(entry.reply.text)["ranking"][0] for entry in entries if isinstance(entry, Entry)]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("v1/batches/*/[!.]*.json"))]


async def test_all_questions_are_one_batch_whatever_the_order_of_its_lines(tmp_path: Path) -> None:
    def stir(lines: list[Line]) -> list[Line]:
        foreign = lines[0] | {"custom_id": "unknown"}
        return [foreign, expired(lines[2]), *lines[::-1], refused(lines[1], 500, "late"), lines[0]]

    server = BatchServer(looks=3)
    server.faults[0] = stir
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, range(1, 10))) == list(range(1, 10))
        assert (caller.usage.asked, caller.usage.replies) == (9, 9)
    assert server.sizes() == [9]
    line = json.loads(server.files["file-0"].splitlines()[0])
    assert line["method"] == "POST"
    assert line["url"] == server.batches["batch_0"]["endpoint"] == "/v1/chat/completions"
    assert (line["custom_id"], line["body"]["model"]) == (question(1).key(INFO), "m")
    assert records(tmp_path) == []
    async with opened(server, tmp_path, batch=False) as caller:
        assert firsts(await asked(caller, range(1, 10))) == list(range(1, 10))
        assert caller.usage.asked == 0, "a reply of a batch serves a run without batches"
    (tmp_path / "other").mkdir()
    async with opened(server, tmp_path / "other", batch=False) as caller:
        await asked(caller, [1, 2])
    async with opened(server, tmp_path / "other") as caller:
        await asked(caller, [1, 2, 3])
        assert caller.usage.asked == 1, "and the other way round"
    assert server.sizes() == [9, 1]


@pytest.mark.parametrize("status", ["expired", "cancelled", "completed"])
async def test_only_what_a_batch_has_not_answered_is_asked_again(status: str, tmp_path: Path) -> None:
    server = BatchServer()
    server.statuses[0] = server.statuses[1] = status
    server.faults[0] = lambda lines: [*lines[:4], *map(expired, lines[4:6])]  # and no line for the last three
    server.faults[1] = lambda lines: [refused(lines[0], 503, "overloaded"), refused(lines[1], 429, "slow"), *lines[2:]]
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, range(1, 10))) == list(range(1, 10))
        assert caller.usage.asked == 9
        assert caller.usage.errors_by_kind["batch without an answer"] == 5
    assert server.sizes() == [9, 5, 2]
    assert set(server.paid.values()) == {1}
    assert records(tmp_path) == []


async def test_a_question_is_given_up_after_its_tries_and_the_others_are_not(tmp_path: Path) -> None:
    server = BatchServer()
    lost = question(2).key(INFO)
    for number in range(9):
        server.faults[number] = lambda lines: [expired(line) if line["custom_id"] == lost else line for line in lines]
    async with opened(server, tmp_path, retries=1) as caller:
        first, second = await asked(caller, [1, 2])
        assert firsts([first]) == [1]
        assert isinstance(second, TransientError)
    assert server.sizes() == [2, 1]


async def test_batches_without_any_answer_end_the_run(tmp_path: Path) -> None:
    server = BatchServer()
    server.failures = dict.fromkeys(
        range(9), ("model_not_found", "The provided model is not supported by the Batch API")
    )
    with pytest.raises(
        ModelUnavailable, match=r"3 batches in a row .* batch_2, is failed: model_not_found: The provided"
    ):
        async with opened(server, tmp_path, retries=9) as caller:
            await caller.ask(question(1))
    assert server.sizes() == [1, 1, 1]
    assert records(tmp_path) == []


async def test_refusals_of_single_questions_are_those_of_the_ordinary_way(tmp_path: Path) -> None:
    server = BatchServer()
    server.faults[0] = lambda lines: [
        refused(lines[0], 400, "maximum context length is 10 tokens", code="context_length_exceeded"),
        refused(lines[1], 400, "filtered", code="content_filter"),
        refused(lines[2], 400, "Could not finish the message because max_tokens was reached"),
        *lines[3:],
    ]
    async with opened(server, tmp_path) as caller:
        too_long, filtered, unfinished, *others = await asked(caller, range(1, 6))
        assert isinstance(too_long, ContextLengthExceeded)
        assert isinstance(filtered, ContentRefused)
        assert isinstance(unfinished, Entry)
        assert unfinished.reply.done_reason == "length"
        assert firsts(others) == [4, 5]
    assert server.sizes() == [5]


async def test_a_refused_key_or_quota_ends_the_run_and_keeps_what_came(tmp_path: Path) -> None:
    server = BatchServer()
    server.faults[0] = lambda lines: [*lines[:2], refused(lines[2], 429, "no money", code="insufficient_quota")]
    with pytest.raises(ModelUnavailable, match="no money"):
        async with opened(server, tmp_path) as caller:
            await asyncio.gather(*(caller.ask(question(number)) for number in (1, 2, 3)))
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2, 3])) == [1, 2, 3]
    assert server.sizes() == [3, 1]
    assert set(server.paid.values()) == {1}


async def test_a_field_that_the_server_does_not_take_is_found_out_before_the_first_batch(tmp_path: Path) -> None:
    server = BatchServer()
    answer = server.answer

    def picky(body: dict[str, Any]) -> JSONResponse:
        if "temperature" in body:
            return JSONResponse(error("Unsupported value: 'temperature'", param="temperature"), 400)
        return answer(body)  # type: ignore[return-value]

    server.answer = picky  # type: ignore[method-assign]
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2])) == [1, 2]
    assert server.sizes() == [2]
    assert ["temperature" in body for body in server.seen] == [True, False]


async def test_a_field_that_only_a_batch_is_refused_for_is_left_out_in_the_next(tmp_path: Path) -> None:
    server = BatchServer()
    server.faults[0] = lambda lines: [refused(line, 400, "no seed", param="seed") for line in lines]
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2])) == [1, 2]
        assert caller.usage.errors_by_kind == {"refused field": 2}
    bodies = [json.loads(server.files[f"file-{file}"].splitlines()[0])["body"] for file in (0, 2)]
    assert ["seed" in body for body in bodies] == [True, False]


@pytest.mark.parametrize(("cut", "sizes"), [({0: 30}, [4]), (dict.fromkeys(range(4), 30), [4, 1])])
async def test_a_file_that_comes_cut_is_read_again_before_anything_is_asked_again(
    cut: dict[int, int], sizes: list[int], tmp_path: Path
) -> None:
    server = BatchServer()
    server.tails = cut
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2, 3, 4])) == [1, 2, 3, 4]
    assert server.sizes() == sizes


async def test_files_that_are_gone_have_no_answers(tmp_path: Path) -> None:
    server = BatchServer()
    server.refusals["GET /files/id/content"] = [JSONResponse(error("No such File object"), 404)] * 4
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2])) == [1, 2]
    assert server.sizes() == [2, 2]


@pytest.mark.parametrize(("requests", "size", "sizes"), [(4, 10**9, [4, 4, 1]), (50_000, 5000, [3, 3, 3])])
async def test_batches_keep_to_the_limits(
    requests: int, size: int, sizes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectllm.llm.batcher.MOST_REQUESTS", requests)
    monkeypatch.setattr("selectllm.llm.batcher.MOST_BYTES", size)
    server = BatchServer(looks=2)
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, range(1, 10))) == list(range(1, 10))
    assert server.sizes() == sizes
    assert max(len(server.files[batch["input_file_id"]]) for batch in server.batches.values()) <= size


async def test_smaller_batches_are_sent_one_at_a_time_where_the_queue_is_full(tmp_path: Path) -> None:
    server = BatchServer()
    server.failures = dict.fromkeys((0, 1), ("token_limit_exceeded", "Enqueued token limit reached for m"))
    async with opened(server, tmp_path, retries=0) as caller:
        assert firsts(await asked(caller, range(1, 10))) == list(range(1, 10))
    assert server.sizes() == [9, 5, 3, 3, 3]
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("failure", ["POST /files", "POST /batches", "GET /batches/id", "GET /files/id/content"])
async def test_failures_that_pass_cost_nothing(failure: str, tmp_path: Path) -> None:
    server = BatchServer()
    server.refusals[failure] = [JSONResponse(error("busy"), status) for status in (500, 503, 429)]
    async with opened(server, tmp_path, retries=0) as caller:
        assert firsts(await asked(caller, [1, 2])) == [1, 2]
    assert server.sizes() == [2]


async def test_a_batch_that_was_created_without_a_word_is_found_at_the_server(tmp_path: Path) -> None:
    server = BatchServer()
    for number in range(130):  # newer ones of others: the list has pages
        server.add_foreign_batch(f"other_{number}", created_at=2**31)
    server.refusals["POST /batches, created"] = [JSONResponse(error("late"), 504)]
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2])) == [1, 2]
    assert len([batch for batch in server.batches.values() if batch["metadata"]]) == 1


async def test_a_batch_that_is_refused_is_not_remembered(tmp_path: Path) -> None:
    server = BatchServer()
    server.refusals["POST /batches"] = [JSONResponse(error("Billing hard limit has been reached"), 400)]
    with pytest.raises(ModelError, match="Billing hard limit"):
        async with opened(server, tmp_path) as caller:
            await caller.ask(question(1))
    assert records(tmp_path) == []
    server.refusals["POST /batches"] = [JSONResponse(error("down"), 503)] * 99
    with pytest.raises(ModelUnavailable, match="--give-up-after"):
        async with opened(server, tmp_path, give_up_after=0.1) as caller:
            await caller.ask(question(1))


async def ask_until_stopped(server: BatchServer, folder: Path) -> None:
    """Cancel the asking as soon as its batch is known."""
    async with opened(server, folder) as caller:
        asking = asyncio.gather(*(caller.ask(question(number)) for number in (1, 2, 3)))
        while not (kept := records(folder)) or not kept[0]["id"]:  # noqa: ASYNC110 - another would write there, too
            await asyncio.sleep(0.01)
        cancellation.cancel()
        await asking


async def test_a_run_takes_up_a_batch_that_another_has_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", HOST)
    server = BatchServer(looks=10**9)
    with pytest.raises(Stopped):
        await ask_until_stopped(server, tmp_path)
    assert "the batch batch_0 of 3 questions goes on at http://model.example/v1: run the same again" in caplog.text
    (record,) = records(tmp_path)
    assert (record["id"], record["host"], record["model"]) == ("batch_0", HOST, "openai:m")
    assert record["keys"] == [question(number).key(INFO) for number in (1, 2, 3)]
    assert server.batches["batch_0"]["metadata"] == {"selectllm": record["token"]}
    assert KEY not in json.dumps(record)
    cancellation.reset()
    server.looks = 1
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 4])) == [1, 4]
        assert len(records(tmp_path)) == 1, "questions 2 and 3 are answered, and nobody has asked them yet"
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2, 3])) == [1, 2, 3]
        assert caller.usage.asked == 2
    assert server.sizes() == [3, 1]
    assert records(tmp_path) == []


async def test_a_record_without_an_id_is_looked_up_at_the_server(tmp_path: Path) -> None:
    """A run was killed between the creation of a batch and the note of its id, or before the creation."""
    server, kept = BatchServer(), BatchRecords(Store(str(tmp_path)), INFO, HOST)
    keys = tuple(question(number).key(INFO) for number in (1, 2))
    created = BatchRecord(HOST, "openai:m", keys, "/v1/chat/completions", "file-0", ())
    await kept.save(created)
    await kept.save(BatchRecord(HOST, "openai:m", (question(3).key(INFO),), "/v1/chat/completions", "file-1", ()))
    async with opened(server, tmp_path / "elsewhere") as caller:
        await asked(caller, [1, 2])
    server.batches["batch_0"]["metadata"] = {"selectllm": created.token}
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1, 2, 3])) == [1, 2, 3]
    assert server.sizes() == [2, 1]
    assert records(tmp_path) == []


async def test_records_of_other_hosts_and_old_ones_are_not_taken_up(tmp_path: Path) -> None:
    server, kept = BatchServer(), BatchRecords(Store(str(tmp_path)), INFO, HOST)
    keys = (question(1).key(INFO),)
    elsewhere = BatchRecord("http://other.example/v1", "openai:m", keys, "/v1/chat/completions", "f", (), id="b1")
    await kept.save(elsewhere)
    await kept.save(BatchRecord(HOST, "openai:m", keys, "/v1/chat/completions", "f", (), at=1.0, id="b2"))
    damaged = next(tmp_path.glob("v1/batches/*")) / "damaged.json"
    damaged.write_text("{")
    async with opened(server, tmp_path) as caller:
        assert firsts(await asked(caller, [1])) == [1]
    damaged.unlink()
    assert [record["id"] for record in records(tmp_path)] == ["b1"]
    assert KEPT_SECONDS > 30 * 86_400


async def test_a_batch_that_the_server_does_not_know_ends_the_run(tmp_path: Path) -> None:
    server, kept = BatchServer(), BatchRecords(Store(str(tmp_path)), INFO, HOST)
    record = BatchRecord(HOST, "openai:m", (question(1).key(INFO),), "/v1/chat/completions", "f", (), id="batch_9")
    await kept.save(record)
    with pytest.raises(ModelUnavailable, match=f"does not know the batch batch_9.*remove .*{record.token}.json"):
        async with opened(server, tmp_path) as caller:
            await caller.ask(question(1))
    assert server.sizes() == []


async def test_two_runs_at_once_pay_once(tmp_path: Path) -> None:
    server = BatchServer(looks=3)
    async with opened(server, tmp_path) as caller, opened(server, tmp_path) as other:
        both = await asyncio.gather(asked(caller, [1, 2, 3]), asked(other, [2, 3, 4]))
    assert [firsts(entries) for entries in both] == [[1, 2, 3], [2, 3, 4]]
    assert sorted(server.sizes()) == [1, 3]
    assert set(server.paid.values()) == {1}
    assert records(tmp_path) == []


async def test_two_runs_at_once_pay_once_on_an_object_store(tmp_path: Path) -> None:
    server, store = BatchServer(looks=3), f"memory://{tmp_path.name}"
    async with opened(server, store) as caller, opened(server, store) as other:
        both = await asyncio.gather(asked(caller, [1, 2, 3]), asked(other, [1, 2, 3]))
    assert [firsts(entries) for entries in both] == [[1, 2, 3], [1, 2, 3]]
    assert server.sizes() == [3]
    assert [name for name in Store(store).list(f"batches/{INFO.key}") if name.endswith(".json")] == []


async def test_the_progress_of_a_batch_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("selectllm.llm.batch_server.MOST_POLL_SECONDS", 0.0)
    async with opened(BatchServer(looks=4), tmp_path) as caller:
        await asked(caller, [1, 2, 3, 4])
    told = [message for message in caplog.messages if message.startswith("the batch batch_0 is in_progress")]
    assert [message.partition(" after ")[0].partition(": ")[2] for message in told] == [
        f"{count} of 4 answers" for count in range(3)
    ]
    state = BatchState("b", "in_progress", 200, 50, None, None, (), "")
    assert _progress(state, 600) == (
        "the batch b is in_progress: 50 of 200 answers after 10 min, of 24 h at most; at this pace about 30 min more"
    )


async def test_nothing_is_sent_that_may_cost_too_much(tmp_path: Path) -> None:
    server, prices = BatchServer(), {"price_in": 0.0, "price_out": 1.0}
    with pytest.raises(CostExceeded, match=r"its next batch may cost up to 120\.00, and --max-cost is 119\.00"):
        async with opened(server, tmp_path, CostLimit(119, **prices)) as caller:
            await asyncio.gather(*(caller.ask(question(number)) for number in (1, 2, 3)))
    assert server.sizes() == []
    async with opened(server, tmp_path, CostLimit(140, **prices)) as caller:
        await asked(caller, [1, 2, 3])
        paid = caller.usage.paid_output_tokens
        assert 3 <= paid < 20, "what counts afterwards is what was written"
        await asked(caller, [4, 5, 6])
    assert server.sizes() == [3, 3]


async def test_a_prompt_that_the_server_cuts_is_found_out(tmp_path: Path) -> None:
    warn_once.cache_clear()
    server = BatchServer(cut_at=100)
    async with opened(server, tmp_path) as caller:
        (cut,) = await asyncio.gather(caller.ask(question(1, words=60)), return_exceptions=True)
        assert isinstance(cut, ContextLengthExceeded)
        assert caller.usage.errors_by_kind == {"low count": 1}
        assert caller.usage.asked == 2, "replies that are not used are paid for, too"
    assert server.sizes() == [1, 1]


async def test_questions_that_follow_from_answers_are_one_batch_each_time(tmp_path: Path) -> None:
    server = BatchServer(looks=2)

    async def chain(caller: Caller, number: int) -> None:
        for further in range(number):
            await caller.ask(question(number, words=further + 1))

    async with opened(server, tmp_path) as caller:
        await asyncio.gather(*(chain(caller, number) for number in range(1, 6)))
    assert server.sizes() == [5, 4, 3, 2, 1]
