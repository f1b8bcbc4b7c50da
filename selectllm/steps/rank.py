"""The fourth step: the model ranks the candidates of each query."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm import quality, selection
from selectllm.errors import RunError, TooFewRanked
from selectllm.execution import Progress, WorkItem, equal_shares, no_progress, note_spent, run_coroutine
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import ModelInfo
from selectllm.queries import Rows
from selectllm.ranking.batches import Query, Ranks, rank_queries
from selectllm.ranking.candidates import Candidates
from selectllm.ranking.ranker import check_abstained
from selectllm.ranking.stats import RankingStats, merge
from selectllm.schemas import PASSES, RANKINGS
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.exclude import excluded_ids
from selectllm.steps.model import (
    Job,
    allowed,
    cache_settings,
    cost_limit,
    end_noted,
    is_acceptable,
    longest_request,
    open_ranker,
    shown_candidates,
)
from selectllm.store import Artifact, Manifest, Store
from selectllm.store.tables import in_order

REMOTE_BATCH_SIZE: Final = 200
"""Queries ranked as one piece of work by another process, which first reads all replies that there are."""

CODE_VERSION: Final = 3
"""Raise it when the same replies are to give other ranks, or the facts of rankings get other names."""

LoadKeys = Callable[[], ApiKeys]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Queries to rank in another process, in plain values that can be sent there."""

    job: Job
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class _Unranked:
    """What is left to rank of a query: rows of the pool, and how many of its candidates have a rank."""

    query_id: int
    rows: Rows
    ranked: int


def rank(
    context: Context, model: ModelInfo, pool: StepResult, queries: StepResult, excluded: StepResult | None
) -> StepResult:
    """Have the model rank the queries, page by page of `depth` ranks, until it has ranked as many rows as are wanted.

    Those are the budget's, besides the excluded ones: they stay in their queries, and are ranked as all others.
    The artifact of a page holds all ranks up to its own; what an earlier page ranked is not asked again.
    Raises ModelError when the model fails, TooFewRanked when its usable answers rank too few rows.
    """
    settings, excluded_set = context.settings, excluded_ids(context, excluded)
    page, ranked = None, 0
    while True:
        page = _rank_page(context, model, pool, queries, page)
        before, ranked = ranked, page.manifest.rows
        choices = selection.without(page.table(context.store), excluded_set)
        if len(choices) >= settings.budget:
            return page
        if ranked == before or model.mode == "pointwise":  # pointwise, the first page has ranked all that can be
            try:
                selection.cut(choices["rank"], settings.budget)
            except TooFewRanked as error:
                error.paid = page.paid_prompt_tokens, page.paid_output_tokens
                raise
        log.warning(
            "%d rows that may be chosen are ranked, and the budget is %d: the next %d of each query are needed",
            *(len(choices), settings.budget, settings.ranking.depth),
        )


def _rank_page(
    context: Context, model: ModelInfo, pool: StepResult, queries: StepResult, before: StepResult | None
) -> StepResult:
    """Rank the next `depth` of every query on top of what the page before ranked."""
    store, settings, criteria = context.store, context.settings, context.criteria
    inputs = {"queries": queries} | ({"rankings": before} if before else {})
    decisive = cache_settings(settings, model, criteria)
    if model.mode == "listwise":
        decisive |= {"depth": settings.ranking.depth}
    entry = CacheEntry(store, "rankings", CODE_VERSION, inputs, decisive, partial(_is_acceptable, store, settings))
    if result := entry.load():
        return _with_earlier_pages(before, result)

    table = before.table(store) if before else RANKINGS.empty_table()
    candidates = shown_candidates(pool.table(store), settings)
    refused = before.facts.get("refused_rows", ()) if before else ()
    left = _left_to_rank(queries.table(store), table, candidates, refused)
    sizes = [len(query.rows) for query in left]
    unranked = (Query(query.query_id, candidates.at(query.rows.tolist()), query.ranked) for query in left)
    questions = sum(sizes) if model.mode == "pointwise" else sum(size > 1 for size in sizes)
    longest = longest_request(candidates.longest(settings.queries.size), settings, model.mode, model.think, criteria)
    limits = allowed(settings, questions), allowed(settings, len(candidates))
    job = Job("rankings", model, questions, longest, *limits, context.paid_before(before), criteria)
    with end_noted(store, model):
        if context.executor.is_remote and not settings.ranking.batch:  # of which there is nothing to share
            ranks, stats = _rank_remotely(context, job, unranked)
        else:
            keys = context.load_keys()  # before the loop runs: in one, Prefect's blocks are loaded otherwise
            ranks, stats = run_coroutine(_ask(store, settings, keys, job, unranked, context.progress))
    table = pa.concat_tables([table, pa.Table.from_pylist(list(map(vars, ranks.ranks)), schema=RANKINGS)])
    table = in_order(table, ("query_id", "ascending"), ("rank", "ascending"))
    quality.check_rankings(table, queries.table(store))
    facts = stats.facts() | {"pages": 1}
    if before:
        earlier = before.facts.items()
        facts = merge(facts, {name: value for name, value in earlier if name not in ("clipped", "passes")})
    if _has_passes(settings, model.mode):
        passes = CacheEntry(store, "passes", CODE_VERSION, inputs, decisive)
        passes.load()  # what was there is written over
        facts["passes"] = passes.artifact.key
        passes.save(pa.concat_tables([passes_of(store, before), _pass_table(ranks)]), {})
    saved = entry.save(table, facts | {"clipped": candidates.clipped}, **stats.paid())
    if stats.abstained:
        note_end(store, model)
    return _with_earlier_pages(before, saved)


def _rank_remotely(context: Context, job: Job, unranked: Iterator[Query]) -> tuple[Ranks, RankingStats]:
    """Rank queries in other processes, batch by batch, until too many abstain or the run has cost what it may."""
    settings, ranks, stats = context.settings, Ranks([], []), RankingStats()

    def batches() -> Iterator[Batch]:
        while queries := tuple(islice(unranked, REMOTE_BATCH_SIZE)):
            prompt_tokens, output_tokens = job.paid_before
            usage = stats.usage
            paid = prompt_tokens + usage.paid_prompt_tokens, output_tokens + usage.paid_output_tokens
            yield Batch(replace(job, paid_before=paid), queries)

    function = partial(rank_batch, settings, context.load_keys)
    shares = equal_shares(settings.ranking.concurrency, context.executor.workers)
    context.progress(job.step, 0, job.questions)
    with closing(context.executor.map(function, batches(), shares)) as results, _paid_counted(stats):
        for batch_ranks, batch_stats in results:
            ranks += batch_ranks
            stats += batch_stats
            done = stats.ranked + stats.abstained
            context.progress(job.step, done, job.questions)
            usage = stats.usage
            note_spent(context.progress, job.paid_before, usage.paid_prompt_tokens, usage.paid_output_tokens)
            check_abstained(job.model.name, stats, job.max_abstained, job.max_refused)
            if done < job.questions and batch_stats.usage.asked:  # replies that are kept are read on
                cost_limit(settings, job.paid_before).check(stats.usage)
    return ranks, stats


@contextmanager
def _paid_counted(stats: RankingStats) -> Iterator[None]:
    """Add what was paid before to what an error says that its own batch was paid for."""
    try:
        yield
    except RunError as error:
        read, written = error.paid
        error.paid = read + stats.usage.paid_prompt_tokens, written + stats.usage.paid_output_tokens
        raise


def rank_batch(settings: RunSettings, load_keys: LoadKeys, item: WorkItem[Batch]) -> tuple[Ranks, RankingStats]:
    """Rank a batch in this process, with a ledger and connections of its own, by its share of the concurrency."""
    ranking = settings.ranking.model_copy(update={"concurrency": item.share})
    settings = settings.model_copy(update={"ranking": ranking})
    batch = item.value
    return run_coroutine(_ask(Store(settings.store), settings, load_keys(), batch.job, batch.queries, no_progress))


async def _ask(
    store: Store, settings: RunSettings, keys: ApiKeys, job: Job, queries: Iterable[Query], progress: Progress
) -> tuple[Ranks, RankingStats]:
    async with open_ranker(store, settings, keys, job, progress) as ranker:
        ranks = await rank_queries(queries, settings.ranking.depth, ranker)
    return ranks, ranker.stats


def passes_of(store: Store, rankings: StepResult | None) -> pa.Table:
    """What each pass over the queries said, as PASSES; empty where each was asked about once."""
    key = rankings.facts.get("passes") if rankings else None
    return store.read(Artifact(kind="passes", key=key)) if key else PASSES.empty_table()


def _pass_table(ranks: Ranks) -> pa.Table:
    return pa.Table.from_pylist(list(map(vars, ranks.passes)), schema=PASSES)


def _has_passes(settings: RunSettings, mode: str) -> bool:
    return settings.ranking.passes > 1 and mode == "listwise"


def _is_acceptable(store: Store, settings: RunSettings, manifest: Manifest) -> bool:
    """Whether rankings are what the run wants, and what each pass said is there, too."""
    key = manifest.facts.get("passes")
    is_there = bool(key) and store.is_intact(Artifact(kind="passes", key=key))
    if _has_passes(settings, manifest.settings["mode"]) and not is_there:
        return False
    return is_acceptable(settings, None, manifest)


def _with_earlier_pages(before: StepResult | None, page: StepResult) -> StepResult:
    """A page with what the pages before it took."""
    if before is None:
        return page
    names = ("seconds", "asked", "paid_prompt_tokens", "paid_output_tokens")
    sums = {name: getattr(before, name) + getattr(page, name) for name in names}
    return page.model_copy(update={"cached": before.cached and page.cached, **sums})


def _left_to_rank(
    queries: pa.Table, rankings: pa.Table, candidates: Candidates, refused: Collection[str]
) -> list[_Unranked]:
    """What is left to rank of each query; nothing of a query that gave no usable answer when it was asked before.

    Parameters: `refused`, the ids of rows that the provider has refused, and that are not asked about again.
    """
    ranked, counts = np.unique(rankings["query_id"].to_numpy(), return_counts=True)
    ranks_of = dict(zip(ranked.tolist(), counts.tolist(), strict=True))
    most = max(ranks_of.values(), default=0)
    open_rows = queries.select(["query_id", "id"])
    for ids in filter(len, (rankings["id"].combine_chunks(), pa.array(refused, pa.string()))):
        open_rows = open_rows.filter(pc.invert(pc.is_in(open_rows["id"], value_set=ids)))
    query_ids, rows = open_rows["query_id"].to_numpy(), candidates.rows_of(open_rows["id"])
    order = np.argsort(query_ids, kind="stable")
    open_queries, starts = np.unique(query_ids[order], return_index=True)
    rows_of = np.split(rows[order], starts[1:])
    return [
        _Unranked(query_id, rows_of[place], ranks_of.get(query_id, 0))
        for place, query_id in enumerate(open_queries.tolist())
        if ranks_of.get(query_id, 0) == most
    ]
