"""Has one list of candidates ranked: asks, asks again, keeps what a faulty answer says, halves what cannot be asked.

Nothing answers in the model's place: what no answer places is set aside, and is counted.
"""

import asyncio
import math
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

from selectllm.errors import ContentRefused, ContextLengthExceeded, TransientError
from selectllm.llm.caller import Caller
from selectllm.llm.ledger_lines import Entry
from selectllm.llm.model import Think
from selectllm.ranking.answers import REFUSED, Answer, describe_ranking, read_ranking
from selectllm.ranking.prompts import Candidate, Prompt, listwise
from selectllm.ranking.stats import RankingStats

T = TypeVar("T")

ATTEMPTS: Final = 4  # a question is put once, and up to three times more, each time naming what was wrong
GIVEN_UP: Final = "given up"  # the kind of a question whose tries have all failed: a later run asks it again
MOST_ROOM: Final = 8  # times the usual tokens, for answers that were cut off


@dataclass(frozen=True)
class Outcome:
    """What became of a list: the ids in the model's order, none when it abstained; a score for a yes or no.

    `aside` are the ids that no answer can place: refused by the provider, or in the end without a usable answer.
    `passes` are the ids in the order of each usable pass, where there were several.
    """

    ids: tuple[str, ...] = ()
    score: float | None = None
    reply: str | None = None  # keys of the replies that said so, with commas between them
    aside: tuple[str, ...] = ()
    passes: tuple[tuple[str, ...], ...] = ()

    @property
    def abstained(self) -> bool:
        """Whether no usable answer came."""
        return not self.ids


@dataclass(frozen=True)
class Pass:
    """One pass over a list: which it is, and what the ledger calls its question.

    With `halves`, a list without a usable answer is halved. With `is_suspect`, a part holds what was refused, and even
    one candidate alone is asked about.
    """

    index: int
    question: str
    halves: bool = False
    is_suspect: bool = False

    def part(self, name: str) -> "Pass":
        """The same pass over a part of the list, or over the heads of two parts."""
        return replace(self, question=f"{self.question}, {name}")


class ListRanker:
    """Asks one model about lists of candidates; `stats` counts what becomes of the questions."""

    def __init__(
        self, caller: Caller, stats: RankingStats, seed: int, think: Think, criteria: str | None = None
    ) -> None:
        self._caller, self._stats, self._seed, self._think, self._criteria = caller, stats, seed, think, criteria

    async def rank(self, candidates: Sequence[Candidate], top_k: int, pass_: Pass) -> Outcome:
        """Have the best `top_k` ranked; what cannot be asked about as a whole is halved, and the rankings are merged.

        Raises ModelError, CostExceeded.
        """
        ids = tuple(candidate.id for candidate in candidates)
        if len(ids) == 1 and not pass_.is_suspect:
            return Outcome(ids)
        is_refused = False
        try:
            outcome = await self._ask(candidates, min(top_k, len(ids)), pass_)
        except TransientError as error:
            return self.given_up(error)
        except ContextLengthExceeded as error:
            if len(ids) <= 2:
                return self.given_up(error)
        except ContentRefused as error:
            outcome = self.given_up(error)
            if len(ids) == 1:
                self._stats.refused_rows[ids[0]] += 1
                return replace(outcome, aside=ids)
            is_refused = True
        else:
            if len(ids) == 1:  # it was not refused, and that is all that was asked
                return replace(outcome, ids=ids)
            if not (outcome.abstained and pass_.halves):
                return outcome
            if len(ids) == 2:
                return replace(outcome, aside=ids)
        return await self._halved(candidates, top_k, replace(pass_, is_suspect=is_refused or pass_.is_suspect))

    async def _halved(self, candidates: Sequence[Candidate], top_k: int, pass_: Pass) -> Outcome:
        """Rank both halves, and merge their rankings; what one of them sets aside is left out."""
        self._stats.split += 1
        middle = math.ceil(len(candidates) / 2)
        halves = candidates[:middle], candidates[middle:]
        ranked = await gather_or_raise(self.rank(half, top_k, pass_.part("part")) for half in halves)
        aside = tuple(id for outcome in ranked for id in outcome.aside)
        for half, outcome in zip(halves, ranked, strict=True):
            if len(outcome.ids) < min(top_k, len(half) - len(outcome.aside)):
                return Outcome(aside=aside)
        ranked = [outcome for outcome in ranked if outcome.ids]
        if len(ranked) == 2:
            by_id = {candidate.id: candidate for candidate in candidates}
            outcome = await self._merged(by_id, ranked, top_k, pass_.part("merge"))
            return replace(outcome, aside=aside + outcome.aside)
        if ranked and ranked[0].reply:
            return replace(ranked[0], aside=aside)
        return Outcome(aside=tuple(candidate.id for candidate in candidates))  # one row is left, and nobody was asked

    async def _merged(
        self, candidates: Mapping[str, Candidate], halves: Sequence[Outcome], top_k: int, pass_: Pass
    ) -> Outcome:
        """The best `top_k` of two rankings, from their heads: the next n are among the first n of each."""
        left, right = (list(half.ids) for half in halves)
        replies = [half.reply for half in halves if half.reply]
        best: list[str] = []
        aside: list[str] = []
        window = max(len(left), len(right))  # how many of each are compared at once
        if len(left) + len(right) == len(candidates):  # all at once do not fit, as the whole list has shown
            window = math.ceil(window / 2)
        while left and right and len(best) < top_k:
            heads = [candidates[id] for id in left[:window] + right[:window]]
            try:
                outcome = await self._ask(heads, min(window, top_k - len(best), len(heads)), pass_)
            except TransientError as error:
                return self.given_up(error)
            except ContextLengthExceeded as error:
                if window == 1:
                    return self.given_up(error)
                window = math.ceil(window / 2)
                continue
            except ContentRefused as error:  # together, though neither was alone
                self.given_up(error)
                refused, right = right[:window], right[window:]  # those further behind were not shown
                self._stats.refused_rows.update(refused)
                aside += refused
                continue
            if outcome.abstained:
                if not pass_.halves:
                    return Outcome()
                if window > 1:
                    window = math.ceil(window / 2)
                    continue
                last = [half for half in (left, right) if len(half) == 1]
                aside += [half.pop(0) for half in last or (left, right)]  # both: which of them spoils it is not known
                continue
            best += outcome.ids
            aside += outcome.aside
            replies.append(outcome.reply or "")
            done = {*outcome.ids, *outcome.aside}
            left, right = ([id for id in half if id not in done] for half in (left, right))
        keys = ",".join(filter(None, dict.fromkeys(replies)))
        return Outcome((*best, *left, *right)[:top_k], reply=keys, aside=tuple(aside))

    async def _ask(self, candidates: Sequence[Candidate], top_k: int, pass_: Pass) -> Outcome:
        """Put a question until its answer can be used, at most `ATTEMPTS` times.

        When earlier runs have given it up after all these, and have ended, it is put once more.
        """
        prompt = listwise(candidates, top_k, self._seed, pass_.index, self._criteria)
        question, max_tokens_factor, deadline = prompt, 1, self._caller.deadline()
        for attempt in count(1):
            request = question.request(
                think=self._think,
                max_tokens_factor=max_tokens_factor,
                seed=self._seed + attempt - 1,
                attempt=attempt,
                pass_index=pass_.index,
                question=pass_.question,
                describe=partial(describe_ranking, prompt),
            )
            try:
                entry = await self._caller.ask(request, deadline)
            except ContextLengthExceeded as error:
                if attempt == 1:
                    raise
                self.given_up(error)  # the list does fit, but not the room that further tries would take
                break
            answer = read_ranking(entry.reply, prompt)
            is_useful = answer.fault is None or 2 * len(answer.begun) >= top_k
            may_ask_again = self._caller.may_ask_again(entry)
            if answer.kind == REFUSED and not is_useful and not may_ask_again:
                raise ContentRefused("the provider's content filter ended an answer")
            if answer.fault is not None:
                self._stats.errors_by_kind[answer.kind] += 1
            if is_useful:
                self._stats.reasked += attempt > 1
                self._stats.reasked_old += attempt > ATTEMPTS
                return await self._used(answer, prompt, entry, pass_)
            if attempt >= ATTEMPTS and not may_ask_again:
                break
            question = prompt.again(answer.fault or "", attempt + 1)
            if answer.kind == "cut off":
                max_tokens_factor = min(2 * max_tokens_factor, MOST_ROOM)
        self._stats.reasked += 1
        self._stats.reasked_old += attempt > ATTEMPTS
        return Outcome()

    async def _used(self, answer: Answer, prompt: Prompt, entry: Entry, pass_: Pass) -> Outcome:
        """What an answer says; where it holds the beginning of a ranking, the best of the rest are asked for."""
        numbers = answer.numbers or answer.begun
        ids = tuple(prompt.candidates[number - 1].id for number in numbers)
        self._stats.repaired += answer.repaired or answer.fault is not None
        self._stats.count_answer(len(prompt.candidates), numbers)
        if answer.fault is None:
            return Outcome(ids, reply=entry.key)
        left = [candidate for candidate in prompt.candidates if candidate.id not in ids]
        rest = await self.rank(left, prompt.top_k - len(ids), replace(pass_.part("rest"), is_suspect=False))
        return Outcome(ids + rest.ids, reply=",".join(filter(None, (entry.key, rest.reply))), aside=rest.aside)

    def given_up(self, error: Exception) -> Outcome:
        """Count a question that could not be asked: its answer is none."""
        self._stats.errors_by_kind[error_kind(error)] += 1
        return Outcome()


def error_kind(error: Exception) -> str:
    """What the error that leaves a question without an answer is called, in counts of errors."""
    kinds = {TransientError: GIVEN_UP, ContextLengthExceeded: "too long", ContentRefused: REFUSED}
    return next(kind for type_, kind in kinds.items() if isinstance(error, type_))


async def gather_or_raise(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once; when one fails the others are cancelled, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
