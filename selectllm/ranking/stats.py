"""What ranking took and gave, in counts that add up over batches, pages and steps."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

import numpy as np

from selectllm.llm.usage import Usage
from selectllm.ranking.aggregation import position_bias_pvalue

ANSWER_HEAD: Final = 3  # first numbers of an answer, by which answers are compared
COMPARED_SIZE: Final = 4  # candidates of a question; answers about fewer are too often the same by chance
ANSWERS_KEPT: Final = 10  # different answers that an artifact names, the most frequent first
LEAST_ANSWERS: Final = 8  # of which so large a share is the same that no judge gives them
CONSTANT_SHARE: Final = 0.9

PAID: Final = ("asked", "paid_prompt_tokens", "paid_output_tokens")


@dataclass
class RankingStats:
    """Counts of one step of one run; `usage` is what asking the model took."""

    usage: Usage = field(default_factory=Usage)
    ranked: int = 0  # queries, or, pointwise, candidates
    abstained: int = 0  # the same, without a usable answer
    repaired: int = 0  # answers
    reasked: int = 0  # questions that were put more than once
    reasked_old: int = 0  # questions asked again although an earlier run had given them up
    split: int = 0  # lists that did not fit the model's context, and were halved
    ties: int = 0  # that Borda's count left between neighbours, broken by rule
    errors_by_kind: Counter[str] = field(default_factory=Counter)  # of answers; those of requests are in `usage`
    undecided: int = 0  # rows of a tournament that no answer places: they stand by rank, then by id
    refused_rows: Counter[str] = field(default_factory=Counter)  # whose content the provider refused, by id
    abstained_questions: Counter[str] = field(default_factory=Counter)  # those without a usable answer, by name
    agreement_by_question: dict[str, float] = field(default_factory=dict)  # Kendall's W over several passes, by name
    first_picks: Counter[str] = field(default_factory=Counter)  # "shown:position" of each, from 0
    answers: Counter[str] = field(default_factory=Counter)  # the first numbers of each, such as "3,1,2"

    def __add__(self, other: "RankingStats") -> "RankingStats":
        return RankingStats(**{name: _sum(value, getattr(other, name)) for name, value in vars(self).items()})

    def count_answer(self, shown: int, numbers: Sequence[int]) -> None:
        """Count a usable answer: the numbers that it names of so many candidates shown."""
        self.first_picks[f"{shown}:{numbers[0] - 1}"] += 1
        if shown >= COMPARED_SIZE:
            self.answers[",".join(map(str, numbers[:ANSWER_HEAD]))] += 1

    def paid(self) -> dict[str, int]:
        """What this very run paid for."""
        return {name: getattr(self.usage, name) for name in PAID}

    def facts(self) -> dict[str, Any]:
        """The counts as an artifact keeps them: whichever run paid."""
        facts = vars(self.usage) | vars(self) | {"errors_by_kind": self.usage.errors_by_kind + self.errors_by_kind}
        facts["answers"] = dict(self.answers.most_common(ANSWERS_KEPT))
        return {
            name: dict(sorted(value.items())) if isinstance(value, dict) else value
            for name, value in facts.items()
            if name not in (*PAID, "usage")
        }


def merge(*facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of several steps together."""
    names = dict.fromkeys(name for step in facts for name in step)
    return {name: reduce(_sum, (step[name] for step in facts if name in step)) for name in names}


def agreement(facts: Mapping[str, Any]) -> float | None:
    """The mean of Kendall's W over the queries that were asked about more than once; None without any."""
    values = facts["agreement_by_question"].values()
    return round(sum(values) / len(values), 4) if values else None


def position_bias(facts: Mapping[str, Any]) -> float | None:
    """How probable first picks so uneven over the positions shown are for a selector that ignores positions."""
    picks = [tuple(map(int, pick.split(":"))) for pick, count in facts["first_picks"].items() for _ in range(count)]
    shown, positions = (np.array([pick[side] for pick in picks], dtype=np.int64) for side in (0, 1))
    return position_bias_pvalue(positions, shown)


def constant_answer(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `numbers` with which nearly all answers begin, and their `share`; None where answers differ, or are few.

    Candidates are shown in shuffled orders: a selector that answers the same numbers has not looked at them.
    """
    picks = facts["first_picks"].items()
    total = sum(count for pick, count in picks if int(pick.partition(":")[0]) >= COMPARED_SIZE)
    answers: Mapping[str, int] = facts.get("answers", {})  # older artifacts have none
    numbers = max(answers, key=answers.__getitem__, default="")
    if total < LEAST_ANSWERS or answers.get(numbers, 0) < CONSTANT_SHARE * total:
        return None
    return {"numbers": [int(number) for number in numbers.split(",")], "share": round(answers[numbers] / total, 4)}


def _sum(left: Any, right: Any) -> Any:
    """Counts added, and mappings of them key by key; a 0 stays, which Counter's own sum would drop."""
    if not isinstance(left, dict):
        return left + right
    return type(left)({key: left.get(key, 0) + right.get(key, 0) for key in left | right})
