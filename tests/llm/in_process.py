"""Connects clients of model servers to an app in this process, without network connections."""

import importlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def in_process(app: Any) -> Iterator[None]:
    """Connect clients created in this block to an ASGI app.

    OpenAI's client uses httpx or its successor.
    """
    with ExitStack() as stack:
        for name in ("httpx", "httpx2"):
            try:
                library = importlib.import_module(name)
            except ImportError:
                continue
            transport = library.ASGITransport(app=app)
            for module in (name, f"{name}._client"):
                stack.enter_context(patch(f"{module}.AsyncHTTPTransport", lambda _t=transport, **_: _t))
        yield
