"""Ollama's official client, imported whatever the environment holds.

The package builds a client of its own when it is imported, by OLLAMA_HOST, OLLAMA_API_KEY and the proxies of the
environment. One of these that no client can be built by would fail the import. All that is used here is there by then.
"""

import importlib.util
import sys
from contextlib import suppress


def _import() -> None:
    spec = importlib.util.find_spec("ollama")
    if "ollama" in sys.modules or spec is None or spec.loader is None:
        return
    package = sys.modules["ollama"] = importlib.util.module_from_spec(spec)
    with suppress(Exception):  # of a client that nobody here asks for
        spec.loader.exec_module(package)


_import()

from ollama import AsyncClient, ChatResponse, GenerateResponse, ListResponse, ResponseError  # noqa: E402

__all__ = ["AsyncClient", "ChatResponse", "GenerateResponse", "ListResponse", "ResponseError"]
