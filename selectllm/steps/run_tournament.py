"""The fifth step, where the budget cuts a level of rank: the model puts that level's rows in order."""

from dataclasses import asdict
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm import selection
from selectllm.llm import ModelInfo
from selectllm.quality import checks
from selectllm.ranking import tournament
from selectllm.schemas import TOURNAMENT
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, Progress, StepResult, quiet
from selectllm.steps.check_model import cache_settings, is_acceptable, longest_prompt, open_asker, shown_candidates
from selectllm.steps.exclude import open_to_choice
from selectllm.store import Store

CODE_VERSION: Final = 1
"""Raise it when the same replies are to give another order."""


async def play(
    store: Store,
    run: RunSettings,
    card: ModelInfo,
    pool: StepResult,
    ranks: StepResult,
    excluded: StepResult | None,
    tell: Progress = quiet,
) -> StepResult | None:
    """Put the level that the budget cuts through in order; None where no level is cut, or scores do it.

    All rows of the level play, the excluded ones too: so another exclusion that cuts the same level asks nothing.
    """
    rankings = store.read(ranks.artifact)
    where = selection.cut(open_to_choice(store, rankings, excluded)["rank"], run.budget)
    if where.is_clean or card.mode == "pointwise":
        return None
    settings = cache_settings(run, card) | {"level": where.level, "size": run.queries.size}
    slot = CacheEntry(
        store, run, "tournament", CODE_VERSION, {"rankings": ranks}, settings, partial(is_acceptable, run)
    )
    if made := slot.found():
        return made
    shown, _ = shown_candidates(store.read(pool.artifact), run)
    level = [shown[id] for id in rankings.filter(pc.equal(rankings["rank"], where.level))["id"].to_pylist()]
    rounds = tournament.questions(len(level), run.queries.size)
    longest = longest_prompt(shown.values(), run.queries.size, card)
    async with open_asker(store, run, card, longest, "tournament", sum(rounds), tell, ranks) as asker:
        standings = await tournament.play(level, run.queries.size, asker, run.seed)
    table = pa.Table.from_pylist([asdict(one) for one in standings], schema=TOURNAMENT)
    checks.check_tournament(table, {candidate.id for candidate in level})
    played = {"rounds": max(one.round for one in standings)}
    return slot.keep(table, asker.tally.facts() | played, **asker.tally.paid())
