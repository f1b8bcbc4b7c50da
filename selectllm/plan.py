"""What a run would do and take, without embedding a row or asking a model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from selectllm import pool
from selectllm.errors import StoreError, UsageError
from selectllm.llm import mode_of
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import ModelInfo, Reply
from selectllm.llm.prices import list_prices_of, with_list_prices
from selectllm.llm.speed import BYTES_PER_TOKEN, Speed, time_warning
from selectllm.paths import redact_url
from selectllm.queries import Vectors
from selectllm.ranking.looks import questions_by_round
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.reasons import max_reason_tokens, reason_request
from selectllm.settings import RunSettings
from selectllm.steps.criteria import read_criteria
from selectllm.steps.examples import Examples, read_examples
from selectllm.steps.exclude import excluded_rows
from selectllm.steps.given_vectors import example_vectors, given_vectors
from selectllm.steps.left_out import check_budget
from selectllm.steps.model import shown_candidates
from selectllm.steps.prospect import Planned, Prospect, tokens_of
from selectllm.steps.read_pool import usable_rows
from selectllm.steps.shortlist import shortlist_rows
from selectllm.steps.stratify import divide
from selectllm.store import Store
from selectllm.store.runs import list_runs, load_run
from selectllm.strategies import check_strategy, load_strategy

LATEST_RUNS: Final = 20  # among which one is looked for that asked the same model


def plan_run(settings: RunSettings, *, show_prompt: bool = False) -> dict[str, Any]:
    """Count rows, queries, rounds and calls, and estimate tokens, for the run as it is set.

    Calls are an upper bound: replies that the store has are not asked for again, answers that cannot be used are
    asked for again up to three times. Null are `queries` where none are built, `ranking` where none are ranked,
    `row_ratings` where rows are not asked about one by one, `reasons` where none are asked for, `embeddings` where no
    vectors are given, and `target`, `away_from` and `strata` without such an aim. `cost` is by the prices given, or
    else by list prices, whose date `list_prices_of` is then: an estimate in USD. It is null where there are neither, or
    nothing is asked. What depends on embeddings is not known: of tests it counts the rows of the pool that stand in
    them, and `strata` is null as well where there is a target, or there are tests.
    With `show_prompt`, `prompt` is a whole question, as it would be sent; else it is null.
    Raises PoolError, also where a row, an example or a test has none of the vectors given, and UsageError when the
    budget is larger than the pool, when the criteria cannot be read, when the strategy cannot do with the settings, or
    when a prompt is to be shown of a strategy that asks no model.
    """
    check_strategy(settings)
    strategy, criteria = load_strategy(settings.strategy), read_criteria(settings)
    if show_prompt and "model" not in strategy.needs:
        raise UsageError(f"the strategy {settings.strategy} asks no model: there is no prompt to show")
    rows, _ = usable_rows(settings, pool.fetch(*settings.pools))
    if rows.refused:
        raise pool.refusal(settings.pools, rows.refused)
    kept = rows.table.num_rows
    check_budget(settings, kept, rows.quarantine)
    aim, ids = settings.aim, rows.table["id"].to_pylist()
    tests = [read_examples(settings, file) for file in aim.away_from]
    examples = read_examples(settings, aim.target) if aim.target else None
    in_tests = {id: "" for test in tests for id in test.table["id"].to_pylist()}
    excluded, _ = excluded_rows(Store(settings.store), settings, ids, in_tests)
    given = settings.embedding.given
    vectors = None if given is None else given_vectors(given, rows.table)
    if given is not None and vectors is not None:
        for beside in (*tests, *([examples] if examples else [])):
            example_vectors(given, beside.table, vectors.shape[1], rows.table)
    strata = divide(settings, rows.table, {id for id, _ in excluded})[0] if aim.column is not None else None
    target = _target(settings, examples, kept - len(excluded)) if examples else None
    planned, reasons, cost = None, None, None
    if "model" in strategy.needs:
        candidates = tuple(shown_candidates(rows.table, settings).values())
        barred = frozenset(id for id, _ in excluded)
        if target:  # of a shortlist none is excluded
            candidates, barred = _shortlist(settings, candidates, target["shortlisted"]), frozenset()
        prospect = Prospect(settings, candidates, barred, mode_of(settings.selector, settings.ranking.mode), criteria)
        planned = strategy.plan(prospect)
        reasons = _reasons(prospect) if settings.reasons else None
    if planned is None and show_prompt:
        raise UsageError(f"the strategy {settings.strategy} does not say what it asks: there is no prompt to show")
    if planned:
        read, written = (
            getattr(planned, name) + (reasons[name] if reasons else 0) for name in ("prompt_tokens", "output_tokens")
        )
        cost = with_list_prices(settings).cost(read, written)
    plan = {
        "strategy": settings.strategy,
        "pool": {name: getattr(rows, name) for name in ("rows_read", "quarantined", "duplicates")} | {"kept": kept},
        "queries": planned.queries if planned else None,
        "ranking": None,
        "row_ratings": None,
        "reasons": reasons,
        "embeddings": None if given is None or vectors is None else _given(given, vectors),
        "cost": None if cost is None else round(cost, 4),
        "batches": _batches(settings, planned) if planned and settings.ranking.batch else None,
        "list_prices_of": None if cost is None else list_prices_of(settings),
        "selection": {"budget": settings.budget, "excluded": len(excluded)},
        "target": target,
        "away_from": {"test_rows": sum(len(test.table) for test in tests), "in_tests": len(in_tests.keys() & set(ids))}
        if tests
        else None,
        # Which rows of a value are on a shortlist, or too near to tests, only their vectors tell.
        "strata": None
        if strata is None or target or tests
        else {"column": settings.aim.column, "values": list(map(asdict, strata))},
        "model": {"selector": settings.selector} if "model" in strategy.needs else None,
        "seed": settings.seed,
        "prompt": _prompt(settings, planned) if planned and show_prompt else None,
    }
    return plan | ({planned.part: planned.counts | {"longest": _longest(settings, planned)}} if planned else {})


def _given(given: str, vectors: Vectors) -> dict[str, Any]:
    """Where the vectors that the user gives come from, and how many numbers each has."""
    return {"given": redact_url(given), "dimension": vectors.shape[1]}


def _target(settings: RunSettings, examples: Examples, allowed: int) -> dict[str, int]:
    """How many examples there are, and at most how many rows are on the shortlist of a pool of so many."""
    return {"examples": len(examples.table), "shortlisted": shortlist_rows(settings, allowed)}


def _shortlist(settings: RunSettings, candidates: Sequence[Candidate], count: int) -> tuple[Candidate, ...]:
    """So many rows of a pool, evenly spread, as which are on a shortlist is not known yet; the longest among them."""
    longest = sorted(candidates, key=lambda candidate: -candidate.shown_bytes)[: min(settings.queries.size, count)]
    spread = [candidates[row * len(candidates) // count] for row in range(count)]
    return (*spread[len(longest) :], *longest)


def _prompt(settings: RunSettings, planned: Planned) -> dict[str, Any]:
    """A question of the run."""
    request = planned.sample
    return {
        "rows": planned.rows,
        "messages": None if request.logprobs else [{"role": "user", "content": request.text}],
        "continued": request.text if request.logprobs else None,  # by one token, where the server continues raw texts
        "schema": request.schema,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "think": settings.ranking.think,
    }


def _longest(settings: RunSettings, planned: Planned) -> dict[str, Any]:
    """The longest question, how long it takes by earlier replies, and what to do where that is too long."""
    tokens, speed = planned.longest.prompt_bytes / BYTES_PER_TOKEN, Speed.of(_earlier_replies(settings))
    seconds = speed.seconds(tokens, planned.longest.max_tokens) if speed else None
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


def _batches(settings: RunSettings, planned: Planned) -> int:
    """How many batches a run sends one after the other, unless answers have to be asked for again."""
    if planned.part != "ranking":
        return 1 + settings.reasons
    counts, passes = planned.counts, settings.ranking.passes
    looks = sum(questions > 0 for questions in questions_by_round(counts["look_calls"] // passes))
    return int(counts["pages"] + counts["rounds"] + looks + settings.reasons)


def _reasons(prospect: Prospect) -> dict[str, int]:
    """One question more for each row that will be chosen, as if these were as long as the pool's rows are."""
    budget, candidates = prospect.settings.budget, prospect.candidates
    texts = (reason_request(candidate, 0, prospect.think, prospect.criteria).text for candidate in candidates)
    return {
        "calls": budget,
        "prompt_tokens": round(budget * sum(map(tokens_of, texts)) / len(candidates)),
        "output_tokens": budget * max_reason_tokens(prospect.think),
    }
