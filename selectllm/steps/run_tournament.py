"""The fifth step, where the budget cuts a tier of rank: the model puts that tier's rows in order."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm import quality, selection
from selectllm.execution import run_coroutine
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import ModelInfo
from selectllm.ranking import tournament
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.stats import RankingStats
from selectllm.ranking.tournament import TournamentRank
from selectllm.schemas import TOURNAMENT
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.exclude import excluded_ids
from selectllm.steps.model import (
    Job,
    allowed,
    cache_settings,
    end_noted,
    is_acceptable,
    longest_request,
    open_ranker,
    shown_candidates,
)

CODE_VERSION: Final = 3
"""Raise it when the same replies are to give another order, or the facts of tournaments get other names."""


def run_tournament(
    context: Context, model: ModelInfo, pool: StepResult, rankings: StepResult, excluded: StepResult | None
) -> StepResult | None:
    """Put the tier that the budget cuts in order; None where no tier is cut, or scores order it.

    All rows of the tier take part, the excluded ones too: so another exclusion that cuts the same tier asks nothing.
    """
    store, settings, criteria = context.store, context.settings, context.criteria
    table = rankings.table(store)
    cut = selection.cut(selection.without(table, excluded_ids(context, excluded))["rank"], settings.budget)
    if cut.is_clean or model.mode == "pointwise":
        return None
    decisive = cache_settings(settings, model, criteria) | {"level": cut.tier, "size": settings.queries.size}
    acceptable = partial(is_acceptable, settings, rankings.facts)
    entry = CacheEntry(store, "tournament", CODE_VERSION, {"rankings": rankings}, decisive, acceptable)
    if result := entry.load():
        return result
    candidates = shown_candidates(pool.table(store), settings)
    tier = candidates.of(table.filter(pc.equal(table["rank"], cut.tier))["id"])
    questions = sum(tournament.question_counts(len(tier), settings.queries.size))
    longest = longest_request(candidates.longest(settings.queries.size), settings, model.mode, model.think, criteria)
    # One limit for all questions of the run: of a tournament of one query, one without an answer would be all of them.
    facts = rankings.facts
    most = allowed(settings, facts["ranked"] + facts["abstained"] + questions) - facts["abstained"]
    limits = max(0, most), allowed(settings, len(candidates))
    job = Job("tournament", model, questions, longest, *limits, context.paid_before(), criteria)
    with end_noted(store, model):
        ranks, stats = run_coroutine(_ask(context, context.load_keys(), job, tier))
    ordered = pa.Table.from_pylist(list(map(vars, ranks)), schema=TOURNAMENT)
    quality.check_tournament(ordered, {candidate.id for candidate in tier})
    saved = entry.save(ordered, stats.facts() | {"rounds": max(rank.round for rank in ranks)}, **stats.paid())
    if stats.abstained:
        note_end(store, model)
    return saved


async def _ask(
    context: Context, keys: ApiKeys, job: Job, tier: Sequence[Candidate]
) -> tuple[list[TournamentRank], RankingStats]:
    settings = context.settings
    async with open_ranker(context.store, settings, keys, job, context.progress) as ranker:
        ranks = await tournament.run_tournament(tier, settings.queries.size, ranker, settings.seed)
    return ranks, ranker.stats
