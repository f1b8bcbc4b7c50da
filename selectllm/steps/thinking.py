"""Decides how a model is to think, by one question whose replies are kept like all others."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from selectllm.errors import ContentRefused, ModelChanged, ModelError, ModelUnavailable, TransientError
from selectllm.llm.caller import Caller, CostLimit, LongestRequest, open_caller
from selectllm.llm.keys import ApiKeys
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import THINKING_TOKENS, ModelInfo, Reply, Think
from selectllm.ranking.thinking import best_way, fitness, name_of, next_way, trial, ways_to_ask
from selectllm.steps.context import Context

log = logging.getLogger(__name__)


async def decide_thinking(context: Context, info: ModelInfo, limit: CostLimit, keys: ApiKeys) -> ModelInfo:
    """The model, with how it is asked to think: as the settings say, or as its answers show to work.

    A decision stands as long as its replies do. Only where no way worked, the model is asked again after a run has
    ended. Raises ModelError.
    """
    settings = context.settings
    ways = ways_to_ask(settings.ranking.think, info)
    if len(ways) == 1:
        return replace(info, think=ways[0])
    attempt, replies = _kept(ways, info, Ledger(context.store, info, reask=settings.ranking.reask))
    if next_way(ways, replies) is not None:
        request = trial(True, attempt)
        longest = LongestRequest(len(request.text.encode()), 2 * THINKING_TOKENS)
        while (way := next_way(ways, replies)) is not None:  # a refusal ends a caller: each way has one of its own
            left = replace(limit, paid_before=context.paid_before())  # for the ways before this one, too
            async with open_caller(context.store, settings, info, longest, left, keys) as caller:
                replies[way] = await _ask(caller, way, attempt)
            context.log.trial_usage += caller.usage
    think = _best(ways, replies)
    log.info("%s is asked with thinking %s", info.name, name_of(think))
    return replace(info, think=think)


def kept_decision(setting: str, info: ModelInfo, ledger: Ledger) -> ModelInfo | None:
    """The same without a question, by the replies that are kept; None where they do not decide it."""
    ways = ways_to_ask(setting, info)
    if len(ways) == 1:
        return replace(info, think=ways[0])
    _, replies = _kept(ways, info, ledger)
    return None if next_way(ways, replies) is not None else replace(info, think=_best(ways, replies))


def _kept(ways: Sequence[Think], info: ModelInfo, ledger: Ledger) -> tuple[int, dict[Think, Reply]]:
    """The attempt that counts, and its replies that are kept, by how they were asked for."""
    for attempt in count(1):
        kept = {way: entry for way in ways if (entry := ledger.get(trial(way, attempt).key(info)))}
        replies = {way: entry.reply for way, entry in kept.items()}
        # They are tried in order: once the last one is kept, one that is missing was refused, and left no reply.
        has_failed = ways[-1] in kept and not any(fitness(way, reply) for way, reply in replies.items())
        if not (has_failed and all(map(ledger.may_ask_again, kept.values()))):
            break
    return attempt, replies


def _best(ways: Sequence[Think], replies: Mapping[Think, Reply]) -> Think:
    return best_way({way: replies[way] for way in ways if way in replies})


async def _ask(caller: Caller, way: Think, attempt: int) -> Reply:
    try:
        return (await caller.ask(trial(way, attempt))).reply
    except (TransientError, ContentRefused, ModelUnavailable, ModelChanged):  # they say nothing of the way
        raise
    except ModelError:
        if way is False:
            raise
        return Reply("", "refused")  # the server has no such way to ask
