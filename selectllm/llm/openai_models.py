"""The list of models of a server that speaks OpenAI's API: which there are, and what it says of them."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from selectllm.errors import SelectorUnavailable
from selectllm.llm.connection import redirect_problem
from selectllm.llm.openai_client import shown_url

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

CONTEXT_FIELDS: Final = ("max_model_len", "context_length", "context_window")  # vLLM, OpenRouter, Groq
OLLAMA_OWNER: Final = "library"  # of models of its own registry, in Ollama's list


@dataclass(frozen=True)
class Listing:
    """The models that a server lists, by name: none where it keeps no list, or `refusal` does not let it be read."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusal: "APIStatusError | None" = None

    @property
    def is_ollama(self) -> bool:
        """Whether the server is Ollama."""
        return any(row.get("owned_by") == OLLAMA_OWNER for row in self.rows.values())

    def may_have(self, name: str) -> bool:
        """Whether nothing says that the model is not there: it is listed, or no list is kept."""
        return name in self.rows or not (self.rows or self.refusal)

    def closest(self, name: str) -> str:
        """The names that are most like this one."""
        return ", ".join(get_close_matches(name, list(self.rows), n=5, cutoff=0.0))

    def context(self, name: str) -> int | None:
        """A model's context in tokens, by whichever name its server has for it; None where it does not say."""
        only = next(iter(self.rows.values())) if len(self.rows) == 1 else {}  # which a server has by any name
        row = self.rows.get(name, only)
        meta = row.get("meta")
        values = [row.get(name) for name in CONTEXT_FIELDS] + [meta.get("n_ctx") if isinstance(meta, dict) else None]
        return min((value for value in values if type(value) is int and value > 0), default=None)


async def list_models(client: "AsyncOpenAI", where: str) -> Listing:
    """List the models. Where no list is kept, check that the server has a chat at least.

    Raises SelectorUnavailable when it has none, APIStatusError when a key is needed to know.
    """
    from openai import APIStatusError

    try:
        _, models = await _get(client, "/models")
    except APIStatusError as error:  # some keys may ask models and not list them
        return Listing(refusal=error)
    rows = models.get("data") if isinstance(models, dict) else None
    listed = {str(row["id"]): row for row in rows or () if isinstance(row, dict) and "id" in row}
    if listed:
        return Listing(listed)
    status, body = await _get(client, "/chat/completions", {})  # without a message: refused before a model is asked
    is_error = status == 200 and (not isinstance(body, dict) or "error" in body)  # LM Studio's way to say 404
    if is_error or status in (404, 405):
        raise SelectorUnavailable(
            f"the server at {where} does not answer as OpenAI's does. Name its base URL with --host: most end in /v1"
        )
    return Listing()


async def _get(client: "AsyncOpenAI", path: str, body: dict[str, Any] | None = None) -> tuple[int, object]:
    """The status and the body at a path; raises APIStatusError when it takes a key, or another one, to know."""
    from openai import APIStatusError

    try:
        if body is None:
            return 200, await client.get(path, cast_to=object)
        return 200, await client.post(path, body=body, cast_to=object)
    except APIStatusError as error:
        if problem := redirect_problem(error.status_code, error.response.headers, shown_url(str(client.base_url))):
            raise SelectorUnavailable(problem) from None
        if error.status_code in (401, 403):
            raise
        return error.status_code, None
    except ValueError:  # not JSON
        return 200, None
