"""Asks a model to rank candidates, until an answer can be used or the question is given up.

Nothing answers in the model's place: a query without a usable answer abstains, and is counted.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

from selectllm.errors import ContextLengthExceeded, TooManyAbstained, TransientError
from selectllm.llm.caller import Caller
from selectllm.llm.model import Think
from selectllm.ranking.aggregation import borda, kendalls_w
from selectllm.ranking.answers import describe_odds, describe_ranking, log_odds, read_ranking
from selectllm.ranking.prompts import Candidate, listwise, pointwise
from selectllm.ranking.stats import RankingStats

T = TypeVar("T")

ATTEMPTS: Final = 4  # a question is put once, and up to three times more, each time naming what was wrong
MOST_ROOM: Final = 8  # times the usual tokens, for answers that were cut off
NAMED_QUESTIONS: Final = 100  # that an error names, of those that had no usable answer


@dataclass(frozen=True)
class Outcome:
    """What became of a query: the ids in the model's order, none when it abstained; a score for a yes or no."""

    ids: tuple[str, ...] = ()
    score: float | None = None
    reply: str | None = None  # keys of the replies that said so, with commas between them

    @property
    def abstained(self) -> bool:
        """Whether no usable answer came."""
        return not self.ids


@dataclass(frozen=True)
class RankingOptions:
    """How to ask: `passes` over each list, and at most `max_abstained` queries before the asking stops."""

    seed: int = 0
    passes: int = 1
    think: Think = False
    max_abstained: int = 2**31


@dataclass(frozen=True)
class _Pass:
    """One pass over a list: which it is, and what the ledger calls its question."""

    index: int
    question: str

    def part(self, name: str) -> "_Pass":
        """The same pass over a part of the list, or over the heads of two parts."""
        return _Pass(self.index, f"{self.question}, {name}")


class Ranker:
    """Asks one model about queries, and keeps count; `window` queries are worth beginning at once, more would wait."""

    def __init__(self, caller: Caller, options: RankingOptions, on_progress: Callable[[], None] = lambda: None) -> None:
        self.info, self.window = caller.info, 4 * caller.places
        self.stats = RankingStats(usage=caller.usage)
        self._caller, self._options, self._on_progress = caller, options, on_progress
        # Few queries are begun at a time, so that asking again comes before asking about the next: a model that cannot
        # answer is noticed early. Twice the places, so that none is idle while a query waits out a failure.
        self._slots = asyncio.Semaphore(2 * caller.places)

    async def rank(self, candidates: Sequence[Candidate], top_k: int, name: str) -> Outcome:
        """Have the best `top_k` of the candidates ranked, in as many passes as the options say; `name` is the query's.

        One candidate alone is not asked about. Raises ModelError, TooManyAbstained, CostExceeded.
        """
        if len(candidates) == 1:
            return Outcome((candidates[0].id,))
        passes = [_Pass(1, name)]
        passes += [_Pass(index, f"{name}, pass {index}") for index in range(2, self._options.passes + 1)]
        async with self._slots:
            outcomes = await gather_or_raise(self._list(candidates, top_k, pass_) for pass_ in passes)
            usable = [outcome for outcome in outcomes if not outcome.abstained]
            return self._counted(self._aggregated(candidates, top_k, usable, name), name)

    async def score(self, candidate: Candidate, name: str) -> Outcome:
        """Have one candidate scored by the odds of yes. Another pass would ask the very same, and is not made."""
        for attempt in count(1):
            request = pointwise(candidate).request(
                seed=self._options.seed + attempt - 1, attempt=attempt, question=name, describe=describe_odds
            )
            try:
                entry = await self._caller.ask(request)
            except (TransientError, ContextLengthExceeded) as error:
                return self._counted(self._given_up(error), name)
            odds = log_odds(entry.reply)
            if odds is not None:
                self.stats.reasked_old += attempt > 1
                return self._counted(Outcome((candidate.id,), odds, entry.key), name)
            self.stats.errors_by_kind["neither yes nor no"] += 1
            if not self._caller.may_ask_again(entry):  # asking again at once would give the same
                self.stats.reasked_old += attempt > 1
                break
        return self._counted(Outcome(), name)

    async def _list(self, candidates: Sequence[Candidate], top_k: int, pass_: _Pass) -> Outcome:
        """One pass over a list; one that does not fit is halved, and the halves' rankings are merged."""
        if len(candidates) == 1:
            return Outcome((candidates[0].id,))
        try:
            return await self._ask(candidates, min(top_k, len(candidates)), pass_)
        except TransientError as error:
            return self._given_up(error)
        except ContextLengthExceeded as error:
            if len(candidates) == 2:
                return self._given_up(error)
        self.stats.split += 1
        middle = math.ceil(len(candidates) / 2)
        halves = candidates[:middle], candidates[middle:]
        ranked = await gather_or_raise(self._list(half, top_k, pass_.part("part")) for half in halves)
        if any(half.abstained for half in ranked):
            return Outcome()
        by_id = {candidate.id: candidate for candidate in candidates}
        return await self._merged(by_id, ranked, top_k, pass_.part("merge"))

    async def _merged(
        self, candidates: Mapping[str, Candidate], halves: Sequence[Outcome], top_k: int, pass_: _Pass
    ) -> Outcome:
        """The best `top_k` of two rankings, from their heads: the next n are among the first n of each."""
        left, right = (list(half.ids) for half in halves)
        replies = [half.reply for half in halves if half.reply]
        best: list[str] = []
        window = max(len(left), len(right))  # how many of each are compared at once
        if len(left) + len(right) == len(candidates):  # all at once do not fit, as the whole list has shown
            window = math.ceil(window / 2)
        while left and right and len(best) < top_k:
            heads = [candidates[id] for id in left[:window] + right[:window]]
            try:
                outcome = await self._ask(heads, min(window, top_k - len(best)), pass_)
            except TransientError as error:
                return self._given_up(error)
            except ContextLengthExceeded as error:
                if window == 1:
                    return self._given_up(error)
                window = math.ceil(window / 2)
                continue
            if outcome.abstained:
                return Outcome()
            best += outcome.ids
            replies.append(outcome.reply or "")
            left, right = ([id for id in half if id not in outcome.ids] for half in (left, right))
        return Outcome((*best, *left, *right)[:top_k], reply=",".join(dict.fromkeys(replies)))

    async def _ask(self, candidates: Sequence[Candidate], top_k: int, pass_: _Pass) -> Outcome:
        """Put a question until its answer can be used, at most `ATTEMPTS` times.

        When earlier runs have given it up after all these, and have ended, it is put once more.
        """
        prompt = listwise(candidates, top_k, self._options.seed, pass_.index)
        question, max_tokens_factor, deadline = prompt, 1, self._caller.deadline()
        for attempt in count(1):
            request = question.request(
                think=self._options.think,
                max_tokens_factor=max_tokens_factor,
                seed=self._options.seed + attempt - 1,
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
                self._given_up(error)  # the list does fit, but not the room that further tries would take
                break
            answer = read_ranking(entry.reply, prompt)
            if answer.fault is None:
                self.stats.repaired += answer.repaired
                self.stats.reasked += attempt > 1
                self.stats.reasked_old += attempt > ATTEMPTS
                self.stats.first_picks[f"{len(candidates)}:{answer.numbers[0] - 1}"] += 1
                ids = tuple(prompt.candidates[number - 1].id for number in answer.numbers)
                return Outcome(ids, reply=entry.key)
            self.stats.errors_by_kind[answer.kind] += 1
            if attempt >= ATTEMPTS and not self._caller.may_ask_again(entry):
                break
            question = prompt.again(answer.fault, attempt + 1)
            if answer.kind == "cut off":
                max_tokens_factor = min(2 * max_tokens_factor, MOST_ROOM)
        self.stats.reasked += 1
        self.stats.reasked_old += attempt > ATTEMPTS
        return Outcome()

    def _aggregated(self, candidates: Sequence[Candidate], top_k: int, usable: Sequence[Outcome], name: str) -> Outcome:
        """What several passes say together."""
        if len(usable) < 2:
            return usable[0] if usable else Outcome()
        ids, rankings = [candidate.id for candidate in candidates], [outcome.ids for outcome in usable]
        if (concordance := kendalls_w(ids, rankings)) is not None:
            self.stats.agreement_by_question[name] = round(concordance, 4)
        consensus = borda(ids, rankings, top_k)
        self.stats.ties += consensus.ties
        return Outcome(consensus.ids, reply=",".join(outcome.reply for outcome in usable if outcome.reply))

    def _counted(self, outcome: Outcome, name: str) -> Outcome:
        self.stats.ranked += not outcome.abstained
        self.stats.abstained += outcome.abstained
        self._on_progress()
        if outcome.abstained:
            self.stats.abstained_questions[name] += 1
            check_abstained(self.info.name, self.stats, self._options.max_abstained)
        return outcome

    def _given_up(self, error: Exception) -> Outcome:
        self.stats.errors_by_kind["given up" if isinstance(error, TransientError) else "too long"] += 1
        return Outcome()


def check_abstained(model: str, stats: RankingStats, max_abstained: int) -> None:
    """Raise TooManyAbstained, which names the questions, when more than `max_abstained` have had no usable answer."""
    abstained = len(stats.abstained_questions)
    if abstained <= max_abstained:
        return
    names = list(stats.abstained_questions)[:NAMED_QUESTIONS]
    more = f" and {abstained - NAMED_QUESTIONS} more" if abstained > NAMED_QUESTIONS else ""
    by_kind = (stats.errors_by_kind + stats.usage.errors_by_kind).most_common()
    errors = ", ".join(f"{number} {kind}" for kind, number in by_kind) or "none"
    raise TooManyAbstained(
        f"{model} gave no usable answer to {', '.join(names)}{more}: more than --max-abstained allows, so the asking "
        "stopped. All replies are kept. Mend the server or choose another model, then run again: each of these is then "
        f"asked about once more. Errors: {errors}"
    )


async def gather_or_raise(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once; when one fails the others are cancelled, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
