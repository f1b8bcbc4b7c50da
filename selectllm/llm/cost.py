"""What the asking may cost: checked before each question, and before each batch of them by an estimate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from selectllm.errors import CostExceeded
from selectllm.llm.context_guard import BYTES_PER_TOKEN
from selectllm.llm.model import Request
from selectllm.llm.usage import Usage


@dataclass(frozen=True)
class CostLimit:
    """What the asking may cost."""

    max_cost: float = math.inf
    price_in: float = 0.0  # of a prompt's token
    price_out: float = 0.0  # of an answer's token
    paid_before: tuple[int, int] = (0, 0)  # tokens of prompts and of answers that earlier steps of the run paid for

    def check(self, usage: Usage) -> None:
        """Raise CostExceeded when the run, with this usage, may cost no more."""
        cost = self._cost(usage)
        if cost >= self.max_cost:
            raise CostExceeded(
                f"this run has cost {cost:.2f}, and --max-cost is {self.max_cost:.2f}. All replies are kept: "
                "raise it and run again to go on from here"
            )

    def check_batch(self, usage: Usage, requests: Iterable[Request]) -> None:
        """Raise CostExceeded when the run may cost too much with these requests, which are not answered yet.

        Prompts are counted at 2.5 bytes a token, which is many tokens for most texts, and answers at their most tokens.
        """
        cost, most = self._cost(usage), 0.0
        for request in requests:
            prompt_tokens = len(request.whole_text.encode()) / BYTES_PER_TOKEN
            most += prompt_tokens * self.price_in + request.max_tokens * self.price_out
        if cost + most > self.max_cost:
            raise CostExceeded(
                f"this run has cost {cost:.2f}, its next batch may cost up to {most:.2f}, and --max-cost is "
                f"{self.max_cost:.2f}: the batch is not sent. All replies are kept: raise it and run again to go on "
                "from here"
            )

    def _cost(self, usage: Usage) -> float:
        prompt_tokens = self.paid_before[0] + usage.paid_prompt_tokens
        output_tokens = self.paid_before[1] + usage.paid_output_tokens
        return prompt_tokens * self.price_in + output_tokens * self.price_out


NO_LIMIT: Final = CostLimit()
