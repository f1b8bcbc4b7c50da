"""For strategies that rate rows: the model rates each row by itself, on one dimension or on several."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import pyarrow as pa

from selectllm.llm.caller import LongestRequest
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import ModelInfo
from selectllm.ranking import row_ratings
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.row_questions import Asking, RowQuestion
from selectllm.ranking.row_ratings import Dimension, RatingQuestion
from selectllm.ranking.thinking import name_of
from selectllm.schemas import ROW_RATINGS
from selectllm.settings import RunSettings
from selectllm.steps.ask_rows import ask_about_rows
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.exclude import excluded_ids
from selectllm.steps.model import is_acceptable, shown_candidates

CODE_VERSION: Final = 1
"""Raise it when the same replies are to give other ratings, or their facts get other names."""


def rate_rows(
    context: Context,
    model: ModelInfo,
    pool: StepResult,
    excluded: StepResult | None,
    dimensions: Sequence[Dimension],
) -> StepResult:
    """Have the model rate every row of the pool that may be chosen, on each dimension; ROW_RATINGS.

    Raises ModelError, CostExceeded, Stopped, and TooManyAbstained when more questions than `--max-abstained` allows
    have no usable answer.
    """
    settings, criteria = context.settings, context.criteria
    asked = [dimension.by(criteria) for dimension in dimensions]
    decisive = row_settings(settings, model) | {"prompts": row_ratings.CODE_VERSION}
    decisive |= {"dimensions": [asdict(dimension) for dimension in dimensions]}
    decisive |= {} if criteria is None or asked == list(dimensions) else {"criteria": criteria}
    entry = rows_entry(context, pool, excluded, decisive)
    if result := entry.load():
        return result
    candidates, clipped = asked_candidates(context, pool, excluded)
    questions = [RatingQuestion(row, dimension, model.mode, model.think) for row in candidates for dimension in asked]
    asking = ask_about_rows(context, model, "ratings", questions, longest_of(candidates, questions))
    rows = [
        {"id": question.id, "dimension": question.dimension.name, "score": answer.value, "reply": answer.reply}
        for question in questions
        if (answer := asking.answers.get(question.name))
    ]
    return save_rows(context, entry, asking, rows, {"rows": len(candidates), "clipped": clipped})


def row_settings(settings: RunSettings, model: ModelInfo) -> dict[str, Any]:
    """What decides the replies about single rows, whatever is asked."""
    asked = {"model": model.digest, "name": model.name, "mode": model.mode, "think": name_of(model.think)}
    return asked | {"candidate_chars": settings.ranking.candidate_chars}


def rows_entry(context: Context, pool: StepResult, excluded: StepResult | None, decisive: dict[str, Any]) -> CacheEntry:
    """The place of ROW_RATINGS: excluded rows are not asked about, so another exclusion makes another artifact."""
    inputs = {"pool": pool} | ({"excluded": excluded} if excluded else {})
    acceptable = partial(is_acceptable, context.settings, None)
    return CacheEntry(context.store, "row_ratings", CODE_VERSION, inputs, decisive, acceptable)


def asked_candidates(context: Context, pool: StepResult, excluded: StepResult | None) -> tuple[list[Candidate], int]:
    """The rows that may be chosen, as the model gets to see them, and how many of the pool were clipped for that."""
    candidates = shown_candidates(pool.table(context.store), context.settings)
    barred = excluded_ids(context, excluded)
    return [candidate for id, candidate in candidates.items() if id not in barred], candidates.clipped


def longest_of(candidates: Sequence[Candidate], questions: Sequence[RowQuestion]) -> LongestRequest:
    """The longest of the questions, which are about the longest row; an answer has twice its room, as elsewhere."""
    longest = max(candidates, key=lambda candidate: candidate.shown_bytes).id
    requests = [question.request(9999, " " * 60) for question in questions if question.id == longest]
    return LongestRequest(
        max(len(request.text.encode()) for request in requests),
        2 * max(request.max_tokens for request in requests),
    )


def save_rows(
    context: Context, entry: CacheEntry, asking: Asking, rows: list[dict[str, Any]], facts: dict[str, Any]
) -> StepResult:
    """Save ROW_RATINGS with what asking for them took, and how many rows share a score with another."""
    model, stats = context.log.model, asking.stats
    assert model is not None  # it has just answered
    stats.errors_by_kind += asking.without_reply
    scores: dict[str, Counter[float]] = {}
    for row in rows:
        scores.setdefault(row["dimension"], Counter())[row["score"]] += 1
    tied = {name: sum(times for times in counts.values() if times > 1) for name, counts in sorted(scores.items())}
    table = pa.Table.from_pylist(rows, schema=ROW_RATINGS)
    saved = entry.save(table, stats.facts() | facts | {"tied_rows": tied}, **stats.paid())
    if stats.abstained:
        note_end(context.store, model)
    return saved
