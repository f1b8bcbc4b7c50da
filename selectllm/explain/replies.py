"""The replies that say what became of a row, and the rounds of the tournament that it was in."""

import re
from collections.abc import Collection, Sequence
from dataclasses import fields
from math import inf

from selectllm.explain.explanation import Answer, Round
from selectllm.explain.lineage import Lineage, Row
from selectllm.llm.ledger import Entry


def answers_about(
    lineage: Lineage, id: str, members: Collection[str], ranks: Sequence[Row], tournament: Sequence[Row]
) -> tuple[Answer, ...]:
    """The replies about a row that the run's ranks rest on, and those to the same questions that could not be used.

    Parameters: `members` and `ranks`, the ids and the RANKINGS of the row's query; `tournament`, all of TOURNAMENT.

    All runs of a store share a ledger. A reply that a rank rests on is known by its key. Another one belongs to the run
    when its line names a question of the run, and it showed the question's rows, by the run's seed; and when it was an
    attempt before the one that was used, or the question abstained. Lines older than version 0.2 name no question: they
    are known by their keys alone.
    """
    rounds = {key: 0 for rank in ranks for key in _keys(rank)}
    rounds |= {key: rank["round"] for rank in tournament for key in _keys(rank)}
    entries = lineage.replies(id)
    used = {(entry.question, entry.shown): entry.attempt for entry in entries if entry.key in rounds}
    abstained = set(map(_name, lineage.abstained_questions))
    asked = {_name(question) for question, _ in used} | abstained
    tier = {rank["id"] for rank in tournament}

    def round_of(entry: Entry) -> int | None:
        """The round that a reply belongs to, 0 for the row's own query; None where it is another run's."""
        if entry.key in rounds:
            return rounds[entry.key]
        name = _name(entry.question)
        is_of_run = entry.question and name in asked and entry.seed == lineage.seed + entry.attempt - 1
        is_unused = name in abstained or entry.outcome not in ("used", "repaired")
        if not is_of_run or not is_unused or entry.attempt >= used.get((entry.question, entry.shown), inf):
            return None
        number = int(match[1]) if (match := re.search(r" of round (\d+)$", name)) else 0
        return number if set(entry.shown) <= set(tier if number else members) else None

    numbered = ((entry, round_of(entry)) for entry in entries)
    return tuple(_answer(entry, number, entry.key in rounds) for entry, number in numbered if number is not None)


def rounds_of(id: str, tournament: Sequence[Row], answers: Sequence[Answer]) -> tuple[Round, ...]:
    """The rounds that the row was in; its rank is of the last one, and it came first in those before."""
    last = next((rank for rank in tournament if rank["id"] == id), None)
    if last is None:
        return ()
    whole = [answer for answer in answers if answer.used and not re.search(", (part|merge)", answer.question)]
    sizes = {answer.round: len(answer.shown) for answer in whole}
    earlier = [Round(number, sizes.get(number), rank=1, went_on=True) for number in range(1, last["round"])]
    return (*earlier, Round(last["round"], sizes.get(last["round"]), last["rank"], went_on=False))


def _answer(entry: Entry, number: int, used: bool) -> Answer:
    known = {**vars(entry), **vars(entry.reply), "round": number, "used": used}
    return Answer(**{field.name: known[field.name] for field in fields(Answer)})


def _name(question: str) -> str:
    """A question's name without its pass and part; a candidate's without its query, which depends on the pool."""
    return re.sub(r", .*| of query \d+.*", "", question)


def _keys(row: Row) -> list[str]:
    """The keys of the replies that a row's rank rests on: several where there were several passes."""
    return [key for key in (row["reply"] or "").split(",") if key]
