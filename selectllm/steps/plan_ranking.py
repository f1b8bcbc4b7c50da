"""What ranking a pool in queries will take, without asking a model."""

import math
from collections.abc import Sequence

from selectllm import queries
from selectllm.llm.caller import LongestRequest
from selectllm.llm.model import THINKING_TOKENS, Request
from selectllm.ranking import prompts
from selectllm.ranking.prompts import Candidate, answer_tokens, max_answer_tokens
from selectllm.ranking.tournament import question_counts
from selectllm.steps.look import gathers_ratings, most_questions
from selectllm.steps.model import longest_request
from selectllm.steps.prospect import Planned, Prospect, tokens_of


def plan_ranking(prospect: Prospect) -> Planned:
    """What the queries, the rest of a tier or further looks take, at most."""
    settings, candidates = prospect.settings, prospect.candidates
    options, passes = settings.queries, settings.ranking.passes
    sizes = queries.sizes(len(candidates), options.size, options.composition)
    is_pointwise = prospect.mode == "pointwise"
    counts = _pointwise(prospect) if is_pointwise else _listwise(prospect, sizes)
    longest = longest_request(candidates, settings, prospect.mode, False, prospect.criteria)
    answer = 1 if is_pointwise else max_answer_tokens(settings.ranking.depth, settings.ranking.think in ("low", "on"))
    rows = 1 if is_pointwise else min(options.size, len(candidates))
    return Planned(
        "ranking",
        calls=counts["calls"] or 0,
        prompt_tokens=counts["prompt_tokens"] or 0,
        output_tokens=counts["output_tokens"] or 0,
        longest=LongestRequest(longest.prompt_bytes, answer),
        sample=_sample(prospect, rows),
        rows=rows,
        counts={"mode": prospect.mode, "passes": passes, **counts},
        queries={"count": len(sizes), "size": options.size, "composition": options.composition},
    )


def _sample(prospect: Prospect, rows: int) -> Request:
    """A question of the run, about the first rows of the file: which rows stand in a query is known by embeddings."""
    candidates, settings = prospect.candidates, prospect.settings
    if prospect.mode == "pointwise":
        return prompts.pointwise(candidates[0], prospect.criteria).request(think=prospect.think)
    depth = min(settings.ranking.depth, rows)
    prompt = prompts.listwise(candidates[:rows], depth, settings.seed, criteria=prospect.criteria)
    return prompt.request(think=prospect.think, seed=settings.seed)


def _pointwise(prospect: Prospect) -> dict[str, int | None]:
    """One question a candidate, one token an answer; scores leave nothing for a tournament to decide."""
    calls = len(prospect.candidates)
    texts = (prompts.pointwise(candidate, prospect.criteria).text for candidate in prospect.candidates)
    tokens = {"prompt_tokens": round(sum(map(tokens_of, texts))), "output_tokens": calls}
    return {"depth": None, "pages": 1, "rounds": 0, "look_calls": 0, "calls": calls, **tokens}


def _listwise(prospect: Prospect, sizes: Sequence[int]) -> dict[str, int | None]:
    """At most: as if the excluded rows were on the first ranks, and every further look was taken."""
    settings, candidates, excluded = prospect.settings, prospect.candidates, len(prospect.excluded)
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

    alone = prompts.listwise(candidates[:1], 1, settings.seed, criteria=prospect.criteria)
    fixed = tokens_of(alone.text) - _shown_tokens(candidates[:1])
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


def _shown_tokens(candidates: Sequence[Candidate]) -> float:
    return sum(tokens_of(candidate.instruction + (candidate.input or "")) + 10 for candidate in candidates)
