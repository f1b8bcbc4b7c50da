"""The replies that say what became of a row, and the rounds of the tournament that it was in."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from selectllm.explain.explanation import Answer, Round
from selectllm.explain.lineage import Lineage
from selectllm.llm.ledger import Entry


def answers_about(
    lineage: Lineage, id: str, ranks: Collection[Mapping[str, Any]], tournament: Sequence[Mapping[str, Any]]
) -> tuple[Answer, ...]:
    """The replies that ranks rest on, of those that showed the row, and those that came to nothing.

    A ledger is shared by all runs of a store. Replies that ranks rest on are known by key. The others belong to this
    run when they answer a question of the same name about the same rows by the run's seed.
    """
    used = {key: 0 for rank in ranks for key in _keys(rank)}
    used |= {key: rank["round"] for rank in tournament for key in _keys(rank)}
    entries = lineage.replies(id)
    seed = lineage.rankings.settings["seed"] if lineage.rankings else 0
    rounds_of_rows = {frozenset(entry.shown): used[entry.key] for entry in entries if entry.key in used}
    query_id = next((rank["query_id"] for rank in ranks), None)
    placed = lineage.table("queries")["id"].index(id).as_py() if lineage.has("queries") else -1
    if query_id is None and placed >= 0:
        query_id = lineage.table("queries")["query_id"][placed].as_py()
    tier = {rank["id"] for rank in tournament}

    def round_of(entry: Entry) -> int | None:
        if entry.key in used:
            return used[entry.key]
        is_of_seed = entry.seed == seed + entry.attempt - 1
        question = re.sub(r",.*", "", entry.question)
        is_failed = entry.outcome not in ("used", "repaired")
        is_part = bool(re.search(r", (part|merge)", entry.question))
        if not is_of_seed or not (is_failed or is_part):
            return None
        if question == f"query {query_id}" or question.endswith(f" of query {query_id}"):
            return (
                0
                if (len(entry.shown) == 1) == lineage.is_pointwise and _are_members(lineage, entry, query_id)
                else None
            )
        if match := re.fullmatch(r"query \d+ of round (\d+)", question):
            return int(match[1]) if set(entry.shown) <= tier else None
        if (
            not entry.question
        ):  # a line without the name of its question: known when the same rows were in one query of this run
            return rounds_of_rows.get(frozenset(entry.shown))
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


def rounds_of(id: str, tournament: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> tuple[Round, ...]:
    """The rounds that the row was in; its rank is of the last one, and it came first in those before."""
    own = next((rank for rank in tournament if rank["id"] == id), None)
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


def _are_members(lineage: Lineage, entry: Entry, query_id: int | None) -> bool:
    """Whether all rows that a reply is about are of one query: another pool may have had a query of that number."""
    queries = lineage.table("queries")
    home = dict(zip(queries["id"].to_pylist(), queries["query_id"].to_pylist(), strict=True))
    return all(home.get(id) == query_id for id in entry.shown)


def _keys(row: Mapping[str, Any]) -> list[str]:
    """The keys of the replies that a row's rank rests on: several where there were several passes."""
    return [key for key in (row["reply"] or "").split(",") if key]
