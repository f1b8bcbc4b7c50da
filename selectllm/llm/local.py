"""Models without a server: the embedded app, reached in this process by the same client that reaches Ollama."""

from pathlib import Path
from typing import Final

import httpx

from selectllm.errors import SelectorUnavailable
from selectllm.llm.embedded import create_app
from selectllm.llm.model import Mode
from selectllm.llm.ollama import OllamaModel, open_ollama
from selectllm.llm.weights import demo_weights

CONTEXT: Final = 16_384
"""Tokens, where the model reads so many: a query of 14 candidates of 2,000 characters each, with room to spare."""


async def open_embedded(weights: str = "", *, timeout: float = 120.0, mode: Mode | None = None) -> OllamaModel:
    """Open a GGUF file, or the demo model when none is given.

    The demo model ranks pointwise unless told otherwise: it is too small to rank a list, and would choose by position.
    Raises SelectorUnavailable when there is no such file, MissingDependency without the engine.
    """
    path = Path(weights).expanduser() if weights else demo_weights()
    if not path.is_file():
        raise SelectorUnavailable(f"there is no model file {weights!r}: give the path of a GGUF file")
    app = create_app(path, name=path.stem, context=CONTEXT)
    return await open_ollama(
        path.stem,
        host="http://embedded",
        transport=httpx.ASGITransport(app=app),
        selector=f"embedded:{weights}" if weights else "embedded",
        quality="model" if weights else "demo",
        timeout=timeout,
        mode=mode or ("listwise" if weights else "pointwise"),
    )
