"""Models hosted by Ollama, asked through its official client. Its traps are explained where they matter."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx
from httpx import HTTPStatusError

from selectllm.errors import (
    ContextLengthExceeded,
    ModelChanged,
    ModelError,
    ModelUnavailable,
    SelectorUnavailable,
    TransientError,
)
from selectllm.llm.backoff import QUOTA_ADVICE, RATE_LIMIT, is_quota
from selectllm.llm.context_guard import BYTES_PER_TOKEN
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import Mode, ModelInfo, Reply, Request, without_secret
from selectllm.llm.ollama_client import OllamaClient, connect, message_of, passing_kind, unavailable, wait_of
from selectllm.llm.ollama_names import digest_of, find
from selectllm.llm.ollama_package import ChatResponse, GenerateResponse, ResponseError
from selectllm.paths import redact_url

BLANK_TOKENS: Final = 32  # that an answer held to a schema may have besides its own
CHECK_SECONDS: Final = 30.0  # that a server has to say which models it has
SPARE_TOKENS: Final = 512  # for the model's template, and more: a context is cheap beside loading a model anew

# What a 500 says, and the kind of error that it is. A model that does not fit beside others may fit later: Ollama
# unloads idle models. A runner that died is started again with the next question.
KINDS_OF_500: Final = {
    **dict.fromkeys(("out of memory", "requires more system memory"), "out of memory"),
    **dict.fromkeys(("unexpectedly stopped", "timed out waiting", "llama-server process"), "runner died"),
    **dict.fromkeys(("runner process", "EOF", "connection re", "broken pipe"), "runner died"),
}
# What a 500 says that no further try mends: the request's schema, or the model's file.
LASTING_ERRORS: Final = ("invalid JSON schema", "error loading model", "unable to load model")


class OllamaModel:
    """One model of one Ollama server."""

    def __init__(self, client: OllamaClient, info: ModelInfo, longest_context: int | None) -> None:
        self.info = info
        self.context: int | None = None
        self._client, self._longest_context = client, longest_context

    @property
    def host(self) -> str:
        """The server's URL, without secrets."""
        return redact_url(self._client.url)

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Fix the context for the run, load the model with it, and read what context it really got."""
        # A request that asked for another context would make the server load the model anew.
        needed = 1024 * math.ceil((longest / BYTES_PER_TOKEN + SPARE_TOKENS + max_tokens) / 1024)
        needed = min(needed, self._longest_context or needed)
        with self._errors_translated():
            await self._client.chat(self.info.name, [], options={"num_ctx": needed})
            running = (await self._client.ps()).models
        info = self.info
        contexts = [
            model.context_length for model in running if info.digest == model.digest or info.name == model.model
        ]
        self.context = min([needed, *filter(None, contexts)])

    async def answer(self, request: Request) -> Reply:
        """Ask once, and check that the answer ended."""
        # The grammar of a schema allows blanks between all tokens: they have room of their own.
        num_predict = request.max_tokens + (BLANK_TOKENS if request.schema else 0)
        options = {"temperature": request.temperature, "seed": request.seed, "num_predict": num_predict}
        if self.context:
            options["num_ctx"] = self.context
        with self._errors_translated():
            if request.logprobs:
                completion = await self._client.generate(
                    self.info.name, request.text, raw=True, logprobs=True, top_logprobs=20, options=options
                )
                reply = _reply(completion, completion.response or "")
            else:
                messages = request.messages
                # `think` is always said: unsaid, a thinking model thinks, and the schema is not applied.
                chat = await self._client.chat(
                    self.info.name, messages, format=request.schema, options=options, think=request.think
                )
                reply = _reply(chat, chat.message.content or "", chat.message.thinking or "")
        if reply.done_reason == "unfinished":
            raise TransientError(f"{self.info.name} broke an answer off", "unfinished")
        return without_secret(reply, self._client.key)

    async def probe(self) -> None:
        """Ask for the server's models: a host that returns may have another one."""
        await self.verify()

    async def verify(self) -> None:
        """Look at the model's digest again; `ollama create` and `ollama pull` change it while a server runs."""
        with self._errors_translated():
            models = (await self._client.list()).models
            listed = next((model for model in models if model.model == self.info.name), None)
            digest = await digest_of(listed, models, self._client) if listed else ""
        if not digest:
            raise ModelError(f"{self.info.name} is no longer at {self.host}. To go on: ollama pull {self.info.name}")
        if digest != self.info.digest:
            change = f"digest {digest[:12]}, was {self.info.digest[:12]}"
            raise ModelChanged(f"{self.info.name} is another model by now at {self.host} ({change})")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    @contextmanager
    def _errors_translated(self) -> Iterator[None]:
        """Turn what the client raises into our errors: those that can pass, and those that cannot."""
        name = self.info.name
        try:
            yield
        except ResponseError as error:
            status, message = error.status_code, f"status {error.status_code}: {message_of(error, self._client.key)}"
            kind = passing_kind(status)
            if status == 500:
                kind = next((kind for sign, kind in KINDS_OF_500.items() if sign in message), kind)
            wait = wait_of(error)
            if kind == RATE_LIMIT and not wait and is_quota(message):
                raise ModelUnavailable(f"{name} refused a request with {message}. {QUOTA_ADVICE}") from None
            if kind and not (status == 500 and any(sign in message for sign in LASTING_ERRORS)):
                raise TransientError(f"{name} failed with {message}", kind, wait) from None
            if status == 400 and "context" in message:
                raise ContextLengthExceeded(f"{name} refused a prompt with {message}") from None
            advice = dict.fromkeys((401, 403), "look at OLLAMA_API_KEY") | {404: f"ollama pull {name}"}
            if status in advice:
                then = f"To go on: {advice[status]}"
                raise ModelUnavailable(f"{name} refused a request with {message}. {then}") from None
            raise ModelError(f"{name} refused a request with {message}") from None
        except httpx.TimeoutException as error:
            raise TransientError(f"{name} did not answer: {type(error).__name__}", "timeout") from None
        except (httpx.RemoteProtocolError, ValueError) as error:  # half a body is no JSON
            raise TransientError(f"{name} was cut off: {message_of(error, self._client.key)}", "cut off") from None
        except (ConnectionError, httpx.RequestError, HTTPStatusError, KeyError, TypeError) as error:
            raise TransientError(f"{name} cannot be reached: {type(error).__name__}", "connection") from None


async def open_ollama(
    name: str, *, host: str | None = None, keys: ApiKeys, timeout: float = 120.0, mode: Mode = "listwise"
) -> OllamaModel:
    """Open a model, after checking that the server answers and has it.

    Parameters: `host`, a URL, else the one that goes with the key, else Ollama's usual one; `timeout`, seconds of one
    request (the client's own default is to wait for ever).
    Raises SelectorUnavailable, with the command that would help.
    """
    client = connect(host, keys, timeout)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            version = await client.version()
            models = (await client.list()).models
            found = find(name, models)
            if found is None:
                raise SelectorUnavailable(
                    f"the Ollama server at {client.url} has no model {name!r}. Get it with: ollama pull {name}"
                )
            known, digest = str(found.model), await digest_of(found, models, client)
            shown = await client.show(known)
    except BaseException as error:
        await client.close()
        raise unavailable(error, client) from None
    details, may_think = shown.modelinfo or {}, "thinking" in (shown.capabilities or ())
    info = ModelInfo(f"ollama:{name}", known, digest, version, "model", mode, may_think)
    longest_context = details.get(f"{details.get('general.architecture')}.context_length")
    return OllamaModel(client, info, longest_context)


def _reply(response: ChatResponse | GenerateResponse, text: str, thinking: str = "") -> Reply:
    likeliest = (response.logprobs[0].top_logprobs if response.logprobs else None) or ()
    return Reply(
        text=text,
        thinking=thinking,
        done_reason=(response.done_reason or "stop") if response.done else "unfinished",
        prompt_tokens=response.prompt_eval_count or 0,
        output_tokens=response.eval_count or 0,
        total_duration=response.total_duration or 0,
        load_duration=response.load_duration or 0,
        prompt_duration=response.prompt_eval_duration or 0,
        output_duration=response.eval_duration or 0,
        logprobs={word.token: word.logprob for word in likeliest if None not in (word.token, word.logprob)},
    )
