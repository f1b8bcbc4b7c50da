"""What a run would do and take, without embedding a row or asking a model."""

import math
from typing import Any, Final

from selectllm import pool, queries
from selectllm.llm import mode_of
from selectllm.llm.model import THINKING_TOKENS, answer_tokens
from selectllm.ranking import prompts, tournament
from selectllm.ranking.prompts import Candidate
from selectllm.settings import RunSettings
from selectllm.steps.check_model import shown_candidates
from selectllm.steps.exclude import excluded_rows
from selectllm.steps.read_pool import check_budget
from selectllm.steps.validate import pool_judge
from selectllm.store import Store

BYTES_PER_TOKEN: Final = 4.0
"""Of UTF-8: usual for English; other languages take more tokens, so the estimate says that it is one."""


def plan_run(run: RunSettings) -> dict[str, Any]:
    """Count rows, queries, rounds and calls, and estimate tokens, for the run as it is set.

    Calls are an upper bound: replies that the store has are not asked for again, answers that cannot be used are
    asked for again up to three times. Raises PoolError, and UsageError when the budget is larger than the pool.
    """
    found = pool.read(run.pool, pool.Columns(**run.columns.model_dump()), pool_judge(run))
    if found.refused:
        raise pool.refusal(run.pool, found.refused)
    rows = found.table.num_rows
    check_budget(run.budget, rows)
    excluded, _ = excluded_rows(Store(run.store), run, found.table["id"].to_pylist())
    sizes = queries.sizes(rows, run.queries.size, run.queries.composition)
    candidates = list(shown_candidates(found.table, run)[0].values())
    mode = mode_of(run.selector, run.ranking.mode)
    ranking = _pointwise(candidates) if mode == "pointwise" else _listwise(run, sizes, candidates, len(excluded))
    return {
        "pool": {
            "rows_read": found.rows_read,
            "quarantined": found.quarantined,
            "duplicates": found.duplicates,
            "kept": rows,
        },
        "queries": {"count": len(sizes), "size": run.queries.size, "composition": run.queries.composition},
        "ranking": {"mode": mode, "passes": run.ranking.passes, **ranking},
        "cost": _cost(run, ranking),
        "selection": {"budget": run.budget, "excluded": len(excluded)},
        "model": {"selector": run.selector},
        "seed": run.seed,
    }


def _pointwise(candidates: list[Candidate]) -> dict[str, Any]:
    """One question a candidate, one token an answer; scores leave nothing for a tournament to decide."""
    read = sum(_tokens(prompts.pointwise(candidate).text) for candidate in candidates)
    calls = len(candidates)
    return {
        "depth": None,
        "blocks": 1,
        "rounds": 0,
        "calls": calls,
        "prompt_tokens": round(read),
        "output_tokens": calls,
    }


def _listwise(run: RunSettings, sizes: list[int], candidates: list[Candidate], excluded: int) -> dict[str, Any]:
    """At most: as if the excluded rows stood on the first ranks, as those that a history has chosen do."""
    depth, budget, size = run.ranking.depth, run.budget + excluded, run.queries.size
    level = next(level for level in range(1, size + 1) if sum(min(one, level) for one in sizes) >= budget)
    on_level = sum(one >= level for one in sizes)
    taken = budget - sum(min(one, level - 1) for one in sizes)
    rounds = tournament.questions(on_level, size) if taken < on_level else []
    blocks = math.ceil(level / depth)
    # A candidate that is left alone in its query needs no question.
    asked = [sum(one > depth * block + 1 for one in sizes) for block in range(blocks)]

    around = _tokens(prompts.listwise(candidates[:1], 1, run.seed).text) - _shown_tokens(candidates[:1])
    a_candidate = _shown_tokens(candidates) / len(candidates)
    shown = [sum(max(one - depth * block, 0) for one in sizes) for block in range(blocks)]
    met = sum(min(on_level, questions * size) for questions in rounds)
    passes = run.ranking.passes
    thought = 0 if run.ranking.think == "off" else THINKING_TOKENS
    calls = passes * (sum(asked) + sum(rounds))
    return {
        "depth": depth,
        "blocks": blocks,
        "rounds": len(rounds),
        "calls": calls,
        "ranking_calls": passes * sum(asked),
        "tournament_calls": passes * sum(rounds),
        "prompt_tokens": round(calls * around + passes * (sum(shown) + met) * a_candidate),
        "output_tokens": passes
        * (sum(asked) * (answer_tokens(min(depth, size)) + thought) + sum(rounds) * (answer_tokens(size) + thought)),
    }


def _cost(run: RunSettings, ranking: dict[str, Any]) -> float | None:
    """By the prices given, at the most tokens that answers may take; None without prices."""
    price_in, price_out = run.ranking.price_in / 1e6, run.ranking.price_out / 1e6
    if not price_in and not price_out:
        return None
    return round(float(ranking["prompt_tokens"] * price_in + ranking["output_tokens"] * price_out), 4)


def _shown_tokens(candidates: list[Candidate]) -> float:
    return sum(_tokens(candidate.instruction + (candidate.input or "")) + 10 for candidate in candidates)


def _tokens(text: str) -> float:
    return len(text.encode()) / BYTES_PER_TOKEN
