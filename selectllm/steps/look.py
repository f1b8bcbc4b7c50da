"""The fifth step, where ratings gather the rows: the model is asked again about rows near the cut, dealt anew.

What was asked about the cut of another budget, or with other rows excluded, is kept: it counts here, and nothing is
asked twice. Each such generation is an artifact, made from the one before, with all further looks up to its own.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.execution import run_coroutine
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import Mode, ModelInfo
from selectllm.ranking.candidates import Candidates
from selectllm.ranking.lists import Outcome, gather_or_raise
from selectllm.ranking.looks import deal, questions_by_round, rows_in_doubt
from selectllm.ranking.stats import RankingStats
from selectllm.schemas import LOOKS
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.evidence import Evidence
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
from selectllm.store import Artifact, Store, digest

CODE_VERSION: Final = 1
"""Raise it when other rows are to be asked about, or the facts of looks get other names."""


def gathers_ratings(settings: RunSettings, mode: Mode) -> bool:
    """Whether the rows are gathered by ratings; raises UsageError where they are to be and cannot."""
    gather = settings.ranking.gather
    if mode == "pointwise":
        if gather == "ratings":
            raise UsageError("--gather ratings rates rows from lists: a pointwise model scores each row by itself")
        return False
    is_scripted = settings.selector.startswith("scripted:")
    return gather == "ratings" or (gather == "auto" and settings.queries.composition != "paper" and not is_scripted)


def most_questions(settings: RunSettings, queries: int) -> int:
    """How many further questions a run may ask about rows of so many queries."""
    return int(settings.ranking.looks * queries + 1e-9)


def look(
    context: Context, model: ModelInfo, evidence: dict[str, StepResult], excluded: StepResult | None
) -> StepResult | None:
    """Ask again about rows whose side of the cut is in doubt, in a few rounds; None where nothing may be asked.

    Parameters: `evidence`, the results of the steps `pool`, `queries` and `rankings`.
    Excluded rows are not asked about. Stops early when no row is in doubt.
    """
    store, settings, criteria = context.store, context.settings, context.criteria
    pool, queries, rankings = (evidence[kind] for kind in ("pool", "queries", "rankings"))
    total = most_questions(settings, queries.facts["count"])
    if not total:
        return None
    base = cache_settings(settings, model, criteria) | {"size": settings.queries.size}
    decisive = base | {"budget": settings.budget, "questions": total}
    inputs = {"rankings": rankings} | ({"excluded": excluded} if excluded else {})
    parent = _find_parent(store, base, decisive, inputs)
    acceptable = partial(is_acceptable, settings, rankings.facts)
    entry = CacheEntry(
        store, "looks", CODE_VERSION, inputs | ({"looks": parent} if parent else {}), decisive, acceptable
    )
    if result := entry.load():
        return result
    known = Evidence.of(store, queries, rankings, parent)
    candidates = shown_candidates(pool.table(store), settings)
    barred = excluded_ids(context, excluded) | known.refused
    longest = longest_request(candidates.longest(settings.queries.size), settings, model.mode, model.think, criteria)
    facts = rankings.facts
    most = allowed(settings, facts["ranked"] + facts["abstained"] + total) - facts["abstained"]
    limits = max(0, most), allowed(settings, len(candidates))
    job = Job("looks", model, total, longest, *limits, context.paid_before(), criteria)
    with end_noted(store, model):
        asked, rounds, stats = run_coroutine(
            _ask(context, context.load_keys(), job, _Asking(known, candidates, barred))
        )
    table = pa.concat_tables([known.looks, pa.Table.from_pylist(asked, schema=LOOKS)])
    count = {"questions": stats.ranked + stats.abstained, "saved": total - stats.ranked - stats.abstained}
    saved = entry.save(table, stats.facts() | count | {"rounds": rounds}, **stats.paid())
    if stats.abstained:
        note_end(store, model)
    return saved


@dataclass
class _Asking:
    """What is known, and about whom may be asked; `known` grows with each round."""

    known: Evidence
    candidates: Candidates
    barred: set[str]


async def _ask(
    context: Context, keys: ApiKeys, job: Job, asking: _Asking
) -> tuple[list[dict[str, Any]], int, RankingStats]:
    """Ask round by round; returns rows of LOOKS, the number of rounds, and what asking took."""
    settings, rows, rounds = context.settings, list[dict[str, Any]](), 0
    async with open_ranker(context.store, settings, keys, job, context.progress) as ranker:
        for number, questions in enumerate(questions_by_round(job.questions), start=1):
            groups = _groups(asking, settings, number, questions)
            if not groups:
                continue
            rounds += 1
            outcomes = await gather_or_raise(
                ranker.rank([asking.candidates[id] for id in group], len(group), f"look {index} of round {number}")
                for index, group in enumerate(groups)
            )
            told = _look_rows(groups, outcomes, number, asking.known.next_question)
            rows += told
            asking.barred |= set(ranker.stats.refused_rows)
            asking.known = asking.known.with_looks(pa.Table.from_pylist(told, schema=LOOKS))
    return rows, rounds, ranker.stats


def _groups(asking: _Asking, settings: RunSettings, number: int, questions: int) -> list[list[str]]:
    """The rows of a round's questions, by their ids; none where no row is in doubt."""
    known, size = asking.known, settings.queries.size
    open_rows = known.open_rows(asking.barred)
    doubtful = rows_in_doubt(known.rated().of(open_rows), settings.budget, size)[: questions * size]
    if len(doubtful) < 2:
        return []
    rows = open_rows[doubtful]
    ids = known.ids.take(pa.array(rows)).to_pylist()
    rng = np.random.default_rng(int(digest("looks", settings.seed, number, ids), 16))
    groups = deal(known.clusters[rows], known.questions_about(rows), size, rng)
    return [[ids[place] for place in group] for group in groups if len(group) > 1]


def _look_rows(groups: list[list[str]], outcomes: list[Outcome], number: int, first: int) -> list[dict[str, Any]]:
    """What answers say, as rows of LOOKS; nothing about rows that were set aside."""
    rows = []
    for question, (group, outcome) in enumerate(zip(groups, outcomes, strict=True), start=first):
        if outcome.abstained:
            continue
        for pass_number, ids in enumerate(outcome.passes or (outcome.ids,), start=1):
            place_of = {id: place for place, id in enumerate(ids, start=1)}
            rows += [
                {
                    "question": question,
                    "round": number,
                    "number": pass_number,
                    "place": place_of.get(id),
                    "id": id,
                    "reply": outcome.reply or "",
                }
                for id in group
                if id not in outcome.aside
            ]
    return rows


def _find_parent(
    store: Store, base: dict[str, Any], decisive: dict[str, Any], inputs: dict[str, StepResult]
) -> StepResult | None:
    """The looks that this very cut was decided on top of before, else the latest about the same rankings."""
    rankings, keys = inputs["rankings"], {name: result.artifact.key for name, result in inputs.items()}
    manifests = [
        manifest
        for manifest in store.manifests("looks")
        if manifest.code_version == CODE_VERSION
        and manifest.inputs.get("rankings") == rankings.manifest.sha256
        and base.items() <= manifest.settings.items()
    ]
    for manifest in reversed(manifests):
        made_from = dict(manifest.made_from)
        parent = made_from.pop("looks", None)
        if manifest.settings == decisive and made_from == keys:
            before = store.manifest(Artifact(kind="looks", key=parent)) if parent else None
            return StepResult(manifest=before, cached=True) if before else None
    latest = (manifest for manifest in reversed(manifests) if store.is_intact(manifest.artifact))
    return next((StepResult(manifest=manifest, cached=True) for manifest in latest), None)
