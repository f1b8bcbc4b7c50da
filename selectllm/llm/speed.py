"""How fast a model reads and writes, by the account of its own replies, and whether that is fast enough."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from selectllm.llm.model import Reply
from selectllm.settings import RankingSettings

BYTES_PER_TOKEN: Final = 4.0
"""Of UTF-8: usual for English. Other languages take more tokens, so whoever uses it says that this is an estimate."""


@dataclass(frozen=True)
class Speed:
    """Tokens a second that a model reads of prompts and writes of answers."""

    read: float
    written: float = math.inf

    @classmethod
    def of(cls, replies: Iterable[Reply]) -> "Speed | None":
        """The speed that replies show; None where no server has counted its time."""
        read = written = read_duration = write_duration = 0
        for reply in replies:
            if reply.prompt_duration and reply.prompt_tokens:
                read, read_duration = read + reply.prompt_tokens, read_duration + reply.prompt_duration
                written, write_duration = written + reply.output_tokens, write_duration + reply.output_duration
        if not read_duration:
            return None
        return cls(1e9 * read / read_duration, 1e9 * written / write_duration if write_duration else math.inf)

    def seconds(self, prompt_tokens: float, output_tokens: float) -> float:
        """How long a question takes."""
        return prompt_tokens / self.read + output_tokens / self.written


def time_warning(seconds: float, options: RankingSettings) -> str:
    """What to say and to do about a question that takes so long; empty where there is time enough."""
    if seconds > options.deadline:
        times = f"--deadline {_round_up(3 * seconds)} --timeout {_round_up(2 * seconds)}"
        return (
            f"it cannot be answered within --deadline {options.deadline:g}: lower --query-size or --candidate-chars, "
            f"choose a smaller model, or set {times}"
        )
    if seconds > options.timeout:
        needed = _round_up(2 * seconds)
        return f"it will not be answered within --timeout {options.timeout:g} at the first try: set --timeout {needed}"
    return ""


def _round_up(seconds: float) -> int:
    return 60 * math.ceil(seconds / 60)
