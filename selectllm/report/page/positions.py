"""First picks by the position at which the prompt showed the row, against picks that take no notice of positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from selectllm.ranking.stats import merge, position_bias
from selectllm.report.page.source import RunSource

RANKING_STEPS: Final = ("rankings", "looks", "tournament")


@dataclass(frozen=True)
class Position:
    """A position, from 1: how many first picks stood there, and how many an even selector would have made there."""

    number: int
    picks: int
    even: float


def ranking_facts(source: RunSource) -> dict[str, Any]:
    """The facts of the steps that ranked, together; empty where none did."""
    facts = [source.facts(kind) for kind in RANKING_STEPS if source.facts(kind)]
    return merge(*facts) if facts else {}


def first_picks(facts: Mapping[str, Any]) -> list[Position]:
    """The first picks by position; none where no list was ranked, or the facts are older than that count."""
    picks: dict[int, int] = {}
    even: dict[int, float] = {}
    for pick, count in facts.get("first_picks", {}).items():
        shown, position = map(int, pick.split(":"))
        picks[position] = picks.get(position, 0) + count
        for place in range(shown):
            even[place] = even.get(place, 0.0) + count / shown
    return [Position(place + 1, picks.get(place, 0), even[place]) for place in sorted(even)]


def bias(facts: Mapping[str, Any]) -> float | None:
    """How probable picks so uneven are for a selector that ignores positions; None where that cannot be said."""
    return position_bias(facts) if facts.get("first_picks") else None
