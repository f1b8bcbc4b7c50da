"""Calibrates a selector's model: has it rank pairs of which we know the better one, as a run would have it rank rows.

Listwise, whole pairs are dealt into queries of the run's size, and the model names the best half of each. All pairs are
dealt and asked about twice. Pointwise, each text is one question; asking again would ask the very same.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from selectllm.execution import run_coroutine
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import ModelInfo
from selectllm.ranking.calibration import Calibration, Judgement, summarize
from selectllm.ranking.calibration_set import Pair, deal, load_pairs
from selectllm.ranking.lists import gather_or_raise
from selectllm.ranking.prompts import Candidate, listwise
from selectllm.ranking.ranker import Ranker
from selectllm.ranking.stats import constant_answer, position_bias
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.steps.model import Job, check_model, longest_request, open_ranker

PASSES: Final = 2
ROWS: Final = 1000  # for which time and cost are told


@dataclass(frozen=True)
class Expense:
    """What asking took, and what `ROWS` rows of such lengths would take in one pass; seconds are of wall-clock time."""

    questions: int
    prompt_tokens: float  # of one question, with what had to be asked again; as is the next
    output_tokens: float
    seconds: float
    questions_for_rows: int
    seconds_for_rows: float
    cost_for_rows: float | None  # None without prices


@dataclass(frozen=True)
class CalibrationReport:
    """Which model was calibrated and how it was asked, with all that was found."""

    model: ModelInfo
    pairs: int
    query_size: int | None  # None pointwise
    calibration: Calibration
    expense: Expense
    repaired: int
    reasked: int

    @property
    def ok(self) -> bool:
        """Whether the model is good enough."""
        return self.calibration.verdict == "good"

    def record(self) -> dict[str, Any]:
        """All of it in plain values."""
        return asdict(self) | {"ok": self.ok}


def calibrate(context: Context) -> CalibrationReport:
    """Have the selector's model judge all pairs of the set.

    The replies are kept in the context's store: give one of its own, since kept replies take no time to measure.
    Raises ModelError, CostExceeded.
    """
    model = check_model(context)
    return run_coroutine(_calibrate(context, model, context.load_keys()))


async def _calibrate(context: Context, model: ModelInfo, keys: ApiKeys) -> CalibrationReport:
    settings, pairs = context.settings, load_pairs()
    candidates = [candidate for pair in pairs for candidate in pair.candidates]
    is_pointwise = model.mode == "pointwise"
    queries = [query for index in range(PASSES) for query in deal(pairs, settings.queries.size, index)]
    questions = len(candidates) if is_pointwise else len(queries)
    job = Job(
        "calibration",
        model,
        questions,
        longest_request(candidates, settings, model.mode, model.think),
        max_abstained=questions,
        max_refused=len(candidates),
        paid_before=context.paid_before(),
    )
    # Passes are counted here: each is a deal of its own, not the same list again.
    once = settings.model_copy(update={"ranking": settings.ranking.model_copy(update={"passes": 1, "batch": False})})
    async with open_ranker(context.store, once, keys, job, context.progress) as ranker:
        started = time.perf_counter()
        if is_pointwise:
            judgements = [await _scored(ranker, pairs)]
        else:
            work = (_ranked(ranker, query, f"query {number}", settings.seed) for number, query in enumerate(queries))
            judgements = await gather_or_raise(work)
        seconds = time.perf_counter() - started
    stats, facts = ranker.stats, ranker.stats.facts()
    calibration = summarize(
        [judgement for judgement in judgements if judgement.pairs],
        stats.abstained / questions,
        settings.ranking.max_abstained,
        p=None if is_pointwise else position_bias(facts),
        constant_answer=constant_answer(facts),
    )
    return CalibrationReport(
        model=model,
        pairs=len(pairs),
        query_size=None if is_pointwise else max(2 * len(query) for query in queries),
        calibration=calibration,
        expense=_expense(ranker, settings, questions, seconds),
        repaired=stats.repaired,
        reasked=stats.reasked,
    )


async def _ranked(ranker: Ranker, pairs: Sequence[Pair], name: str, seed: int) -> Judgement:
    """Have the best half of a query named; those that are not named share the last rank."""
    candidates = [candidate for pair in pairs for candidate in pair.candidates]
    outcome = await ranker.rank(candidates, len(pairs), name)
    if outcome.abstained:
        return Judgement((), {})
    scores = {candidate.id: -float(len(candidates)) for candidate in candidates}
    scores |= {id: -float(place) for place, id in enumerate(outcome.ids)}
    shown = tuple(candidate.id for candidate in listwise(candidates, len(pairs), seed).candidates)
    return Judgement(tuple(pairs), scores, shown, outcome.ids)


async def _scored(ranker: Ranker, pairs: Sequence[Pair]) -> Judgement:
    """Have each text scored; a pair with a text that has no score is left out."""

    async def score(candidate: Candidate) -> float | None:
        return (await ranker.score(candidate, candidate.id)).score

    candidates = [candidate for pair in pairs for candidate in pair.candidates]
    scores = await gather_or_raise(map(score, candidates))
    known = {candidate.id: value for candidate, value in zip(candidates, scores, strict=True) if value is not None}
    whole = tuple(pair for pair in pairs if all(candidate.id in known for candidate in pair.candidates))
    return Judgement(whole, known)


def _expense(ranker: Ranker, settings: RunSettings, questions: int, seconds: float) -> Expense:
    usage = ranker.stats.usage
    needed = ROWS if ranker.info.mode == "pointwise" else math.ceil(ROWS / settings.queries.size)
    scale = needed / questions
    cost = settings.ranking.cost(round(usage.prompt_tokens * scale), round(usage.output_tokens * scale))
    return Expense(
        questions=questions,
        prompt_tokens=round(usage.prompt_tokens / questions, 1),
        output_tokens=round(usage.output_tokens / questions, 1),
        seconds=round(seconds, 2),
        questions_for_rows=needed,
        seconds_for_rows=round(seconds * scale, 1),
        cost_for_rows=None if cost is None else round(cost, 4),
    )
