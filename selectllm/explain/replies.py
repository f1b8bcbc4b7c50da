"""The replies that say what became of a row, and the rounds of the tournament that it was in."""

from collections.abc import Mapping, Sequence
from typing import Any

from selectllm.explain.explanation import Answer, Round
from selectllm.explain.lineage import Lineage
from selectllm.llm.ledger import Entry


def answers_about(
    trail: Lineage, id: str, members: set[str], ranks: Mapping[str, Any], standings: Sequence[Mapping[str, Any]]
) -> tuple[Answer, ...]:
    """The replies that ranks rest on, of those that showed the row, and those that came to nothing.

    A reply does not say which run it was for, and others of the store may have shown the row too. Those that ranks rest
    on are known by key; the rest must be of the run's seed, and about rows that met in this run.
    """
    standing = next((one for one in standings if one["id"] == id), None)
    used = {key: 0 for one in ranks.values() for key in _keys(one)}
    used |= {key: one["round"] for one in standings for key in _keys(one)}
    entries = trail.replies(id)
    met = {frozenset(entry.shown): used[entry.key] for entry in entries if entry.key in used}
    level = {one["id"] for one in standings}
    seed = trail.rankings.settings["seed"]

    def round_of(entry: Entry) -> int | None:
        if entry.key in used:
            return used[entry.key]
        shown, failed = frozenset(entry.shown), entry.outcome not in ("used", "repaired")
        if entry.seed != seed + entry.attempt - 1 or (len(shown) == 1) != trail.is_pointwise:
            return None
        if shown in met:
            return met[shown] if failed else None
        if shown <= members and 0 not in met.values():  # an abstention, or a query that was too long and halved
            return 0 if failed or shown < members else None
        if failed and shown <= level and standing and standing["rank"] is None:
            return int(standing["round"])
        return None

    return tuple(
        Answer(
            key=entry.key,
            round=number,
            used=entry.key in used,
            attempt=entry.attempt,
            outcome=entry.outcome,
            model=entry.model,
            shown=entry.shown,
            text=entry.reply.text,
            thinking=entry.reply.thinking,
            prompt_tokens=entry.reply.prompt_tokens,
            output_tokens=entry.reply.output_tokens,
        )
        for entry in entries
        if (number := round_of(entry)) is not None
    )


def rounds_of(id: str, standings: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> tuple[Round, ...]:
    """The rounds that the row was in; its standing is of the last one, and it came first in those before."""
    own = next((one for one in standings if one["id"] == id), None)
    if own is None:
        return ()
    shown = {answer.round: set(answer.shown) for answer in answers if answer.used}
    return tuple(
        Round(
            number,
            len(shown[number]) if number in shown else None,
            own["rank"] if number == own["round"] else 1,
            number < own["round"],
        )
        for number in range(1, own["round"] + 1)
    )


def _keys(row: Mapping[str, Any]) -> list[str]:
    """The keys of the replies that a row's rank rests on: several where there were several passes."""
    return [key for key in (row["reply"] or "").split(",") if key]
