"""What Ollama calls a model, and what stands for its weights."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from selectllm.llm.ollama_package import AsyncClient, ListResponse, ResponseError

BLOB: Final = re.compile(r"sha256-[0-9a-f]{64}")  # of weights, in the modelfile that Ollama shows


def canonical(name: str) -> str:
    """A name as Ollama compares names: in any case, with a tag, without its own registry and its library."""
    name = name.casefold().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def find(name: str, models: Sequence[ListResponse.Model]) -> ListResponse.Model | None:
    """The listed model of a name: the one of exactly this name, else one that Ollama takes for the same."""
    same = [model for model in models if canonical(model.model or "") == canonical(name)]
    return next((model for model in same if model.model in (name, f"{name}:latest")), next(iter(same), None))


async def digest_of(model: ListResponse.Model, models: Sequence[ListResponse.Model], client: AsyncClient) -> str:
    """What stands for a model's weights: its digest; with its name where no digest tells it from other models.

    Other servers speak Ollama's protocol and have no digest, or one for all models: then replies of one model would
    serve another. Two names of the same weights share a digest, too, and Ollama shows that they are the same.
    """
    digest, name = str(model.digest or ""), str(model.model)
    others = [str(other.model) for other in models if digest and other.digest == digest and other.model != name]
    if digest and not others:
        return digest
    weights = await _weights(name, client) if digest else set()
    if weights and all([await _weights(other, client) == weights for other in others]):
        return digest
    return f"{name} {digest}".strip()


async def _weights(name: str, client: AsyncClient) -> set[str]:
    with suppress(ResponseError):
        return set(BLOB.findall((await client.show(name)).modelfile or ""))
    return set()
