"""The connection to a server that speaks OpenAI's API, by the official client."""

from typing import TYPE_CHECKING, Final

import httpx

from selectllm.errors import SelectorUnavailable
from selectllm.llm.connection import http_options
from selectllm.llm.keys import ProviderKey

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI: Final = "https://api.openai.com/v1"
NO_KEY: Final = "no-key"  # where there is none to send: the client insists on one, and servers that want none ignore it


def connect(base: str, key: ProviderKey, timeout: float) -> "AsyncOpenAI":
    """A client of a base URL, which sends the key and what goes with it, and nothing of the environment's.

    What the URL asks for after its path, such as Azure's `api-version`, goes with each request.
    """
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    url = httpx.URL(base)
    query = dict(url.params)
    http = DefaultAsyncHttpxClient(timeout=timeout, **http_options(url))
    client = AsyncOpenAI(
        api_key=key.key or NO_KEY,
        base_url=str(url.copy_with(query=None)),
        default_query=query,
        timeout=timeout,
        max_retries=0,
        http_client=http,
    )
    # The client takes what is not given from the environment, where it may be meant for another host.
    client.organization, client.project = key.organization, key.project
    azure = {"api-key": key.key} if key.key and "api-version" in query else {}  # Azure reads a key nowhere else
    client._custom_headers = azure | dict(key.headers)
    return client


def shown_url(base: str) -> str:
    """The base URL as messages show it: without what may be secret in it."""
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise SelectorUnavailable("the host is no URL: write a base URL in full, such as http://127.0.0.1:8000/v1")
    return f"{url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")
