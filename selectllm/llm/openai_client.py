"""The connection to a server that speaks OpenAI's API: the official client, and the server's list of models."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import httpx

from selectllm.errors import SelectorUnavailable
from selectllm.llm.keys import ProviderKey

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI: Final = "https://api.openai.com/v1"
CONTEXT_FIELDS: Final = ("max_model_len", "context_length", "context_window")  # vLLM, OpenRouter, Groq
OLLAMA_OWNER: Final = "library"  # of models of its own registry, in Ollama's list
NO_KEY: Final = "no-key"  # where there is none to send: the client insists on one, and servers that want none ignore it


def connect(base: str, key: ProviderKey, timeout: float) -> "AsyncOpenAI":
    """A client of a base URL, which sends the key and what goes with it, and nothing of the environment's."""
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key=key.key or NO_KEY, base_url=base, timeout=timeout, max_retries=0)
    # The client takes what is not given from the environment, where it may be meant for another host.
    client.organization, client.project = key.organization, key.project
    client._custom_headers = dict(key.headers)
    return client


@dataclass(frozen=True)
class Listed:
    """What a server's list of models says of one: its context in tokens, and whether the server is Ollama."""

    context: int | None = None
    is_ollama: bool = False


async def listed_model(client: "AsyncOpenAI", name: str, where: str) -> Listed:
    """What the server's list says of the model; nothing where no list is kept and the server has a chat at least."""
    _, models = await _get(client, "/models")
    rows = models.get("data") if isinstance(models, dict) else None
    known = {str(row["id"]): row for row in rows or () if isinstance(row, dict) and "id" in row}
    if name in known:
        is_ollama = any(row.get("owned_by") == OLLAMA_OWNER for row in known.values())
        return Listed(_context(known[name]), is_ollama)
    if known:
        closest = ", ".join(get_close_matches(name, list(known), n=5, cutoff=0.0))
        raise SelectorUnavailable(
            f"the server at {where} does not have the model {name!r}. Of the {len(known)} that it has, the closest by "
            f"name: {closest}"
        )
    status, body = await _get(client, "/chat/completions", {})  # without a message: refused before a model is asked
    is_error = status == 200 and (not isinstance(body, dict) or "error" in body)  # LM Studio's way to say 404
    if is_error or status in (404, 405):
        raise SelectorUnavailable(
            f"the server at {where} does not answer as OpenAI's does. Name its base URL with --host: most end in /v1"
        )
    return Listed()


def _context(row: dict[str, Any]) -> int | None:
    """A listed model's context, by whichever name its server has for it."""
    meta = row.get("meta")
    values = [row.get(name) for name in CONTEXT_FIELDS] + [meta.get("n_ctx") if isinstance(meta, dict) else None]
    return min((value for value in values if type(value) is int and value > 0), default=None)


async def _get(client: "AsyncOpenAI", path: str, body: dict[str, Any] | None = None) -> tuple[int, object]:
    """The status and the body at a path; raises APIStatusError when it takes a key, or another one, to know."""
    from openai import APIStatusError

    try:
        if body is None:
            return 200, await client.get(path, cast_to=object)
        return 200, await client.post(path, body=body, cast_to=object)
    except APIStatusError as error:
        if error.status_code in (401, 403):
            raise
        return error.status_code, None
    except ValueError:  # not JSON
        return 200, None


def shown_url(base: str) -> str:
    """The base URL as messages show it: without what may be secret in it."""
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise SelectorUnavailable("the host is no URL: write a base URL in full, such as http://127.0.0.1:8000/v1")
    return f"{url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")
