"""Reads what servers send for a completion: the fields are OpenAI's, the values are of many dialects."""

import json
from contextlib import suppress
from typing import Any, Final

from selectllm.llm.model import Reply

DONE_REASONS: Final = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
    **dict.fromkeys(("content_filter", "safety", "refusal"), "content_filter"),
}
"""What servers call the end of an answer, and what we call it; any other word is "unfinished"."""


def read_reply(completion: Any) -> Reply:
    """Read a completion; ValueError when it is none."""
    try:
        choice: dict[str, Any] = next(iter(completion.get("choices") or ()), {})
        message, usage = choice.get("message") or {}, completion.get("usage") or {}
        text, thinking = (
            choice.get("text") or _text(message),
            message.get("reasoning_content") or message.get("reasoning") or "",
        )
        if not text.strip() and _is_json_object(thinking):  # the server took the answer for a thought
            text, thinking = thinking, ""
        reason = DONE_REASONS.get(str(choice.get("finish_reason")).lower(), "unfinished")
        if not text.strip() and message.get("refusal"):  # the model's own, which OpenAI sends apart from the text
            reason = "content_filter"
        return Reply(
            text=text,
            thinking=thinking,
            done_reason=reason,
            prompt_tokens=usage.get("prompt_tokens") or 0,
            output_tokens=usage.get("completion_tokens") or 0,
            logprobs=_logprobs(choice.get("logprobs") or {}),
        )
    except (AttributeError, KeyError, TypeError):
        raise ValueError("what came is no chat completion") from None


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)  # Mistral sends parts, the thinking beside the text


def _logprobs(logprobs: dict[str, Any]) -> dict[str, float]:
    """The log-probabilities of the first token's likeliest alternatives, those that have one."""
    if places := logprobs.get("content"):  # of a chat, and of llama.cpp's raw completions
        likeliest = [(top["token"], top.get("logprob")) for top in places[0].get("top_logprobs") or ()]
    else:  # of the raw completions of OpenAI and vLLM
        likeliest = list(((logprobs.get("top_logprobs") or [None])[0] or {}).items())
    return {token: logprob for token, logprob in likeliest if logprob is not None}


def _is_json_object(text: object) -> bool:
    with suppress(ValueError, RecursionError, TypeError):
        return isinstance(json.loads(text), dict)  # type: ignore[arg-type]
    return False
