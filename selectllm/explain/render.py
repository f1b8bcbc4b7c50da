"""Says in words what became of a row. Nothing that a pool or a model wrote reaches a terminal as it is."""

import textwrap
from typing import Final

from selectllm.explain.explanation import Answer, Explanation, Round
from selectllm.report.format import one_line

REPLY: Final = 2000
"""Characters of a reply that are shown; the JSON has all of them."""

PASSES: Final = 6
"""Passes of which the place that a candidate was shown at is told."""

ID: Final = 8
"""Digits of an id or key that are shown."""


def explained(found: Explanation, width: int = 120) -> str:
    """An explanation, as plain text of lines of about `width` columns."""
    row = f"Row {found.row}" if found.repeat is None else f"Row {found.repeat}, which repeats row {found.row}"
    lines = [
        f"{row} of the pool{f', id {found.id}' if found.id else ''}",
        f"  {one_line(found.instruction, width - 2)}",
    ]
    if found.input:
        lines.append(f"  {one_line(found.input, width - 2)}")
    verdict = f"Chosen, as {found.decision.order:,} of {found.selected:,}" if found.decision.chosen else "Not chosen"
    lines += [
        f"Run {one_line(found.run, 60)}: {found.selected:,} rows chosen, ranked by {one_line(found.model, 60)}",
        "",
        f"{verdict}: {one_line(because(found), 10 * width)}.",
    ]
    if found.candidates:
        lines += ["", *_query(found, width)]
    for round in found.rounds:
        lines += ["", _round(round)]
        lines += [line for one in found.answers if one.round == round.number for line in _answer(one, width)]
    return "\n".join(lines)


def because(found: Explanation) -> str:
    """Why the row was chosen or not, as the end of a sentence."""
    decision, query, place = found.decision, f"query {found.query_id}", f"at place {found.decision.place}"
    of_level = f"ranked {found.rank} in {query}; of the {decision.rows} rows of that rank {decision.taken} were chosen"
    match decision.why:
        case "rank" if found.rounds:
            return f"{of_level}, this one by its rank alone: the tournament had no usable answer about it"
        case "rank":
            return f"ranked {found.rank} in {query}, and all rows of that rank were chosen"
        case "tournament":
            return f"{of_level}, and the tournament put it {place}"
        case "place" if found.rounds:
            return f"{of_level}, and the tournament put it {place}: it left in round {len(found.rounds)}"
        case "score" | "place":
            return f"{of_level}, and its score puts it {place}"
        case "level":
            return f"ranked {found.rank} in {query}, and the budget was full at rank {decision.level}"
        case "unranked":
            ranked = sum(one.rank is not None for one in found.candidates)
            return f"the model named {ranked} of the {len(found.candidates)} rows of {query}, and not this one"
        case "abstained":
            return f"no answer of the model about it could be used, in {query}"
        case "excluded" | "quarantined":
            return f"it was {decision.why}, {decision.reason}"
        case _:
            return "the run's tables do not say why"


def _query(found: Explanation, width: int) -> list[str]:
    """The row's query: its candidates with the places that the prompts showed them at, and what was answered."""
    about = [one for one in found.answers if not one.round]
    orders = list(dict.fromkeys(one.shown for one in about))[:PASSES]
    shown = {one.id: "/".join(_place(one.id, order) for order in orders) for one in found.candidates}
    wide = max(6, *map(len, shown.values()))
    lines = [
        f"Query {found.query_id}: {len(found.candidates)} rows, their ranks (* chosen) and where prompts showed them",
        f"  {'rank':>6}  {'shown':>{wide}} {'row':>9}  {'id':<{ID}}  instruction",
    ]
    for one in found.candidates:
        mark, rank = ">" if one.id == found.id else " ", f"{one.rank or '-'}{'*' if one.chosen else ' '}"
        score = "" if one.score is None else f"{one.score:+.3f}  "
        start = f"{mark} {rank:>7} {shown[one.id]:>{wide}} {one.row:>9}  {one.id[:ID]}  {score}"
        lines.append(start + one_line(one.instruction, max(width - len(start), 20)))
    return lines + [line for one in about for line in _answer(one, width)]


def _place(id: str, order: tuple[str, ...]) -> str:
    return str(order.index(id) + 1) if id in order else "-"


def _round(round: Round) -> str:
    if round.rank is None:
        return f"Tournament, round {round.number}: no answer could be used, and it went no further"
    met = "" if round.met is None else f" of {round.met}"
    return f"Tournament, round {round.number}: place {round.rank}{met}{', and went on' if round.went_on else ''}"


def _answer(one: Answer, width: int) -> list[str]:
    """A reply: what it is, its text escaped, and, where no list tells, the order that its prompt showed the rows in."""
    used = one_line(one.outcome, 40) + ("" if one.used else " (not used)")
    thought = f", after {len(one.thinking):,} characters of thought" if one.thinking else ""
    escaped = ascii(one.text)
    more = f" … and {len(escaped) - REPLY:,} more characters" if len(escaped) > REPLY else ""
    return [
        f"  Reply {one.key[:ID]}: attempt {one.attempt}, {used}, {one.prompt_tokens:,} tokens read and "
        f"{one.output_tokens:,} written{thought}",
        *(_shown(one, width) if one.round else []),
        f"    {escaped[:REPLY]}{more}",
    ]


def _shown(one: Answer, width: int) -> list[str]:
    order = "shown: " + " ".join(id[:ID] for id in one.shown)
    return textwrap.wrap(order, width, initial_indent="    ", subsequent_indent=" " * 11)
