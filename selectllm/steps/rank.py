"""The fourth step: the model ranks the candidates of each query."""

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from selectllm import selection
from selectllm.llm import ModelInfo
from selectllm.quality import checks
from selectllm.ranking import batches
from selectllm.ranking.batches import Query, Rank, Spread
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import check_abstained
from selectllm.ranking.stats import RequestStats, added
from selectllm.schemas import RANKINGS
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, Progress, StepResult, quiet, rows
from selectllm.steps.check_model import (
    cache_settings,
    is_acceptable,
    longest_prompt,
    manner,
    most_abstained,
    open_asker,
    shown_candidates,
)
from selectllm.steps.exclude import open_to_choice
from selectllm.store import Store
from selectllm.store.tables import in_order

BATCH: Final = 48
"""Queries ranked as one piece of work: enough to keep a server busy, few enough to show progress."""

REMOTE_BATCH_SIZE: Final = 200
"""Queries ranked as one piece of work by another process, which first reads all replies that there are."""

CODE_VERSION: Final = 1
"""Raise it when the same replies are to give other ranks."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Queries to rank, in plain values that can be sent to any process, and what all batches of a block have in common.

    `longest` is the size in bytes of the run's longest prompt, so that all ask within the same context; `before` is
    what the run had paid for when the batch was sent, as far as was known, so that all keep to the same limit.
    """

    card: ModelInfo
    queries: tuple[Query, ...]
    longest: int
    questions: int
    before: RequestStats


@dataclass(frozen=True)
class Ranked:
    """What came of a batch."""

    ranks: tuple[Rank, ...]
    tally: RequestStats


RankElsewhere = Callable[[Iterable[Batch]], Generator[Ranked, None, None]]
"""Has batches ranked by other processes, each made when it is sent; no more of them once it is closed."""


async def rank(
    store: Store,
    run: RunSettings,
    card: ModelInfo,
    pool: StepResult,
    groups: StepResult,
    excluded: StepResult | None,
    tell: Progress = quiet,
    spread: Spread | None = None,
    elsewhere: RankElsewhere | None = None,
) -> StepResult:
    """Have the model rank the queries, block by block of `depth`, until it has ranked as many rows as are wanted.

    Those are the budget's, besides the excluded ones: they stay in their queries, and are ranked as all others.

    The artifact of a block holds all ranks up to its own; what an earlier block ranked is not asked again. `spread`
    has the batches of a block ranked in this event loop, `elsewhere` in other processes.
    Raises ModelError when the model fails, TooFewRanked when its usable answers rank too few rows.
    """
    spread = spread or batches.in_window(most_at_once(run))
    block, ranked = None, 0
    while True:
        block = await _rank_block(store, run, card, pool, groups, block, tell, spread, elsewhere)
        before, ranked = ranked, rows(store, block)
        choices = open_to_choice(store, store.read(block.artifact), excluded)
        if len(choices) >= run.budget:
            return block
        if ranked == before or card.mode == "pointwise":  # pointwise, the first block has ranked all that can be
            selection.cut(choices["rank"], run.budget)  # raises TooFewRanked
        log.warning(
            "%d rows that may be chosen are ranked, and the budget is %d: the next %d of each query are needed",
            *(len(choices), run.budget, run.ranking.depth),
        )


async def _rank_block(
    store: Store,
    run: RunSettings,
    card: ModelInfo,
    pool: StepResult,
    groups: StepResult,
    before: StepResult | None,
    tell: Progress,
    spread: Spread,
    elsewhere: RankElsewhere | None,
) -> StepResult:
    """Rank the next `depth` of every query on top of what the block before ranked."""
    inputs = {"queries": groups} | ({"rankings": before} if before else {})
    settings = cache_settings(run, card) | ({"depth": run.ranking.depth} if card.mode == "listwise" else {})
    slot = CacheEntry(store, run, "rankings", CODE_VERSION, inputs, settings, partial(is_acceptable, run))
    if made := slot.found():
        return _after(before, made)

    table = store.read(before.artifact) if before else RANKINGS.empty_table()
    shown, clipped = shown_candidates(store.read(pool.artifact), run)
    waiting = _unranked(store.read(groups.artifact), table, shown)
    sizes = [len(query.candidates) for query in waiting]
    questions = sum(sizes) if card.mode == "pointwise" else sum(size > 1 for size in sizes)
    longest = longest_prompt(shown.values(), run.queries.size, card)
    if elsewhere:
        parts = (waiting[start : start + REMOTE_BATCH_SIZE] for start in range(0, len(waiting), REMOTE_BATCH_SIZE))
        tally = RequestStats()
        pieces = (Batch(card, tuple(part), longest, questions, _paid(before, tally)) for part in parts)
        found = await asyncio.to_thread(_gather, run, card.name, elsewhere(pieces), questions, tell, before, tally)
    else:
        async with open_asker(store, run, card, longest, "rankings", questions, tell, before) as asker:

            async def ask(batch: Sequence[Query]) -> list[Rank]:
                return await batches.rank(batch, run.ranking.depth, asker)

            found = await spread(ask, [waiting[start : start + BATCH] for start in range(0, len(waiting), BATCH)])
        tally = asker.tally
    table = pa.concat_tables([table, pa.Table.from_pylist([asdict(one) for one in found], schema=RANKINGS)])
    table = in_order(table, ("query_id", "ascending"), ("rank", "ascending"))
    checks.check_rankings(table, store.read(groups.artifact))
    counts = tally.facts() | {"blocks": 1}
    if before and (manifest := store.manifest(before.artifact)):
        counts = added(counts, {name: value for name, value in manifest.facts.items() if name != "clipped"})
    return _after(before, slot.keep(table, counts | {"clipped": clipped}, **tally.paid()))


def most_at_once(run: RunSettings) -> int:
    """The most questions under way at once, on all hosts together."""
    return run.ranking.concurrency * max(len(run.ranking.hosts), 1)


async def rank_batch(run: RunSettings, batch: Batch) -> Ranked:
    """Rank a batch in this process, with a ledger and a connection of its own."""
    questions, longest = batch.questions, batch.longest
    async with open_asker(
        Store(run.store), run, batch.card, longest, "rankings", questions, quiet, batch.before
    ) as asker:
        ranks = await batches.rank(batch.queries, run.ranking.depth, asker)
    return Ranked(tuple(ranks), asker.tally)


def _gather(
    run: RunSettings,
    name: str,
    ranked: Generator[Ranked, None, None],
    questions: int,
    tell: Progress,
    before: StepResult | None,
    tally: RequestStats,
) -> list[Rank]:
    """What came of batches that were ranked elsewhere, counted in `tally`.

    No more are asked about once too many have abstained, or the run has cost as much as it may.
    """
    found: list[Rank] = []
    tell("rankings", 0, questions)
    with closing(ranked) as batches:
        for batch in batches:
            found += batch.ranks
            tally += batch.tally
            tell("rankings", tally.ranked + tally.abstained, questions)
            check_abstained(name, tally, most_abstained(run, questions))
            if tally.ranked + tally.abstained < questions:
                manner(run, questions, before).check_cost(tally)
    return found


def _paid(before: StepResult | None, tally: RequestStats) -> RequestStats:
    """What the run has paid for, in this block and the ones before it."""
    earlier = before or RequestStats()
    return RequestStats(
        paid_prompt_tokens=earlier.paid_prompt_tokens + tally.paid_prompt_tokens,
        paid_output_tokens=earlier.paid_output_tokens + tally.paid_output_tokens,
    )


def _after(before: StepResult | None, block: StepResult) -> StepResult:
    """A block with what the blocks before it took."""
    if before is None:
        return block
    names = ("seconds", "asked", "paid_prompt_tokens", "paid_output_tokens")
    sums = {name: getattr(before, name) + getattr(block, name) for name in names}
    return block.model_copy(update={"cached": before.cached and block.cached, **sums})


def _unranked(groups: pa.Table, rankings: pa.Table, candidates: Mapping[str, Candidate]) -> list[Query]:
    """What is left to rank of each query; nothing of a query that gave no usable answer when it was asked before."""
    ranked = set(rankings["id"].to_pylist())
    answered = dict(zip(*np.unique(rankings["query_id"].to_numpy(), return_counts=True), strict=True))
    left: dict[int, list[Candidate]] = {}
    for query_id, id in zip(groups["query_id"].to_pylist(), groups["id"].to_pylist(), strict=True):
        if id not in ranked:
            left.setdefault(query_id, []).append(candidates[id])
    most = max(answered.values(), default=0)
    return [
        Query(query_id, tuple(rows), int(answered.get(query_id, 0)))
        for query_id, rows in left.items()
        if answered.get(query_id, 0) == most
    ]
