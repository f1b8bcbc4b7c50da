"""What a run would do and take, without embedding a row or asking a model."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from selectllm import pool, queries
from selectllm.errors import StoreError, UsageError
from selectllm.llm import mode_of
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import THINKING_TOKENS, Mode, ModelInfo, Reply, Think
from selectllm.llm.prices import list_prices_of, with_list_prices
from selectllm.llm.speed import BYTES_PER_TOKEN, Speed, time_warning
from selectllm.ranking import prompts
from selectllm.ranking.prompts import Candidate, answer_tokens, max_answer_tokens
from selectllm.ranking.reasons import max_reason_tokens, reason_request
from selectllm.ranking.thinking import WAYS
from selectllm.ranking.tournament import question_counts
from selectllm.settings import RunSettings
from selectllm.steps.criteria import read_criteria
from selectllm.steps.exclude import excluded_rows
from selectllm.steps.left_out import check_budget
from selectllm.steps.look import gathers_ratings, most_questions
from selectllm.steps.model import longest_request, shown_candidates
from selectllm.steps.read_pool import usable_rows
from selectllm.store import Store
from selectllm.store.runs import list_runs, load_run
from selectllm.strategies import check_reasons, load_strategy

LATEST_RUNS: Final = 20  # among which one is looked for that asked the same model


def plan_run(settings: RunSettings, *, show_prompt: bool = False) -> dict[str, Any]:
    """Count rows, queries, rounds and calls, and estimate tokens, for the run as it is set.

    Calls are an upper bound: replies that the store has are not asked for again, answers that cannot be used are
    asked for again up to three times. `queries`, `ranking` and `cost` are null where the strategy asks no model, and
    `reasons` where none are asked for. `cost` is by the prices given, or else by list prices, whose date
    `list_prices_of` is then: an estimate in USD. It is null where there are neither.
    With `show_prompt`, `prompt` is a whole question, as it would be sent; else it is null.
    Raises PoolError, and UsageError when the budget is larger than the pool, when the criteria cannot be read, or when
    a prompt is to be shown of a strategy that asks no model.
    """
    check_reasons(settings)
    strategy, criteria = load_strategy(settings.strategy), read_criteria(settings)
    if show_prompt and "model" not in strategy.needs:
        raise UsageError(f"the strategy {settings.strategy} asks no model: there is no prompt to show")
    rows, _ = usable_rows(settings, pool.fetch(*settings.pools))
    if rows.refused:
        raise pool.refusal(settings.pools, rows.refused)
    kept = rows.table.num_rows
    check_budget(settings, kept, rows.quarantine)
    excluded, _ = excluded_rows(Store(settings.store), settings, rows.table["id"].to_pylist())
    ranking, reasons, cost, prompt, options = None, None, None, None, settings.queries
    sizes = queries.sizes(kept, options.size, options.composition) if "model" in strategy.needs else []
    if sizes:
        candidates = list(shown_candidates(rows.table, settings)[0].values())
        mode = mode_of(settings.selector, settings.ranking.mode)
        is_pointwise = mode == "pointwise"
        if is_pointwise:
            counts = _pointwise(candidates, criteria)
        else:
            counts = _listwise(settings, sizes, candidates, len(excluded), criteria)
        longest = _longest(settings, candidates, mode, criteria)
        ranking = {"mode": mode, "passes": settings.ranking.passes, **counts, "longest": longest}
        reasons = _reasons(settings, candidates, criteria) if settings.reasons else None
        tokens = [counts[name] + (reasons[name] if reasons else 0) for name in ("prompt_tokens", "output_tokens")]
        cost = with_list_prices(settings).cost(*tokens)
        prompt = _prompt(settings, candidates, mode, criteria) if show_prompt else None
    return {
        "strategy": settings.strategy,
        "pool": {name: getattr(rows, name) for name in ("rows_read", "quarantined", "duplicates")} | {"kept": kept},
        "queries": {"count": len(sizes), "size": options.size, "composition": options.composition} if sizes else None,
        "ranking": ranking,
        "reasons": reasons,
        "cost": None if cost is None else round(cost, 4),
        "list_prices_of": None if cost is None else list_prices_of(settings),
        "selection": {"budget": settings.budget, "excluded": len(excluded)},
        "model": {"selector": settings.selector} if ranking else None,
        "seed": settings.seed,
        "prompt": prompt,
    }


def _prompt(settings: RunSettings, candidates: Sequence[Candidate], mode: Mode, criteria: str | None) -> dict[str, Any]:
    """A question of the run, about the first rows of the file: which rows stand in a query is known by embeddings."""
    if mode == "pointwise":
        shown, prompt = 1, prompts.pointwise(candidates[0], criteria)
    else:
        shown = min(settings.queries.size, len(candidates))
        depth = min(settings.ranking.depth, shown)
        prompt = prompts.listwise(candidates[:shown], depth, settings.seed, criteria=criteria)
    request = prompt.request(think=_way(settings), seed=settings.seed)
    return {
        "rows": shown,
        "messages": None if request.logprobs else [{"role": "user", "content": request.text}],
        "continued": request.text if request.logprobs else None,  # by one token, where the server continues raw texts
        "schema": request.schema,
        "max_tokens": request.max_tokens,
        "temperature": 0,
        "seed": request.seed,
        "think": settings.ranking.think,
    }


def _longest(
    settings: RunSettings, candidates: Sequence[Candidate], mode: Mode, criteria: str | None
) -> dict[str, Any]:
    """The longest question, how long it takes by earlier replies, and what to do where that is too long."""
    tokens = longest_request(candidates, settings, mode, False, criteria).prompt_bytes / BYTES_PER_TOKEN
    speed, answer = Speed.of(_earlier_replies(settings)), 1
    if mode == "listwise":
        answer = max_answer_tokens(settings.ranking.depth, settings.ranking.think in ("low", "on"))
    seconds = speed.seconds(tokens, answer) if speed else None
    return {
        "prompt_tokens": round(tokens),
        "tokens_read_per_second": speed and round(speed.read, 1),
        "seconds": seconds and round(seconds, 1),
        "warning": time_warning(seconds, settings.ranking) if seconds else "",
    }


def _earlier_replies(settings: RunSettings) -> list[Reply]:
    """Replies of the selector's model, as the latest run in the store that asked it knew it."""
    store = Store(settings.store)
    for run in list_runs(store)[:LATEST_RUNS]:
        with suppress(StoreError, TypeError):  # a damaged record, or one of before 0.1, is no matter of a plan
            info = ModelInfo(**(load_run(store, run).model or {}))
            if info.selector == settings.selector:
                return Ledger(store, info).latest_replies()
    return []


def _pointwise(candidates: Sequence[Candidate], criteria: str | None) -> dict[str, Any]:
    """One question a candidate, one token an answer; scores leave nothing for a tournament to decide."""
    calls = len(candidates)
    prompt_tokens = sum(_tokens(prompts.pointwise(candidate, criteria).text) for candidate in candidates)
    tokens = {"prompt_tokens": round(prompt_tokens), "output_tokens": calls}
    return {"depth": None, "pages": 1, "rounds": 0, "look_calls": 0, "calls": calls, **tokens}


def _listwise(
    settings: RunSettings,
    sizes: Sequence[int],
    candidates: Sequence[Candidate],
    excluded: int,
    criteria: str | None,
) -> dict[str, Any]:
    """At most: as if the excluded rows were on the first ranks, and every further look was taken."""
    depth, budget, size = settings.ranking.depth, settings.budget + excluded, settings.queries.size
    tier = next(tier for tier in range(1, size + 1) if sum(min(rows, tier) for rows in sizes) >= budget)
    on_tier = sum(rows >= tier for rows in sizes)
    taken = budget - sum(min(rows, tier - 1) for rows in sizes)
    by_ratings = gathers_ratings(settings, "listwise")
    rounds = question_counts(on_tier, size) if taken < on_tier and not by_ratings else []
    looks = most_questions(settings, len(sizes)) if by_ratings and settings.budget < sum(sizes) - excluded else 0
    pages = math.ceil(tier / depth)
    # A candidate that is left alone in its query needs no question.
    asked = [sum(rows > depth * page + 1 for rows in sizes) for page in range(pages)]

    alone = prompts.listwise(candidates[:1], 1, settings.seed, criteria=criteria)
    fixed = _tokens(alone.text) - _shown_tokens(candidates[:1])
    per_candidate = _shown_tokens(candidates) / len(candidates)
    shown = [sum(max(rows - depth * page, 0) for rows in sizes) for page in range(pages)]
    in_tournament = sum(min(on_tier, questions * size) for questions in rounds)
    passes = settings.ranking.passes
    thinking = 0 if settings.ranking.think in ("auto", "off") else THINKING_TOKENS
    calls = passes * (sum(asked) + sum(rounds) + looks)
    written = sum(asked) * (answer_tokens(min(depth, size)) + thinking)
    written += (sum(rounds) + looks) * (answer_tokens(size) + thinking)
    return {
        "depth": depth,
        "pages": pages,
        "rounds": len(rounds),
        "calls": calls,
        "ranking_calls": passes * sum(asked),
        "tournament_calls": passes * sum(rounds),
        "look_calls": passes * looks,
        "prompt_tokens": round(calls * fixed + passes * (sum(shown) + in_tournament + looks * size) * per_candidate),
        "output_tokens": passes * written,
    }


def _reasons(settings: RunSettings, candidates: Sequence[Candidate], criteria: str | None) -> dict[str, int]:
    """One question more for each row that will be chosen, as if these were as long as the pool's rows are."""
    way = _way(settings)
    asked = sum(_tokens(reason_request(candidate, 0, way, criteria).text) for candidate in candidates)
    return {
        "calls": settings.budget,
        "prompt_tokens": round(settings.budget * asked / len(candidates)),
        "output_tokens": settings.budget * max_reason_tokens(way),
    }


def _way(settings: RunSettings) -> Think:
    """How the model is asked to think; without, where only the run will decide it."""
    return False if settings.ranking.think == "auto" else WAYS[settings.ranking.think]


def _shown_tokens(candidates: Sequence[Candidate]) -> float:
    return sum(_tokens(candidate.instruction + (candidate.input or "")) + 10 for candidate in candidates)


def _tokens(text: str) -> float:
    return len(text.encode()) / BYTES_PER_TOKEN
