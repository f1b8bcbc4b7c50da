"""Notices prompts that do not fit a model's context, before they are sent and by the tokens that the server counted."""

import math
from typing import Final

from selectllm.errors import ContextLengthExceeded, TransientError
from selectllm.llm.model import Reply

CUT: Final = 2  # tokens on either side of half the context and two: what a server leaves of a prompt that it cuts
TWICE: Final = 1.5  # a prompt of which half was cut away seems to have about twice the bytes per token
BYTES_PER_TOKEN: Final = 2.5  # of UTF-8; low for most text, so that the context is rather too large than too small
SPARE_TOKENS: Final = (
    512  # for what the model's template adds, and more: contexts are cheap beside loading a model anew
)
MOST_BYTES_PER_TOKEN: Final = 8.0  # of a whole prompt, by any tokenizer: one counted as fewer tokens was not read whole
OBSERVED: Final = 8  # replies after which the model's own bytes per token are known well enough to reckon with


class ContextGuard:
    """Watches the context of one model; `context` is its size in tokens, once it is known."""

    def __init__(self, name: str, longest_context: int | None) -> None:
        self.context: int | None = None
        self._name, self._longest_context = name, longest_context
        self._most_bytes_per_token = 0.0
        self._bytes, self._tokens, self._replies = 0, 0, 0  # of all prompts that were read whole

    def needed(self, longest: int, max_tokens: int) -> int:
        """Tokens of a context for prompts of up to `longest` bytes and answers of up to `max_tokens` tokens."""
        needed = 1024 * math.ceil((longest / BYTES_PER_TOKEN + SPARE_TOKENS + max_tokens) / 1024)
        return min(needed, self._longest_context or needed)

    def check_request(self, size: int, max_tokens: int) -> None:
        """Raise ContextLengthExceeded when a prompt of so many bytes cannot fit."""
        bytes_per_token = self._most_bytes_per_token if self._replies >= OBSERVED else MOST_BYTES_PER_TOKEN
        if self.context and size / bytes_per_token + max_tokens > self.context:
            context = f"the {self.context:,} tokens that {self._name} reads"
            raise ContextLengthExceeded(f"{size:,} bytes do not fit {context}")

    def check_reply(self, reply: Reply, size: int, max_tokens: int) -> None:
        """Raise ContextLengthExceeded or TransientError when the prompt was not read whole."""
        if not reply.prompt_tokens:  # not every server counts
            return
        counted = f"{self._name} counted {reply.prompt_tokens:,} tokens in a prompt of {size:,} bytes"
        if reply.done_reason != "stop" and self.context and reply.prompt_tokens + max_tokens > self.context:
            excess = f"more than the {self.context:,} that it reads"
            raise ContextLengthExceeded(f"{counted}: with its answer that is {excess}")
        if self._was_cut(size, reply.prompt_tokens):
            raise TransientError(f"{counted}: it was cut", "low count")
        self._bytes += size
        self._tokens += reply.prompt_tokens
        self._replies += 1
        self._most_bytes_per_token = max(self._most_bytes_per_token, size / reply.prompt_tokens)

    def _was_cut(self, size: int, tokens: int) -> bool:
        """Whether a prompt of so many bytes was read as too few tokens to have been read whole."""
        ratio = size / tokens
        if ratio > MOST_BYTES_PER_TOKEN:
            return True
        # Never by a ratio alone: scripts differ threefold in it, and a pool may hold several.
        usual = self._bytes / self._tokens if self._replies >= OBSERVED else BYTES_PER_TOKEN
        half = (self.context or 0) // 2 + 2
        return abs(tokens - half) <= CUT and ratio > TWICE * usual
