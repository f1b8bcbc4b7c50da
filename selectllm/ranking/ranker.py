"""Asks a model about queries, in several passes or candidate by candidate, and keeps count.

Nothing answers in the model's place: a query without a usable answer abstains, and is counted.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from selectllm.errors import ContentRefused, ContextLengthExceeded, TooManyAbstained, TransientError
from selectllm.llm.caller import Caller
from selectllm.llm.model import Think
from selectllm.ranking.aggregation import borda, kendalls_w
from selectllm.ranking.answers import describe_odds, log_odds
from selectllm.ranking.lists import ListRanker, Outcome, Pass, gather_or_raise
from selectllm.ranking.prompts import Candidate, pointwise
from selectllm.ranking.stats import RankingStats

NAMED: Final = 100  # questions, or rows, that an error names


@dataclass(frozen=True)
class RankingOptions:
    """How to ask: in `passes` over each list, by the user's `criteria` where there are any.

    The asking stops when more than `max_abstained` queries had no usable answer, or more than `max_refused` rows were
    refused.
    """

    seed: int = 0
    passes: int = 1
    think: Think = False
    criteria: str | None = None
    max_abstained: int = 2**31
    max_refused: int = 2**31


class Ranker:
    """Asks one model about queries, and keeps count; `window` queries are worth beginning at once, more would wait."""

    def __init__(self, caller: Caller, options: RankingOptions, on_progress: Callable[[], None] = lambda: None) -> None:
        self.info, self.window = caller.info, 4 * caller.places
        self.stats = RankingStats(usage=caller.usage)
        self._caller, self._options, self._on_progress = caller, options, on_progress
        # Few queries are begun at a time, so that asking again comes before asking about the next: a model that cannot
        # answer is noticed early. Twice the places, so that none is idle while a query waits out a failure.
        self._slots = asyncio.Semaphore(2 * caller.places)
        self._lists = ListRanker(caller, self.stats, options.seed, options.think, options.criteria)

    async def rank(self, candidates: Sequence[Candidate], top_k: int, name: str, *, halves: bool = False) -> Outcome:
        """Have the best `top_k` of the candidates ranked, in as many passes as the options say; `name` is the query's.

        One candidate alone is not asked about. With `halves`, a query without a usable answer is halved, as often as it
        takes. Raises ModelError, TooManyAbstained, CostExceeded.
        """
        if len(candidates) == 1:
            return Outcome((candidates[0].id,))
        passes = [Pass(1, name, halves)]
        passes += [Pass(index, f"{name}, pass {index}", halves) for index in range(2, self._options.passes + 1)]
        async with self._slots:
            outcomes = await gather_or_raise(self._lists.rank(candidates, top_k, pass_) for pass_ in passes)
            usable = [outcome for outcome in outcomes if not outcome.abstained]
            outcome = self._aggregated(candidates, top_k, usable, name)
            if halves:
                placed = {*outcome.ids, *self.stats.refused_rows}
                self.stats.undecided += sum(candidate.id not in placed for candidate in candidates)
            return self._counted(outcome, name)

    async def score(self, candidate: Candidate, name: str) -> Outcome:
        """Have one candidate scored by the odds of yes. Another pass would ask the very same, and is not made.

        Nothing is drawn or shuffled, so the run's seed decides nothing here: whatever it is, the question is the same.
        """
        for attempt in count(1):
            request = pointwise(candidate, self._options.criteria).request(
                seed=attempt - 1, attempt=attempt, question=name, describe=describe_odds
            )
            try:
                entry = await self._caller.ask(request)
            except (TransientError, ContextLengthExceeded, ContentRefused) as error:
                self.stats.refused_rows.update([candidate.id] if isinstance(error, ContentRefused) else ())
                return self._counted(self._lists.given_up(error), name)
            odds = log_odds(entry.reply)
            if odds is not None:
                self.stats.reasked_old += attempt > 1
                return self._counted(Outcome((candidate.id,), odds, entry.key), name)
            self.stats.errors_by_kind["neither yes nor no"] += 1
            if not self._caller.may_ask_again(entry):  # asking again at once would give the same
                self.stats.reasked_old += attempt > 1
                break
        return self._counted(Outcome(), name)

    def _aggregated(self, candidates: Sequence[Candidate], top_k: int, usable: Sequence[Outcome], name: str) -> Outcome:
        """What several passes say together."""
        if len(usable) < 2:
            return usable[0] if usable else Outcome()
        ids, rankings = [candidate.id for candidate in candidates], [outcome.ids for outcome in usable]
        if (concordance := kendalls_w(ids, rankings)) is not None:
            self.stats.agreement_by_question[name] = round(concordance, 4)
        consensus = borda(ids, rankings, top_k)
        self.stats.ties += consensus.ties
        return Outcome(
            consensus.ids,
            reply=",".join(outcome.reply for outcome in usable if outcome.reply),
            aside=tuple(dict.fromkeys(id for outcome in usable for id in outcome.aside)),
            passes=tuple(rankings),
        )

    def _counted(self, outcome: Outcome, name: str) -> Outcome:
        self.stats.ranked += not outcome.abstained
        self.stats.abstained += outcome.abstained
        self._on_progress()
        if outcome.abstained:
            self.stats.abstained_questions[name] += 1
        check_abstained(self.info.name, self.stats, self._options.max_abstained, self._options.max_refused)
        return outcome


def check_abstained(model: str, stats: RankingStats, max_abstained: int, max_refused: int) -> None:
    """Raise TooManyAbstained when more questions than allowed had no usable answer, or more rows were refused.

    The error names them.
    """
    if len(stats.refused_rows) > max_refused:
        raise TooManyAbstained(
            f"the provider of {model} refused the content of the rows {_listed(stats.refused_rows)}: more than "
            "--max-abstained allows, so the asking stopped. All replies are kept. Remove these rows from the pool, or "
            f"choose another model. Errors: {_errors(stats)}"
        )
    if len(stats.abstained_questions) > max_abstained:
        raise TooManyAbstained(
            f"{model} gave no usable answer to {_listed(stats.abstained_questions)}: more than --max-abstained allows, "
            "so the asking stopped. All replies are kept. Mend the server or choose another model, then run again: "
            f"each of these is then asked about once more. Errors: {_errors(stats)}"
        )


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(list(names)[:NAMED]) + more


def _errors(stats: RankingStats) -> str:
    by_kind = (stats.errors_by_kind + stats.usage.errors_by_kind).most_common()
    return ", ".join(f"{number} {kind}" for kind, number in by_kind) or "none"
