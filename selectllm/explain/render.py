"""Says in words what became of a row. Nothing that a pool or a model wrote reaches a terminal as it is."""

import textwrap
from typing import Final

from selectllm.explain.explanation import Answer, Explanation, Look, Round, Share, Target
from selectllm.text import fit_line

REPLY_LENGTH: Final = 2000
"""Characters of a reply that are shown; the JSON has all of them."""

PASSES: Final = 6
"""Passes of which the position that a candidate was shown at is given."""

DIGITS: Final = 8
"""Digits of an id or key that are shown."""


def render_explanation(explanation: Explanation, width: int = 120) -> str:
    """An explanation, as plain text of lines of about `width` columns."""
    decision, row = explanation.decision, f"Row {explanation.row}"
    if explanation.repeat is not None:
        row = f"Row {explanation.repeat}, which repeats row {explanation.row}"
    if explanation.origin:
        row += f" ({fit_line(explanation.origin, 80)})"
    lines = [f"{row} of the pool{f', id {explanation.id}' if explanation.id else ''}"]
    lines += [f"  {fit_line(text, width - 2)}" for text in (explanation.instruction, explanation.input) if text]
    by = f"ranked by {fit_line(explanation.model, 60)}"
    if not explanation.model:
        by = f"by the strategy {fit_line(explanation.strategy, 60)}"
    chosen = f"Chosen, as {decision.order:,} of {explanation.selected:,}" if decision.chosen else "Not chosen"
    lines += [
        f"Run {fit_line(explanation.run, 60)}: {explanation.selected:,} rows chosen, {by}",
        "",
        f"{chosen}: {fit_line(reason_text(explanation), 10 * width)}.",
    ]
    if explanation.target:
        lines.append(_target(explanation.target))
    if explanation.reason:
        lines.append(f"In the model's words: {fit_line(explanation.reason, 10 * width)}")
    if explanation.candidates:
        lines += ["", *_query(explanation, width)]
    elif explanation.scores or explanation.decision.why == "abstained":
        lines += [line for answer in explanation.answers for line in ("", *_answer(answer, width))]
    for round in explanation.rounds:
        answers = [answer for answer in explanation.answers if answer.round == round.number]
        lines += ["", _round(round), *(line for answer in answers for line in _answer(answer, width))]
    for number in dict.fromkeys(look.round for look in explanation.looks):
        lines += ["", *(_look(look) for look in explanation.looks if look.round == number)]
        answers = [answer for answer in explanation.answers if answer.round == number]
        lines += [line for answer in answers for line in _answer(answer, width)]
    return "\n".join(lines)


def reason_text(explanation: Explanation) -> str:
    """Why the row was chosen or not, as the end of a sentence."""
    decision = explanation.decision
    query, place = f"query {explanation.query_id}", f"at place {decision.place}"
    rank, of_query = f"ranked {explanation.rank} in {query}", "" if explanation.query_id is None else f", in {query}"
    of_tier = f"{rank}; of the {decision.rows} rows of that rank {decision.taken} were chosen"
    if (decision.spread or decision.share) and decision.place:
        return _of_place(explanation, rank)
    if explanation.rating is not None and decision.why in ("rating", "place"):
        return f"{_rating(explanation)}: that puts it {place}, and {explanation.selected:,} rows were chosen"
    if explanation.scores and (decision.place or decision.chosen):
        return _by_scores(explanation)
    match decision.why:
        case "rank" if explanation.rounds:
            return f"{of_tier}, this one by its rank alone: the tournament had no usable answer about it"
        case "rank":
            return f"{rank}, and all rows of that rank were chosen"
        case "tournament":
            return f"{of_tier}, and the tournament put it {place}"
        case "place" if explanation.rounds:
            return f"{of_tier}, and the tournament put it {place}: it left in round {len(explanation.rounds)}"
        case "place" if not explanation.model or decision.tier is None:
            return f"the strategy {explanation.strategy} puts it {place}, and {explanation.selected:,} rows were chosen"
        case "score" | "place" if explanation.model:
            return f"{of_tier}, and its score puts it {place}"
        case "tier":
            return f"{rank}, and the budget was full at rank {decision.tier}"
        case "unnamed" if explanation.scores:
            return (
                f"the strategy {explanation.strategy} does not name it: it names only the rows that it would choose, "
                "and others came first, or say nearly the same"
            )
        case "unnamed":
            return f"the strategy {explanation.strategy} named other rows, as many as the choice needs"
        case "unranked":
            ranked = sum(candidate.rank is not None for candidate in explanation.candidates)
            return f"the model named {ranked} of the {len(explanation.candidates)} rows of {query}, and not this one"
        case "abstained":
            return f"no answer of the model about it could be used{of_query}"
        case "refused":
            return f"the model's provider refused what it says, so it was set aside{of_query.replace(', in', ' from')}"
        case "off_target":
            return "it is not on the shortlist of the rows that are nearest to the examples"
        case "excluded" | "quarantined":
            return f"it was {decision.why}, {decision.reason}"
        case "random":
            return "it was drawn at random, by the seed"
        case "length":
            return f"it is among the {'shortest' if explanation.strategy == 'shortest' else 'longest'}"
        case "cluster":
            return "it was drawn at random from its cluster, by the seed"
        case "distance":
            return "of the rows left it lay farthest from all rows chosen before"
        case "cover":
            return "of the rows left it raised most how well all rows are covered"
        case "ball":
            return "of the rows left most rows lay around it that lay around none chosen before"
        case "novelty":
            return "of the rows left it was the most novel beside those chosen before"
        case "wording":
            return "its wording is among those least like other rows'"
        case _ if decision.chosen:
            return f"by the strategy {explanation.strategy}: {decision.why}"
        case _:
            return "the run's tables do not say why"


def _rating(explanation: Explanation) -> str:
    told = sum(answer.used for answer in explanation.answers)
    return f"rated {explanation.rating:+.2f}, give or take {explanation.spread:.2f}, by {told} answers"


def _by_scores(explanation: Explanation) -> str:
    """Why a row was chosen or not that the model was asked about by itself."""
    scores = ", ".join(f"{name} {score:g}" for name, score in explanation.scores.items())
    place = "" if explanation.decision.place is None else f": that puts it at place {explanation.decision.place}"
    return f"{scores}, by the strategy {explanation.strategy}{place}, and {explanation.selected:,} rows were chosen"


def _of_place(explanation: Explanation, rank: str) -> str:
    """Why a preferred row was chosen or not, where the chosen rows must not say the same, or have quotas."""
    decision, standing = explanation.decision, f"the strategy {explanation.strategy} prefers it"
    if near := decision.near:
        return f"passed over: it is nearly the same (cosine {near.cosine:.2f}) as row {near.row}, which was chosen"
    if explanation.rating is not None:
        standing = _rating(explanation)
    elif explanation.rank is not None:
        standing = rank
    elif explanation.scores:
        standing = ", ".join(f"{name} {score:g}" for name, score in explanation.scores.items())
    place = f"{standing}: that puts it at place {decision.place}, and {explanation.selected:,} rows were chosen"
    if share := decision.share:
        place = f"{standing}: that puts it at place {share.place} of the rows with {_stratum(share)}"
        place += f", of which {share.wanted:,} were chosen"
    if decision.spread is None:
        return place
    if diversity := decision.spread.diversity:
        return f"{place} by rating and diversity together (diversity {diversity:g})"
    return f"{place} that are not nearly the same"


def _target(target: Target) -> str:
    if target.place is None:
        example = f"Nearest to row {target.example} of the examples"
    else:
        example = f"At place {target.place:,} of the shortlist, taken by row {target.example} of the examples"
    return f"{example} (cosine {target.cosine:.2f}, score {target.score:.2f})."


def _stratum(share: Share) -> str:
    column = fit_line(share.column, 60)
    return f"{column} = {fit_line(share.stratum, 60)}" if share.stratum else f"{column} that no quota names"


def _query(explanation: Explanation, width: int) -> list[str]:
    """The row's query: its candidates with the positions that prompts showed them at, and the replies."""
    answers = [answer for answer in explanation.answers if not answer.round]
    orders = list(dict.fromkeys(answer.shown for answer in answers))[:PASSES]
    candidates = explanation.candidates
    positions = [{id: str(position) for position, id in enumerate(order, start=1)} for order in orders]
    shown = {row.id: "/".join(position.get(row.id, "-") for position in positions) for row in candidates}
    wide = max(6, *map(len, shown.values()))
    lines = [
        f"Query {explanation.query_id}: {len(candidates)} rows, their ranks (* chosen) and where prompts showed them",
        f"  {'rank':>6}  {'shown':>{wide}} {'row':>9}  {'id':<{DIGITS}}  instruction",
    ]
    for candidate in candidates:
        mark = ">" if candidate.id == explanation.id else " "
        rank = f"{candidate.rank or '-'}{'*' if candidate.chosen else ' '}"
        score = "" if candidate.score is None else f"{candidate.score:+.3f}  "
        start = f"{mark} {rank:>7} {shown[candidate.id]:>{wide}} {candidate.row:>9}  {candidate.id[:DIGITS]}  {score}"
        lines.append(start + fit_line(candidate.instruction, max(width - len(start), 20)))
    return lines + [line for answer in answers for line in _answer(answer, width)]


def _look(look: Look) -> str:
    place = "the answer does not place it" if look.place is None else f"place {look.place}"
    return f"Further look, round {look.round}: {place} of {look.size}"


def _round(round: Round) -> str:
    if round.rank is None:
        return f"Tournament, round {round.number}: no answer could be used, and it went no further"
    size = "" if round.size is None else f" of {round.size}"
    return f"Tournament, round {round.number}: place {round.rank}{size}{', and went on' if round.went_on else ''}"


def _answer(answer: Answer, width: int) -> list[str]:
    """A reply and its text, escaped; in a round, which no list shows, also the order that its prompt showed rows in."""
    outcome = fit_line(answer.outcome, 40) + ("" if answer.used else " (not used)")
    question = f" to {fit_line(answer.question, 80)}" if answer.question else ""
    thought = f", after {len(answer.thinking):,} characters of thought" if answer.thinking else ""
    escaped, order = ascii(answer.text), "shown: " + " ".join(id[:DIGITS] for id in answer.shown)
    more = f" … and {len(escaped) - REPLY_LENGTH:,} more characters" if len(escaped) > REPLY_LENGTH else ""
    return [
        f"  Reply {answer.key[:DIGITS]}{question}: attempt {answer.attempt}, {outcome}, {answer.prompt_tokens:,} "
        f"tokens read and {answer.output_tokens:,} written{thought}",
        *(textwrap.wrap(order, width, initial_indent="    ", subsequent_indent=" " * 11) if answer.round else ()),
        f"    {escaped[:REPLY_LENGTH]}{more}",
    ]
