"""What the ranking and the tournament share: the model, met and made ready, and what it gets to see."""

import math
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

import pyarrow as pa

from selectllm import cancellation
from selectllm.errors import Stopped
from selectllm.llm import ModelInfo, open_model
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import most_tokens
from selectllm.ranking import prompts
from selectllm.ranking.prompts import Candidate
from selectllm.ranking.ranker import Ranker, RankingOptions
from selectllm.ranking.stats import RequestStats
from selectllm.settings import RunSettings
from selectllm.steps.cache import Progress, StepResult
from selectllm.store import Manifest, Store

GRACE: Final = 5.0
"""Seconds that replies under way may still take when someone stops a run."""


async def check_model(run: RunSettings) -> ModelInfo:
    """Make sure that the selector is there, before anything is computed for it.

    Raises SelectorUnavailable.
    """
    hosts = await open_model(run.selector, run.ranking)
    try:
        return hosts.card
    finally:
        await hosts.close()


@asynccontextmanager
async def open_asker(
    store: Store,
    run: RunSettings,
    card: ModelInfo,
    longest: int,
    step: str,
    questions: int,
    tell: Progress,
    before: StepResult | RequestStats | None = None,
) -> AsyncIterator[Ranker]:
    """The model, ready to be asked `questions` questions for a step, with all that it was ever asked in this store.

    `longest` is the size in bytes of the run's longest prompt, `before` what has paid for replies in this run already.

    Raises SelectorUnavailable when it is no longer the model of the card, ModelError when it cannot be made ready.
    """
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        tell(step, done, questions)

    with cancellation.cancel_on_signal():
        hosts = await open_model(run.selector, run.ranking, met=card)
        try:
            await hosts.prepare(longest, _room(run, card))
            tell(step, 0, questions)
            ledger = Ledger(store, card)
            asker = Ranker(hosts, ledger, manner(run, questions, before), told)
            try:
                yield asker
            except BaseException as error:
                interrupted = isinstance(error, Stopped) or not isinstance(error, Exception)
                await asker.settle(GRACE if interrupted else run.ranking.timeout)
                raise
            finally:
                await ledger.close()
            asker.tally.faults += hosts.faults
            asker.tally.queued += hosts.queued
        finally:
            await hosts.close()


def _room(run: RunSettings, card: ModelInfo) -> int:
    """Tokens to keep free for the longest answer, which may have to be asked for with twice the room."""
    return 2 * most_tokens(0 if card.mode == "pointwise" else run.queries.size, run.ranking.think != "off")


def most_abstained(run: RunSettings, questions: int) -> int:
    """How many of so many questions may go without a usable answer."""
    return math.floor(run.ranking.max_abstained * questions + 1e-9)  # 0.29 * 100 is less than 29


def manner(run: RunSettings, questions: int, before: StepResult | RequestStats | None) -> RankingOptions:
    """How so many questions of a run are asked, after what was paid `before`."""
    asked = run.ranking
    return RankingOptions(
        seed=run.seed,
        passes=asked.passes,
        think="low" if asked.think == "low" else asked.think == "on",
        most_abstained=most_abstained(run, questions),
        most_cost=math.inf if asked.max_cost is None else asked.max_cost,
        prices=(asked.price_in / 1e6, asked.price_out / 1e6),
        paid_before=(before.paid_prompt_tokens, before.paid_output_tokens) if before else (0, 0),
    )


def cache_settings(run: RunSettings, card: ModelInfo) -> dict[str, Any]:
    """What decides the replies, besides the candidates themselves."""
    return {
        "model": card.digest,
        "name": card.name,
        "mode": card.mode,
        "prompts": prompts.CODE_VERSION,
        "seed": run.seed,
        "candidate_chars": run.ranking.candidate_chars,
        "passes": run.ranking.passes,
        "think": run.ranking.think,
    }


def is_acceptable(run: RunSettings, manifest: Manifest) -> bool:
    """Whether an artifact that was found is as good as the run wants it; made anew, what the ledger has costs nothing.

    A query that was given up because a host failed has no reply that could say anything, and is asked again; and more
    queries than this run allows may have abstained.
    """
    if "given up" in manifest.facts["faults"]:
        return False
    abstained, ranked = manifest.facts["abstained"], manifest.facts["ranked"]
    return bool(abstained <= run.ranking.max_abstained * (abstained + ranked) + 1e-9)


def shown_candidates(pool: pa.Table, run: RunSettings) -> tuple[dict[str, Candidate], int]:
    """The pool's candidates by id, as the model gets to see them, and how many had to be clipped for that."""
    rows = zip(*(pool[name].to_pylist() for name in ("id", "instruction", "input")), strict=True)
    clipped = [Candidate(*row).clipped(run.ranking.candidate_chars) for row in rows]
    return {candidate.id: candidate for candidate, _ in clipped}, sum(cut for _, cut in clipped)


def longest_prompt(candidates: Collection[Candidate], size: int, card: ModelInfo) -> int:
    """Bytes of the longest prompt that any `size` candidates make: one context for queries and tournament."""
    longest = sorted(candidates, key=lambda candidate: -candidate.shown_bytes)[
        : 1 if card.mode == "pointwise" else size
    ]
    if card.mode == "pointwise":
        return len(prompts.pointwise(longest[0]).text.encode())
    return len(
        prompts.listwise(longest, len(longest), 0)
        .again("after repeats were left out, it named 100 candidates instead of 100", 2)
        .text.encode()
    )
