"""What ranking and the tournament share: the model, checked and made ready, and what it gets to see."""

import math
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from selectllm.errors import TooManyAbstained
from selectllm.execution import Progress, SpendingProgress, no_progress, note_spent, run_coroutine
from selectllm.llm import open_model
from selectllm.llm.caller import CostLimit, LongestRequest, open_caller
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger_lines import note_end
from selectllm.llm.model import Mode, ModelInfo, Think
from selectllm.ranking import prompts
from selectllm.ranking.answers import PADDED
from selectllm.ranking.candidates import Candidates
from selectllm.ranking.lists import GIVEN_UP
from selectllm.ranking.prompts import Candidate, max_answer_tokens
from selectllm.ranking.ranker import Ranker, RankingOptions
from selectllm.ranking.stats import merge
from selectllm.ranking.thinking import name_of
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.steps.thinking import decide_thinking
from selectllm.store import Manifest, Store


@dataclass(frozen=True)
class Job:
    """So many questions of one step of a run."""

    step: str
    model: ModelInfo
    questions: int
    longest: LongestRequest  # of the whole run, so that all are asked within the same context
    max_abstained: int = 0  # of the questions
    max_refused: int = 0  # of the pool's rows
    paid_before: tuple[int, int] = (0, 0)  # tokens of prompts and of answers, so that the run keeps to one limit
    criteria: str | None = None  # the text itself: another process may not have the file


def check_model(context: Context) -> ModelInfo:
    """Make sure that the selector's model is there, and decide how it is to think, before anything is computed.

    Raises SelectorUnavailable; ModelError where the model cannot be asked how it thinks.
    """
    return run_coroutine(_model_info(context, context.load_keys()))


async def _model_info(context: Context, keys: ApiKeys) -> ModelInfo:
    settings = context.settings
    hosts = await open_model(settings.selector, settings.ranking, keys)
    await hosts.close()
    # One question, which is asked at once: nobody waits a day to know how the others are to be asked.
    alone = settings.model_copy(update={"ranking": settings.ranking.without_batch()})
    return await decide_thinking(replace(context, settings=alone), hosts.info, cost_limit(alone, (0, 0)), keys)


@asynccontextmanager
async def open_ranker(
    store: Store, settings: RunSettings, keys: ApiKeys, job: Job, progress: Progress = no_progress
) -> AsyncIterator[Ranker]:
    """The job's model, ready to be asked, with all replies that it ever gave in this store.

    Raises SelectorUnavailable when it is another model by now, ModelError when it cannot be made ready.
    """
    done, notes_spent = 0, isinstance(progress, SpendingProgress)  # a look that takes long, for each answer

    def on_answer() -> None:
        nonlocal done
        done += 1
        progress(job.step, done, job.questions)
        if notes_spent:
            note_spent(progress, job.paid_before, caller.usage.paid_prompt_tokens, caller.usage.paid_output_tokens)

    limit = cost_limit(settings, job.paid_before)
    options = RankingOptions(
        seed=settings.seed,
        passes=settings.ranking.passes,
        think=job.model.think,
        criteria=job.criteria,
        max_abstained=job.max_abstained,
        max_refused=job.max_refused,
    )
    async with open_caller(store, settings, job.model, job.longest, limit, keys) as caller:
        progress(job.step, 0, job.questions)
        yield Ranker(caller, options, on_answer)


@contextmanager
def end_noted(store: Store, model: ModelInfo) -> Iterator[None]:
    """Note in the ledger when the block ends with TooManyAbstained: the next run then asks these questions again."""
    try:
        yield
    except TooManyAbstained:
        note_end(store, model)
        raise


def cost_limit(settings: RunSettings, paid_before: tuple[int, int]) -> CostLimit:
    """What the rest of the run may cost."""
    options = settings.ranking
    max_cost = math.inf if options.max_cost is None else options.max_cost
    return CostLimit(max_cost, *options.token_prices, paid_before)


def allowed(settings: RunSettings, count: int) -> int:
    """How many of so many questions may go without a usable answer, or of so many rows may be refused."""
    return math.floor(settings.ranking.max_abstained * count + 1e-9)  # 0.29 * 100 is less than 29


def cache_settings(settings: RunSettings, model: ModelInfo, criteria: str | None) -> dict[str, Any]:
    """What decides the replies, besides the candidates themselves; without criteria keys are what they always were."""
    options = settings.ranking.model_dump(include={"candidate_chars", "passes"})
    asked = {"model": model.digest, "name": model.name, "mode": model.mode, "think": name_of(model.think)}
    own = {} if criteria is None else {"criteria": criteria}
    return options | asked | {"prompts": prompts.CODE_VERSION, "seed": settings.seed} | own


def is_acceptable(settings: RunSettings, before: Mapping[str, Any] | None, manifest: Manifest) -> bool:
    """Whether rankings that were made before are what the run wants; made again, kept replies cost nothing.

    They are not where a host's failure left a query without any reply, where more abstained than this run allows, or
    where rows have no answer about them and the run is to ask again. `before` are the facts of the rankings that a
    tournament is made from: both share one limit.
    """
    facts = manifest.facts
    has_gaps = any(facts.get(name) for name in ("abstained", "undecided", "refused_rows"))
    if GIVEN_UP in facts["errors_by_kind"] or (settings.ranking.reask and has_gaps):
        return False
    both = merge(facts, before or {})
    return bool(both["abstained"] <= allowed(settings, both["abstained"] + both["ranked"]))


def shown_candidates(pool: pa.Table, settings: RunSettings) -> Candidates:
    """The pool's candidates, as the model gets to see them."""
    return Candidates(pool, settings.ranking.candidate_chars)


def longest_request(
    candidates: Collection[Candidate], settings: RunSettings, mode: Mode, think: Think, criteria: str | None = None
) -> LongestRequest:
    """The longest request about the pool's candidates; an answer that was cut off is asked for with twice the room."""
    size = 0 if mode == "pointwise" else settings.queries.size
    longest = sorted(candidates, key=lambda candidate: -candidate.shown_bytes)[: max(size, 1)]
    if mode == "pointwise":
        text = prompts.pointwise(longest[0], criteria).text
    else:
        text = prompts.listwise(longest, len(longest), 0, criteria=criteria).again(PADDED, 9999).text
    return LongestRequest(len(text.encode()), 2 * max_answer_tokens(size, think))
