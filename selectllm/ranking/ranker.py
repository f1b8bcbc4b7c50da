"""Asks a model about a query until the answer can be used, or gives it up.

Every reply goes through the ledger: one that is there is not asked for again, one that comes is durable before it
counts. Nobody answers in the model's place: a query without a usable answer is an abstention, and counted.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from selectllm import cancellation
from selectllm.errors import ContextLengthExceeded, CostExceeded, Stopped, TooManyAbstained, TransientError
from selectllm.llm.hosts import Deadline, HostPool
from selectllm.llm.ledger import Entry, Ledger
from selectllm.llm.model import Reply, Request, Think
from selectllm.ranking import answers
from selectllm.ranking.aggregation import borda, kendalls_w
from selectllm.ranking.prompts import Candidate, Prompt, listwise, pointwise
from selectllm.ranking.stats import RequestStats

T = TypeVar("T")

ATTEMPTS: Final = 4
"""A question is put once, and up to three times more, each time naming what was wrong."""

NAMED: Final = 100
"""Questions that an error names, of those that had no usable answer."""


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
    """How to ask.

    `passes` over each list, `most_abstained` queries before the asking stops, and `most_cost` before it does, in the
    currency of `prices`: of a prompt's token, and of an answer's. `paid_before` are tokens of either that earlier steps
    of the run have paid for.
    """

    seed: int = 0
    passes: int = 1
    think: Think = False
    most_abstained: int = 2**31
    most_cost: float = math.inf
    prices: tuple[float, float] = (0.0, 0.0)
    paid_before: tuple[int, int] = (0, 0)

    def check_cost(self, tally: RequestStats) -> None:
        """Raise CostExceeded when the run, with what is in the tally, may cost no more."""
        (price_in, price_out), (before_in, before_out) = self.prices, self.paid_before
        cost = (before_in + tally.paid_prompt_tokens) * price_in + (before_out + tally.paid_output_tokens) * price_out
        if cost >= self.most_cost:
            raise CostExceeded(
                f"this run has cost {cost:.2f}, and --max-cost is {self.most_cost:.2f}. All replies are kept: "
                "raise it and run again to go on from here"
            )


class Ranker:
    """Asks one model about queries, and keeps the tally."""

    def __init__(
        self, hosts: HostPool, ledger: Ledger, manner: RankingOptions, told: Callable[[], None] = lambda: None
    ) -> None:
        self.card = hosts.card
        self.tally = RequestStats()
        self._hosts, self._ledger, self._manner, self._told = hosts, ledger, manner, told
        self._under_way: set[asyncio.Task[Entry]] = set()
        self._ended = False
        # Few queries are begun at a time, so that asking again comes before asking about the next: a model that cannot
        # answer is found out early. Twice the places, so that none is idle while a query waits out a failure.
        self._begun = asyncio.Semaphore(2 * hosts.places)

    async def rank(self, candidates: Sequence[Candidate], wanted: int, name: str) -> Outcome:
        """Have the best `wanted` of the candidates ranked, in as many passes as there are to be; `name` is the query's.

        Raises ModelError, TooManyAbstained, CostExceeded.
        """
        passes = range(1, self._manner.passes + 1)
        async with self._begun:
            outcomes = await gather_or_raise(self._list(candidates, wanted, number) for number in passes)
            voiced = [one for one in outcomes if not one.abstained]
            return self._counted(self._agreed(candidates, wanted, voiced, name), name)

    async def score(self, candidate: Candidate, name: str) -> Outcome:
        """Have one candidate judged by the odds of yes. Another pass would ask the very same, and is not made."""
        try:
            entry = await self._reply(Request(pointwise(candidate), seed=self._manner.seed))
        except (TransientError, ContextLengthExceeded) as error:
            self.tally.faults["given up" if isinstance(error, TransientError) else "too long"] += 1
            return self._counted(Outcome(), name)
        odds = log_odds(entry.reply)
        if odds is None:  # the odds are what they are: asking again would give the same
            self.tally.faults["neither yes nor no"] += 1
            return self._counted(Outcome(), name)
        return self._counted(Outcome((candidate.id,), odds, entry.key), name)

    async def _list(self, candidates: Sequence[Candidate], wanted: int, number: int) -> Outcome:
        """One pass over a list; one that does not fit is halved, and the halves' rankings are merged."""
        try:
            return await self._ask(listwise(candidates, wanted, self._manner.seed, number), number)
        except TransientError:
            self.tally.faults["given up"] += 1
            return Outcome()
        except ContextLengthExceeded:
            if len(candidates) <= 2:
                self.tally.faults["too long"] += 1
                return Outcome()
        self.tally.split += 1
        middle = math.ceil(len(candidates) / 2)
        halves = candidates[:middle], candidates[middle:]
        ranked = await gather_or_raise(self._half(half, min(wanted, len(half)), number) for half in halves)
        if any(half.abstained for half in ranked):
            return Outcome()
        return await self._merged({one.id: one for one in candidates}, ranked, wanted, number)

    async def _half(self, candidates: Sequence[Candidate], wanted: int, number: int) -> Outcome:
        """A half of a list; one candidate alone needs no asking."""
        return await self._list(candidates, wanted, number) if len(candidates) > 1 else Outcome((candidates[0].id,))

    async def _merged(
        self, candidates: Mapping[str, Candidate], halves: Sequence[Outcome], wanted: int, number: int
    ) -> Outcome:
        """The best `wanted` of two rankings, from lists of the heads of both: the next n are among the first n of each.

        As many meet at once as fit.
        """
        left, right = (list(half.ids) for half in halves)
        replies = [half.reply for half in halves if half.reply]
        best: list[str] = []
        window = max(len(left), len(right))
        if len(left) + len(right) == len(candidates):  # all at once have been found not to fit
            window = math.ceil(window / 2)
        while left and right and len(best) < wanted:
            heads = [candidates[id] for id in left[:window] + right[:window]]
            take = min(window, wanted - len(best))
            try:
                met = await self._ask(listwise(heads, take, self._manner.seed, number), number)
            except TransientError:
                self.tally.faults["given up"] += 1
                return Outcome()
            except ContextLengthExceeded:
                if window == 1:
                    self.tally.faults["too long"] += 1
                    return Outcome()
                window = math.ceil(window / 2)
                continue
            if met.abstained:
                return Outcome()
            best += met.ids
            replies.append(met.reply or "")
            left, right = ([id for id in half if id not in met.ids] for half in (left, right))
        return Outcome((*best, *left, *right)[:wanted], reply=",".join(dict.fromkeys(replies)))

    async def _ask(self, prompt: Prompt, number: int) -> Outcome:
        question, room, patience = prompt, 1, self._hosts.patience()
        for attempt in range(1, ATTEMPTS + 1):
            seed = self._manner.seed + attempt - 1
            request = Request(question, seed, attempt, number, self._manner.think, room)
            try:
                entry = await self._reply(request, patience)
            except ContextLengthExceeded:
                if attempt == 1:
                    raise
                self.tally.faults["too long"] += 1  # the list does fit: it is the room that further tries would take
                break
            answer = _read(entry.reply, prompt)
            if answer.fault is None:
                self.tally.repaired += answer.repaired
                self.tally.reasked += attempt > 1
                self.tally.picked(answer.numbers[0] - 1, len(prompt.candidates))
                return Outcome(tuple(prompt.candidates[one - 1].id for one in answer.numbers), reply=entry.key)
            self.tally.faults[answer.kind] += 1
            question, room = prompt.again(answer.fault, attempt + 1), room * (2 if answer.kind == "cut off" else 1)
        self.tally.reasked += 1
        return Outcome()

    def _agreed(self, candidates: Sequence[Candidate], wanted: int, outcomes: Sequence[Outcome], name: str) -> Outcome:
        """What several passes say together."""
        if len(outcomes) < 2:
            return outcomes[0] if outcomes else Outcome()
        ids, rankings = [one.id for one in candidates], [one.ids for one in outcomes]
        if (concordance := kendalls_w(ids, rankings)) is not None:
            self.tally.concordances[name] = round(concordance, 4)
        consensus = borda(ids, rankings, wanted)
        self.tally.ties += consensus.ties
        return Outcome(consensus.ids, reply=",".join(one.reply for one in outcomes if one.reply))

    def _counted(self, outcome: Outcome, name: str) -> Outcome:
        self.tally.ranked += not outcome.abstained
        self.tally.abstained += outcome.abstained
        self._told()
        if outcome.abstained:
            self.tally.silent[name] += 1
            check_abstained(self.card.name, self.tally, self._manner.most_abstained, self._hosts.faults)
        return outcome

    async def settle(self, patience: float) -> None:
        """Ask nothing more, and keep what is still coming: it is paid for. Waits `patience` seconds at most."""
        self._ended = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=patience)
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _reply(self, request: Request, patience: Deadline | None = None) -> Entry:
        entry = self._ledger.get(request.key(self.card))
        if entry is None:  # in a task of its own: when another question ends the run, this reply is kept all the same
            task = asyncio.create_task(self._ask_and_keep(request, patience))
            self._under_way.add(task)
            task.add_done_callback(self._came)
            entry = await asyncio.shield(task)
        self.tally.replies += 1
        self.tally.prompt_tokens += entry.reply.prompt_tokens
        self.tally.output_tokens += entry.reply.output_tokens
        return entry

    def _came(self, task: asyncio.Task[Entry]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, or asyncio complains of it where nobody waits for this reply any more

    async def _ask_and_keep(self, request: Request, patience: Deadline | None) -> Entry:
        kept: list[Entry] = []

        async def keep(reply: Reply) -> None:
            self.tally.asked += 1
            self.tally.paid_prompt_tokens += reply.prompt_tokens
            self.tally.paid_output_tokens += reply.output_tokens
            kept.append(await self._ledger.add(request, self.card, reply, _outcome(reply, request.prompt)))

        await self._hosts.answer(request, self._may_ask, keep, patience)
        return kept[0]

    def _may_ask(self) -> None:
        cancellation.raise_if_cancelled()
        if self._ended:
            raise Stopped("the asking has ended")
        self._manner.check_cost(self.tally)


def check_abstained(model: str, tally: RequestStats, most: int, more_faults: Counter[str] | None = None) -> None:
    """Raise TooManyAbstained, which names the questions, when more than `most` have had no usable answer."""
    if len(tally.silent) <= most:
        return
    named = list(tally.silent)[:NAMED]
    more = f" and {len(tally.silent) - NAMED} more" if len(tally.silent) > NAMED else ""
    faults = (tally.faults + (more_faults or Counter())).most_common()
    raise TooManyAbstained(
        f"{model} gave no usable answer to {', '.join(named)}{more}: more than --max-abstained allows, so the asking "
        f"stopped. All replies are kept. Faults: {', '.join(f'{count} {kind}' for kind, count in faults) or 'none'}"
    )


def _read(reply: Reply, prompt: Prompt) -> answers.Answer:
    if reply.done_reason != "stop":
        return answers.Answer(fault="it was cut off before its end", kind="cut off")
    return answers.read(reply.text, prompt.wanted, len(prompt.candidates))


def _outcome(reply: Reply, prompt: Prompt) -> str:
    """What reading a reply gives, for the ledger's note beside it; whoever uses the reply reads it anew."""
    if not prompt.wanted:
        return "neither yes nor no" if log_odds(reply) is None else "used"
    answer = _read(reply, prompt)
    return answer.kind or ("repaired" if answer.repaired else "used")


def log_odds(reply: Reply) -> float | None:
    """log p(yes) - log p(no) over the spellings of either at the reply's first token; None where one is not likely.

    A raw completion continues with ` yes`, a chat answers `Yes`: what counts is the word.
    """
    likely = {"yes": 0.0, "no": 0.0}
    for token, logprob in reply.logprobs.items():
        if (word := token.strip().lower()) in likely:
            likely[word] += math.exp(logprob)
    return math.log(likely["yes"] / likely["no"]) if all(likely.values()) else None


async def gather_or_raise(awaited: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at once; when one fails the others are stopped, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in awaited]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
