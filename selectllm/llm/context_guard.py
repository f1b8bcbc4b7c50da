"""Notices prompts that do not fit a model's context: before they are sent, and by the tokens that the server counted.

Many servers cut a prompt that is too long, and answer with status 200 as if they had read it. So every model, whoever
serves it, stands behind this check.
"""

import logging
import math
import re
from dataclasses import replace
from functools import cache
from typing import Final

from selectllm.errors import ContextLengthExceeded, TransientError
from selectllm.llm.model import ChatModel, ModelInfo, Reply, Request
from selectllm.llm.usage import Usage

log = logging.getLogger(__name__)

LOW_COUNT: Final = "low count"
"""The kind of error of a reply whose prompt was not read whole."""

CUT: Final = 2  # tokens on either side of half the context and two: what a server leaves of a prompt that it cuts
TWICE: Final = 1.5  # a prompt of which half was cut away seems to have about twice the bytes per token
BYTES_PER_TOKEN: Final = 2.5  # of UTF-8; low for most text, so that a context is rather too large than too small
MOST_BYTES_PER_TOKEN: Final = 8.0  # of a whole prompt, by any tokenizer: one counted as fewer tokens was not read whole
OBSERVED: Final = 8  # replies after which the model's own bytes per token are known well enough to reckon with
CONTEXT_STEP: Final = 1024  # contexts are multiples of it
LONGER: Final = "That was all. " * 4  # what is added to a prompt to see whether its count grows
LONG_REPEAT: Final = re.compile(r"(\S{1,4}?|\s)\1{7,}")  # tokenizers have tokens for long repeats, such as of spaces


class ContextGuard:
    """A model whose prompts are either read whole or refused.

    `answer` raises ContextLengthExceeded for a prompt that cannot fit, by the context or by what was cut before, and
    does not send it. It raises TransientError for a reply whose prompt was counted as fewer tokens than it has, and
    ContextLengthExceeded when the server cuts it each time: the same prompt gets the same low count again, or a longer
    prompt the same count. All else is the model's own.
    """

    def __init__(self, model: ChatModel, usage: Usage | None = None) -> None:
        self._model = model
        self._usage = usage or Usage()  # counts replies that are not handed on: they are paid for, too
        self._most_bytes_per_token = 0.0
        self._bytes, self._tokens, self._replies = 0, 0, 0  # of all prompts that were read whole
        self._low_counts: dict[str, int] = {}  # tokens of prompts that were counted low once, by their digests
        self._cuts: set[int] = set()  # tokens that prompts are cut to
        self._most_tokens = math.inf  # of a prompt that is not cut, as far as cuts have shown

    @property
    def info(self) -> ModelInfo:
        """Who the model is."""
        return self._model.info

    @property
    def host(self) -> str:
        """Where it is asked."""
        return self._model.host

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer share; None where nobody says."""
        return self._model.context

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Get the model ready."""
        await self._model.prepare(longest, max_tokens)

    async def answer(self, request: Request) -> Reply:
        """Answer one request, if its prompt can fit and was read whole."""
        size = len(request.whole_text.encode())
        self._check_request(request, size)
        reply = await self._model.answer(request)
        if reply.prompt_tokens:  # not every server counts
            try:
                await self._check_reply(request, reply, size)
            except BaseException:  # whatever it is, the reply has been paid for
                self._usage.pay_for(reply)
                raise
        return reply

    async def probe(self) -> None:
        """Find out whether the host answers at all."""
        await self._model.probe()

    async def verify(self) -> None:
        """Make sure that the model is still the same."""
        await self._model.verify()

    async def close(self) -> None:
        """Release the model."""
        await self._model.close()

    def _check_request(self, request: Request, size: int) -> None:
        bytes_per_token = self._most_bytes_per_token if self._replies >= OBSERVED else MOST_BYTES_PER_TOKEN
        if self.context and size / bytes_per_token + request.max_tokens > self.context:
            context = f"the {self.context:,} tokens that {self.info.name} reads"
            raise ContextLengthExceeded(f"{size:,} bytes do not fit {context}")
        if needs_more(request.whole_text, size, self._most_tokens):
            raise ContextLengthExceeded(f"{size:,} bytes are more than {self.info.name} reads: it cuts the prompt")

    async def _check_reply(self, request: Request, reply: Reply, size: int) -> None:
        tokens = reply.prompt_tokens
        counted = f"{self.info.name} counted {tokens:,} tokens in a prompt of {size:,} bytes"
        needed = 0 if reply.done_reason == "stop" else tokens + request.max_tokens
        if self.context and (tokens == self.context or needed > self.context):
            excess = f"more than the {self.context:,} that it reads"
            raise ContextLengthExceeded(f"{counted}: with its answer that is {excess}")
        if self._is_low(request.whole_text, size, tokens):
            if tokens not in self._cuts and self._low_counts.get(request.text_digest) != tokens:
                self._low_counts[request.text_digest] = tokens
                raise TransientError(f"{counted}: it was cut", LOW_COUNT)
            raise self._cut(counted, tokens)
        if self._is_full(tokens) and (tokens in self._cuts or await self._is_cut(request, tokens)):
            raise self._cut(counted, tokens)
        self._bytes += size
        self._tokens += tokens
        self._replies += 1
        self._most_bytes_per_token = max(self._most_bytes_per_token, size / tokens)

    def _is_low(self, text: str, size: int, tokens: int) -> bool:
        """Whether a count is too low for a prompt of so many bytes, whatever the model's tokenizer."""
        if needs_more(text, size, tokens):
            return True
        if self.context is None:
            return False
        # Never by a ratio alone: scripts differ threefold in it, and a pool may hold several.
        usual = self._bytes / self._tokens if self._replies >= OBSERVED else BYTES_PER_TOKEN
        return abs(tokens - self.context // 2 - 2) <= CUT and size / tokens > TWICE * usual

    def _is_full(self, tokens: int) -> bool:
        """Whether a count may be all of a context that nobody names, or half of one and two: by chance, too."""
        return self.context is None and tokens >= CONTEXT_STEP and tokens % CONTEXT_STEP in (0, 2)

    async def _is_cut(self, request: Request, tokens: int) -> bool:
        """Whether a longer prompt has no more tokens than this one, which costs one more request to know."""
        try:
            longer = replace(request, text=f"{request.text}\n{LONGER}", max_tokens=1)
            reply = await self._model.answer(longer)
        except ContextLengthExceeded:  # the server refuses what does not fit, and has read the shorter one whole
            return False
        self._usage.pay_for(reply)
        return reply.prompt_tokens == tokens

    def _cut(self, counted: str, tokens: int) -> ContextLengthExceeded:
        self._cuts.add(tokens)
        self._most_tokens = min(self._most_tokens, 2 * tokens)  # what is left is all of a context, or about half of it
        warn_once(
            f"{self.info.name} cuts long prompts without saying so. Such replies are not used: the queries are halved. "
            "To ask about whole queries, serve the model with a larger context"
        )
        return ContextLengthExceeded(f"{counted}, and no more when asked again: it cuts the prompt")


def least_tokens(text: str) -> float:
    """The fewest tokens that any tokenizer makes of a text: none joins words, or very many bytes."""
    text = LONG_REPEAT.sub(r"\1", text)
    return max(len(text.split()), len(text.encode()) / MOST_BYTES_PER_TOKEN)


def needs_more(text: str, size: int, tokens: float) -> bool:
    """Whether any tokenizer makes more than so many tokens of a text of `size` bytes of UTF-8.

    Repeats take long to find, and only lower the bound: they are looked for where it is higher with them.
    """
    if tokens == math.inf or max(len(text.split()), size / MOST_BYTES_PER_TOKEN) <= tokens:
        return False
    return least_tokens(text) > tokens


@cache
def warn_once(message: str) -> None:
    """Log a warning, the first time that this process has it."""
    log.warning("%s", message)
