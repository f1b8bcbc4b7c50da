"""What a model has still to be asked, found out without asking it: its server and the store know the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from selectllm.errors import SelectorUnavailable
from selectllm.execution import run_coroutine
from selectllm.llm import mode_of, open_model
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import ModelInfo, Request
from selectllm.llm.prices import is_free, list_prices_of, with_list_prices
from selectllm.ranking.answers import REFUSED
from selectllm.ranking.row_questions import Reading, RowQuestion
from selectllm.settings import RunSettings
from selectllm.steps.context import Context
from selectllm.steps.prospect import tokens_of
from selectllm.steps.thinking import kept_decision


@dataclass(frozen=True)
class KnownModel:
    """A model and its kept replies, None where it cannot be looked up; `notes` say what is assumed."""

    info: ModelInfo
    ledger: Ledger | None
    notes: tuple[str, ...] = ()

    def look(self, question: RowQuestion) -> Reading | Request:
        """What the kept replies say to a question, None for none that is usable; or the request that is still open."""
        if self.ledger is None:
            return question.request()
        fault = ""
        for attempt in count(1):
            request = question.request(attempt, fault)
            entry = self.ledger.get(request.key(self.info))
            if entry is None:
                return request
            reading, may_ask_again = question.read(entry.reply), self.ledger.may_ask_again(entry)
            is_last = attempt >= question.attempts or reading.kind == REFUSED
            if reading.value is not None or (is_last and not may_ask_again):
                return reading
            fault = reading.fault
        raise AssertionError


def look_up(context: Context) -> KnownModel:
    """The settings' model, as its server tells, and how it thinks by its kept replies; its server is asked no question.

    Raises MissingDependency, and StoreError where its replies cannot be read.
    """
    settings = context.settings
    try:
        info = run_coroutine(_open(context))
    except SelectorUnavailable as error:
        mode = mode_of(settings.selector, settings.ranking.mode)
        unknown = ModelInfo(settings.selector, settings.selector, "", "", "model", mode)
        return KnownModel(unknown, None, (f"all its questions are counted, because it cannot be looked up: {error}",))
    ledger = Ledger(context.store, info, reask=settings.ranking.reask)
    decided = kept_decision(settings.ranking.think, info, ledger)
    if decided is None:
        note = "up to three questions more decide how it is to think; it is counted without"
        return KnownModel(info, ledger, (note,))
    return KnownModel(decided, ledger)


async def _open(context: Context) -> ModelInfo:
    hosts = await open_model(context.settings.selector, context.settings.ranking, context.load_keys())
    await hosts.close()
    return hosts.info


def forecast(
    settings: RunSettings, name: str, known: KnownModel, asked: Sequence[RowQuestion], *, is_made: bool = False
) -> dict[str, Any]:
    """Count the questions that are open, unless what they are for `is_made` already."""
    looked = [] if is_made else [known.look(question) for question in asked]
    return counts(settings, name, known, len(asked), [one for one in looked if isinstance(one, Request)])


def counts(
    settings: RunSettings, name: str, known: KnownModel, questions: int, still_open: Sequence[Request]
) -> dict[str, Any]:
    """What open requests take: about so many tokens of prompts, at most so many of answers, and their cost."""
    read = round(sum(tokens_of(request.whole_text) for request in still_open))
    written = sum(request.max_tokens for request in still_open)
    cost = with_list_prices(settings).cost(read, written)
    return {
        "name": name,
        "selector": settings.selector,
        "questions": questions,
        "to_ask": len(still_open),
        "prompt_tokens": read,
        "output_tokens": written,
        "cost": cost,
        "list_prices_of": None if cost is None else list_prices_of(settings),
        "notes": list(known.notes),
    }


def together(models: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The forecasts of all models, and their sums.

    `cost` is of the models whose prices are known, null where none is; `without_price` names those that are still to be
    asked, that are paid for, and whose prices are not known.
    """
    costs = [one["cost"] for one in models if one["cost"] is not None]
    sums = {
        name: sum(one[name] for one in models) for name in ("questions", "to_ask", "prompt_tokens", "output_tokens")
    }
    dates = {one["list_prices_of"] for one in models} - {None}
    return {
        "models": list(models),
        **sums,
        "cost": sum(costs) if costs else None,
        "without_price": [
            one["name"] for one in models if one["to_ask"] and one["cost"] is None and not is_free(one["selector"])
        ],
        "list_prices_of": min(dates, default=None),
    }
