"""What asking a model took, in counts that add up over pieces and steps."""

from collections import Counter
from dataclasses import dataclass, field

from selectllm.llm.model import Reply


@dataclass
class Usage:
    """Counts of one step of one run. `asked` and `paid_*` are this run's; the others are of every reply it rests on."""

    asked: int = 0
    paid_prompt_tokens: int = 0
    paid_output_tokens: int = 0
    replies: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    queued_seconds: float = 0.0  # that requests waited in the servers' own queues, by the servers' own account
    errors_by_kind: Counter[str] = field(default_factory=Counter)

    def pay_for(self, reply: Reply) -> None:
        """Count a reply that a server has given to this run."""
        self.asked += 1
        self.paid_prompt_tokens += reply.prompt_tokens
        self.paid_output_tokens += reply.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: value + getattr(other, name) for name, value in vars(self).items()})
