"""Models behind OpenAI's API, asked through its official client: ChatGPT, vLLM, llama-server, LM Studio, others."""

import asyncio
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import httpx

from selectllm.errors import (
    HostUnreachable,
    MissingDependency,
    ModelError,
    SelectorUnavailable,
    TransientError,
)
from selectllm.llm.connection import proxy_note, tls_problem
from selectllm.llm.context_guard import warn_once
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Mode, ModelInfo, Reply, Request, without_secret
from selectllm.llm.openai_batches import BatchApi, Result
from selectllm.llm.openai_client import OPENAI, connect, shown_url
from selectllm.llm.openai_dialect import Dialect
from selectllm.llm.openai_errors import Refusal, RefusedError, errors_translated, safe
from selectllm.llm.openai_models import Listing, list_models
from selectllm.llm.openai_replies import read_reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CHECK_SECONDS: Final = 30.0  # that a server has to say what it has
OLLAMA: Final = "Ollama"
"""The version of a server that is Ollama."""
OLLAMA_TRAP: Final = "cuts long prompts over this API without saying so, and lets no run choose a larger context"
"""Why Ollama is better asked by its own API."""

_answered: set[tuple[str, str]] = set()
"""The servers, and models that they do not list, that have answered this process."""


class OpenAIModel:
    """One model of one server that speaks OpenAI's API."""

    def __init__(self, client: "AsyncOpenAI", info: ModelInfo, timeout: float, listing: Listing) -> None:
        self.info = info
        self.context = listing.context(info.name)
        self._client, self._timeout = client, timeout
        self._dialect = Dialect(info.name, is_ollama=listing.is_ollama)

    @property
    def host(self) -> str:
        """The server's base URL, without secrets."""
        return shown_url(str(self._client.base_url))

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Do nothing: the API lets nothing be fixed."""

    async def answer(self, request: Request) -> Reply:
        """Ask once; and again at once only where a refusal taught which field to do without."""
        with self._errors_translated():
            async with asyncio.timeout(self._timeout):
                body = self._dialect.body(request)
                while True:
                    try:
                        return self._read(await self._post(self._dialect.path(request), body), body)
                    except RefusedError as error:
                        if reply := self._learn(error.refusal, body):
                            return reply
                        refused, body = body, self._dialect.body(request)
                        if body == refused:
                            raise

    async def check_batches(self) -> None:
        """Raise SelectorUnavailable, and close, where the server has no batches."""
        try:
            with self._errors_translated():
                await self.batches().check()
        except BaseException as error:
            await self.close()
            if isinstance(error, ModelError) and not isinstance(error, TransientError):
                raise SelectorUnavailable(str(error)) from None
            raise

    def batches(self) -> BatchApi:
        """The server's batches."""
        return BatchApi(self._client, self.info.name, self._timeout)

    def line(self, request: Request) -> tuple[str, dict[str, Any]]:
        """What a batch asks for a request: the path, and the body."""
        return f"/v1{self._dialect.path(request)}", self._dialect.body(request)

    @property
    def refused(self) -> tuple[str, ...]:
        """The fields that the server is known not to take."""
        return tuple(sorted(self._dialect.refused))

    def read_result(self, request: Request, refused: Collection[str], result: Result) -> Reply:
        """The reply that a batch's line holds; `refused` are the fields that the request was sent without.

        Raises what `answer` raises; TransientError, too, where a refusal taught which field to do without.
        """
        body = self._dialect.body(request, refused)
        with self._errors_translated():
            try:
                return self._read(result.completion(), body)
            except RefusedError as error:
                if reply := self._learn(error.refusal, body):
                    return reply
                if self._dialect.body(request) == body:
                    raise
                raise TransientError(f"{self.info.name} does not take a field of a request", "refused field") from None

    async def try_raw_completions(self) -> bool:
        """Ask for log-probabilities by a raw completion from now on, if the server has one; whether it has.

        Raises TransientError when it cannot say.
        """
        self._dialect.continues = True
        try:
            self._dialect.continues = bool((await self.answer(Request("2 + 2 = 4:", logprobs=True))).logprobs)
        except ModelError as error:
            if isinstance(error, TransientError) and error.kind != "server error":
                raise
            self._dialect.continues = False
        return self._dialect.continues

    async def probe(self) -> None:
        """Ask for the list of models; a refusal is an answer, too."""
        try:
            with self._errors_translated():
                async with asyncio.timeout(self._timeout):
                    await self._client.get("/models", cast_to=object)
        except ModelError as error:
            if isinstance(error, TransientError):
                raise

    async def verify(self) -> None:
        """Do nothing: the API says nothing of the weights."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _read(self, completion: object, body: dict[str, Any]) -> Reply:
        reply = read_reply(completion)
        self._dialect.learn_from_reply(reply, body)
        return without_secret(reply, self._client.api_key)

    def _learn(self, refusal: Refusal, body: dict[str, Any]) -> Reply | None:
        """The answer that a refusal stands for, if it does; else learn which fields to do without."""
        if refusal.is_out_of_room:
            return Reply("", "length")
        if (text := refusal.failed_generation) is not None:
            # Read as any other answer, and asked again like one.
            return without_secret(Reply(text, "stop"), self._client.api_key)
        self._dialect.learn_from_refusal(refusal, body)
        return None

    async def _post(self, path: str, body: dict[str, Any]) -> object:
        """What comes for a body; raises RefusedError, also where the server refuses with status 200."""
        from openai import APIStatusError

        try:
            completion = await self._client.post(path, body=body, cast_to=object)
        except APIStatusError as error:
            raise RefusedError(Refusal.of(error)) from None
        if isinstance(completion, dict) and completion.get("error"):
            raise RefusedError(Refusal.in_answer(completion["error"]))
        return completion

    def _errors_translated(self) -> AbstractContextManager[None]:
        return errors_translated(self.info.name, self._client, self._timeout)


async def open_openai(
    name: str, *, host: str | None = None, keys: ApiKeys, timeout: float = 120.0, mode: Mode = "listwise"
) -> OpenAIModel:
    """Open a model, after checking that the server answers, takes the key, and has the model.

    A model that is not listed is asked once.

    Parameters: `host`, the base URL, else the one that goes with the key, else OpenAI's own; `timeout`, seconds of one
    request.
    Raises SelectorUnavailable with what to do about it, MissingDependency.
    """
    try:
        from openai import APIConnectionError, APIStatusError
    except ImportError:
        raise MissingDependency("openai", extra="openai", purpose=f"the selector openai:{name}") from None
    base = host or keys.host("openai") or OPENAI
    where, client = shown_url(base), connect(base, keys.for_host("openai", host), timeout)
    try:
        async with asyncio.timeout(min(CHECK_SECONDS, timeout)):
            listing = await list_models(client, where)
        # The API says nothing of the weights: replies can be kept under the name alone.
        version = OLLAMA if listing.is_ollama else "unknown"
        info = ModelInfo(f"openai:{name}", name, f"openai:{name}", version, "model", mode, may_think=True)
        model = OpenAIModel(client, info, timeout, listing)
        if not listing.may_have(name) and (where, name) not in _answered:
            await _check_answers(model, listing, where)
            _answered.add((where, name))
        if mode == "pointwise" and await model.try_raw_completions():
            # A model that continues a text is another judge than in a chat: their replies are never mixed.
            model.info = replace(info, digest=f"{info.digest} completions")
    except BaseException as error:
        await client.close()
        if isinstance(error, (APIConnectionError, TimeoutError)):
            if problem := tls_problem(error, where):
                raise SelectorUnavailable(problem) from None
            advice = (
                "Start it, or name another's base URL with --host (hosts in a form), such as http://127.0.0.1:8000/v1"
            )
            raise HostUnreachable(f"no server answers at {where}. {advice}{proxy_note(httpx.URL(base))}") from None
        if isinstance(error, TransientError):
            raise HostUnreachable(f"the server at {where} cannot be asked now: {error}. Try again later") from None
        if isinstance(error, APIStatusError):
            advice = "Set OPENAI_API_KEY, and OPENAI_BASE_URL to that URL: no key is sent where only --host points"
            if keys.may_see("openai", host):
                advice = "Set OPENAI_API_KEY to a key that is good there"
            message = f"status {error.status_code}: {safe(Refusal.of(error).message, client)}"
            raise SelectorUnavailable(
                f"the server at {where} refused to be asked with {message}. {advice}{proxy_note(httpx.URL(base))}"
            ) from None
        raise
    if listing.is_ollama:
        url = where.removesuffix("/v1")
        warn_once(f"{where} is Ollama, which {OLLAMA_TRAP}. Use --selector ollama:{name} --host {url}")
    return model


async def _check_answers(model: OpenAIModel, listing: Listing, where: str) -> None:
    """Ask a model that is not listed, and believe what it says: lists lack variants, deployments and aliases."""
    name = model.info.name
    try:
        await model.answer(Request("Say yes.", max_tokens=16))
    except TransientError:
        return  # it is there, or the run will say that it is not
    except ModelError as error:
        if listing.refusal:
            raise listing.refusal from None
        raise SelectorUnavailable(
            f"the server at {where} does not have the model {name!r}. Of the {len(listing.rows)} that it lists, the "
            f"closest by name: {listing.closest(name)}. Asked all the same, {error}"
        ) from None
