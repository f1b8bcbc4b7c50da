"""What a server that speaks OpenAI's API takes of a request: its refusals and its replies teach it.

These servers agree on the path and on little else. What decides is what a server does, not its name.
"""

import re
from collections.abc import Collection
from typing import Any, Final

from selectllm.llm.context_guard import warn_once
from selectllm.llm.model import Reply, Request
from selectllm.llm.openai_errors import Refusal

MANY_LOGPROBS: Final = 20  # alternatives to a token that are asked for
FEW_LOGPROBS: Final = 5  # which all servers give that give any

# Fields that an answer can do without, each with the words of a refusal that means it.
DISPENSABLE: Final = {
    "response_format": r"response_format|schema|grammar|structured",  # the answer is read with tolerance
    "temperature": r"\btemperature\b",
    "seed": r"\bseed\b",
    "reasoning_effort": r"reasoning_effort",
}
# Fields in whose place another one, or another value, is sent.
REPLACEABLE: Final = {"max_completion_tokens": r"max_completion_tokens", "logprobs": r"logprobs"}


class Dialect:
    """How one model of one server is asked.

    `refused` are the fields that are given up from then on. Where the server `continues` a raw text, it is asked for
    log-probabilities in this way, else in a chat.
    """

    def __init__(self, model: str, *, is_ollama: bool = False) -> None:
        # Ollama takes the limit, and writes on for minutes: it is not tried.
        self.refused: set[str] = {"max_completion_tokens"} if is_ollama else set()
        self.continues = False
        self._model = model

    def path(self, request: Request) -> str:
        """Where a request goes."""
        return "/completions" if request.logprobs and self.continues else "/chat/completions"

    def body(self, request: Request, refused: Collection[str] | None = None) -> dict[str, Any]:
        """The body of a request, without what the server has refused, or without other fields."""
        refused = self.refused if refused is None else set(refused)
        body: dict[str, Any] = {"model": self._model, "temperature": request.temperature, "seed": request.seed}
        top = FEW_LOGPROBS if "logprobs" in refused else MANY_LOGPROBS
        if request.logprobs and self.continues:
            body |= {"prompt": request.text, "max_tokens": request.max_tokens, "logprobs": top}
        else:
            limit = "max_tokens" if "max_completion_tokens" in refused else "max_completion_tokens"
            body |= {"messages": request.messages, limit: request.max_tokens}
            if request.think == "low":
                body["reasoning_effort"] = "low"
            if request.logprobs:
                body |= {"logprobs": True, "top_logprobs": top}
            elif request.schema is not None:
                form = {"name": "answer", "strict": True, "schema": request.schema}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
        return {field: value for field, value in body.items() if field not in refused & DISPENSABLE.keys()}

    def learn_from_refusal(self, refusal: Refusal, body: dict[str, Any]) -> None:
        """Give up the fields of a body that a refusal is about, if it is about fields at all."""
        if refusal.may_name_a_field:
            about = refusal.param or refusal.signs
            fields = (DISPENSABLE | REPLACEABLE).items()
            self.refused |= {field for field, words in fields if re.search(words, about, re.IGNORECASE)} & body.keys()

    def learn_from_reply(self, reply: Reply, body: dict[str, Any]) -> None:
        """Notice a server that takes the limit of an answer's tokens and does not keep to it."""
        if reply.output_tokens > body.get("max_completion_tokens", reply.output_tokens):
            self.refused.add("max_completion_tokens")
            warn_once(f"{self._model} ignores max_completion_tokens: max_tokens is sent to it from now on")
