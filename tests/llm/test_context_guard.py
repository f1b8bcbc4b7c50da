"""Prompts that do not fit are refused, and prompts that a server has cut are found out, whoever serves the model."""

import logging
from typing import Any

import pytest

from selectllm.errors import ContextLengthExceeded, TransientError
from selectllm.llm.context_guard import ContextGuard, least_tokens, warn_once
from selectllm.llm.model import ChatModel, Request
from selectllm.llm.usage import Usage
from tests.llm import openai_server
from tests.llm.test_ollama import GOOD as OLLAMA_GOOD
from tests.llm.test_ollama import Server as OllamaServer
from tests.llm.test_ollama import opened as ollama_opened

SCHEMA = openai_server.SCHEMA
WORDS = Request("Which two are best? " * 1000, SCHEMA, max_tokens=48)  # 20 kB, 4,000 words
OTHER_WORDS = Request("Which of these are best? " * 1000, SCHEMA, max_tokens=48)


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    warn_once.cache_clear()
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


async def ollama(*counts: int, context: int = 0, **fields: Any) -> ContextGuard:
    """A model of Ollama that counts so many tokens in its prompts, and loads with a context."""
    server = OllamaServer(*(OLLAMA_GOOD | {"prompt_eval_count": count} | fields for count in counts))
    model: ChatModel = await ollama_opened(server)
    if context:
        server.replies.insert(0, OLLAMA_GOOD)
        await model.prepare(int((context - 1024) * 2.5), 500)
    return ContextGuard(model)


async def openai(*counts: int, context: int = 0, done_reason: str = "stop") -> ContextGuard:
    """A model behind OpenAI's API that counts so many tokens in its prompts, and names a context."""
    usages = [{"prompt_tokens": count, "completion_tokens": 9, "total_tokens": count + 9} for count in counts]
    choices = [openai_server.CHOICE | {"finish_reason": done_reason}]
    row = {"id": "m"} | ({"max_model_len": context} if context else {})
    server = openai_server.Server(
        *(openai_server.GOOD | {"choices": choices, "usage": usage} for usage in usages), models={"data": [row]}
    )
    return ContextGuard(await openai_server.opened(server))


@pytest.mark.parametrize("connect", [ollama, openai])
@pytest.mark.parametrize("tokens", [2050, 3999])
@pytest.mark.asyncio
async def test_a_prompt_that_is_cut_each_time_counts_as_too_long(
    connect: Any, tokens: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = await connect(tokens)
    with pytest.raises(TransientError, match=f"counted {tokens:,} tokens in a prompt of 20,000 bytes") as raised:
        await model.answer(WORDS)
    assert raised.value.kind == "low count"
    for request in (WORDS, OTHER_WORDS, WORDS):
        with pytest.raises(ContextLengthExceeded, match=r"it cuts the prompt$"):
            await model.answer(request)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "cuts long prompts without saying so" in record.message


@pytest.mark.parametrize("connect", [ollama, openai])
@pytest.mark.asyncio
async def test_a_prompt_that_is_cut_once_is_asked_about_again(connect: Any) -> None:
    model = await connect(2050, 4500)
    with pytest.raises(TransientError):
        await model.answer(WORDS)
    assert (await model.answer(WORDS)).prompt_tokens == 4500


@pytest.mark.asyncio
async def test_replies_that_are_not_used_are_counted_as_paid() -> None:
    usage = Usage()
    model = ContextGuard((await openai(2050))._model, usage)
    with pytest.raises(TransientError):
        await model.answer(WORDS)
    with pytest.raises(ContextLengthExceeded):
        await model.answer(WORDS)
    assert (usage.asked, usage.paid_prompt_tokens, usage.paid_output_tokens) == (2, 4100, 18)
    usage = Usage()
    model = ContextGuard((await openai(4096, 4116))._model, usage)
    assert (await model.answer(WORDS)).prompt_tokens == 4096
    assert (usage.asked, usage.paid_prompt_tokens) == (1, 4116), "the longer prompt alone: the caller counts the reply"


@pytest.mark.asyncio
async def test_a_prompt_longer_than_a_known_cut_is_not_sent() -> None:
    usage = Usage()
    model = ContextGuard((await openai(2050))._model, usage)
    with pytest.raises(TransientError):
        await model.answer(WORDS)
    for _ in range(2):
        with pytest.raises(ContextLengthExceeded, match="it cuts the prompt"):
            await model.answer(WORDS)
    sent = usage.asked
    with pytest.raises(ContextLengthExceeded, match="25,000 bytes are more than m reads: it cuts the prompt"):
        await model.answer(OTHER_WORDS)
    assert usage.asked == sent


@pytest.mark.parametrize("tokens", [4096, 5120, 4098])
@pytest.mark.asyncio
async def test_a_count_that_a_longer_prompt_has_too_is_a_cut(tokens: int) -> None:
    model = await openai(tokens)
    for request in (WORDS, OTHER_WORDS):
        with pytest.raises(ContextLengthExceeded, match=r"it cuts the prompt$"):
            await model.answer(request)


@pytest.mark.parametrize("tokens", [4096, 5120, 4098])
@pytest.mark.asyncio
async def test_a_count_that_grows_with_the_prompt_is_no_cut(tokens: int) -> None:
    model = await openai(tokens, tokens + 20, tokens)
    assert (await model.answer(WORDS)).prompt_tokens == tokens


@pytest.mark.parametrize("tokens", [4001, 4500, 6000])
@pytest.mark.asyncio
async def test_a_count_that_a_whole_prompt_can_have_is_accepted(tokens: int) -> None:
    assert (await (await openai(tokens)).answer(WORDS)).prompt_tokens == tokens


@pytest.mark.asyncio
async def test_a_server_that_does_not_count_is_trusted() -> None:
    assert (await (await openai(0)).answer(WORDS)).prompt_tokens == 0


@pytest.mark.parametrize("connect", [ollama, openai])
@pytest.mark.asyncio
async def test_a_prompt_that_cannot_fit_is_not_sent(connect: Any) -> None:
    model = await connect(4500, context=8192)
    assert model.context == 8192
    with pytest.raises(ContextLengthExceeded, match="70,000 bytes do not fit the 8,192 tokens that m"):
        await model.answer(Request("x" * 70_000, SCHEMA, max_tokens=48))


@pytest.mark.parametrize("connect", [ollama, openai])
@pytest.mark.asyncio
async def test_a_prompt_and_an_answer_that_overrun_the_context_are_too_long(connect: Any) -> None:
    model = await connect(5110, context=5120, done_reason="length")
    with pytest.raises(ContextLengthExceeded, match="more than the 5,120 that it reads"):
        await model.answer(WORDS)


@pytest.mark.parametrize("connect", [ollama, openai])
@pytest.mark.asyncio
async def test_a_prompt_that_fills_its_context_is_too_long(connect: Any) -> None:
    model = await connect(5120, context=5120)
    with pytest.raises(ContextLengthExceeded, match="more than the 5,120 that it reads"):
        await model.answer(WORDS)


@pytest.mark.parametrize("connect", [ollama, openai])
@pytest.mark.asyncio
async def test_prompts_in_other_scripts_are_not_treated_as_truncated(connect: Any) -> None:
    model = await connect(*[8000] * 9, 4000, context=8192)  # 2.5 and 5 bytes a token
    for _ in range(10):
        await model.answer(WORDS)


@pytest.mark.parametrize("connect", [ollama, openai])
@pytest.mark.parametrize(("tokens", "is_cut"), [(4098, True), (4400, False)])
@pytest.mark.asyncio
async def test_a_prompt_of_half_the_context_is_treated_as_truncated(connect: Any, tokens: int, is_cut: bool) -> None:
    model = await connect(*[7000] * 8, tokens, context=8192)
    for _ in range(8):
        await model.answer(WORDS)
    if is_cut:
        with pytest.raises(TransientError, match="it was cut"):
            await model.answer(WORDS)
    else:
        assert (await model.answer(WORDS)).prompt_tokens == tokens


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("two words", 2),
        ("नमस्ते दुनिया", 4.625),
        (" " * 1000 + "=" * 1000, 1),
        ("", 0),
        ("a b c " * 1000, 3000),
        ("=-" * 1000, 1),
    ],
)
def test_the_fewest_tokens_of_a_text(text: str, least: float) -> None:
    assert least_tokens(text) == least
