"""What the asking took, in counts that add up over batches, blocks and steps."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

import numpy as np

from selectllm.ranking.aggregation import position_bias_pvalue

PAID: Final = ("asked", "paid_prompt_tokens", "paid_output_tokens")


@dataclass
class RequestStats:
    """Counts of one step of one run. `asked` and `paid_*` are this run's; all others are of every reply it rests on."""

    asked: int = 0
    paid_prompt_tokens: int = 0
    paid_output_tokens: int = 0
    replies: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    ranked: int = 0  # queries, or, pointwise, candidates
    abstained: int = 0  # the same, without a usable answer
    repaired: int = 0  # answers
    reasked: int = 0  # questions that were put more than once
    split: int = 0  # lists that did not fit the model's context, and were halved
    queued: float = 0.0  # seconds that requests waited in the servers' own queues
    ties: int = 0  # that Borda's count left between neighbours, broken by rule
    faults: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)  # the questions without a usable answer, each once, by name
    concordances: dict[str, float] = field(default_factory=dict)  # Kendall's W over several passes, by name
    picks: Counter[str] = field(default_factory=Counter)  # "shown:position" of each first pick

    def picked(self, position: int, shown: int) -> None:
        """Note at which place, from 0, of how many shown the first pick stood."""
        self.picks[f"{shown}:{position}"] += 1

    def __iadd__(self, other: "RequestStats") -> "RequestStats":
        for name, value in vars(other).items():
            setattr(self, name, _sum(getattr(self, name), value))
        return self

    def paid(self) -> dict[str, int]:
        """What this very run paid for."""
        return {name: getattr(self, name) for name in PAID}

    def facts(self) -> dict[str, Any]:
        """The counts as an artifact keeps them: whichever run paid."""
        return {
            name: dict(sorted(value.items())) if isinstance(value, dict) else value
            for name, value in vars(self).items()
            if name not in PAID
        }


def added(*facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of several steps together."""
    names = dict.fromkeys(name for one in facts for name in one)
    total: dict[str, Any] = {}
    for name in names:
        total[name] = reduce(_sum, (one[name] for one in facts if name in one))
    return total


def _sum(one: Any, other: Any) -> Any:
    """Numbers added, and mappings of them key by key; a 0 stays, which Counter's own sum would drop."""
    if not isinstance(one, dict):
        return one + other
    return type(one)({key: one.get(key, 0) + other.get(key, 0) for key in one | other})


def agreement(facts: Mapping[str, Any]) -> float | None:
    """The mean of Kendall's W over the queries that were asked about more than once; None without any."""
    found = facts["concordances"].values()
    return round(sum(found) / len(found), 4) if found else None


def position_bias(facts: Mapping[str, Any]) -> float | None:
    """How probable first picks so uneven over the places shown are for a selector that does not look at places."""
    places = [tuple(map(int, place.split(":"))) for place, count in facts["picks"].items() for _ in range(count)]
    shown, positions = (np.array([place[side] for place in places], dtype=np.int64) for side in (0, 1))
    return position_bias_pvalue(positions, shown)
