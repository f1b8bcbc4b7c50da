"""List prices of hosted models, for estimates where no price is given; never for `--max-cost`: they may have risen.

Looked up on the date below, and taken only where at least two of these say the same: the providers' own pages of models
(developers.openai.com/api/docs/models, console.groq.com/docs/models), LiteLLM's model_prices_and_context_window.json
(github.com/BerriAI/litellm), and other catalogues of prices. Left out are discounts for cached prompts, and surcharges
for regions and for prompts of more than 272,000 tokens.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from selectllm.llm.keys import ApiKeys
from selectllm.settings import RankingSettings, RunSettings

LOOKED_UP: Final = "2026-11-27"

OPENAI: Final = "api.openai.com"

LIST_PRICES: Final[dict[str, dict[str, tuple[float, float]]]] = {  # USD for a million tokens of prompts, of answers
    OPENAI: {
        "gpt-6-luna": (0.1, 0.5),
        "gpt-5.5": (5, 30),
        "gpt-5.4": (2.5, 15),
        "gpt-5.4-mini": (0.75, 4.5),
        "gpt-5.4-nano": (0.2, 1.25),
        "gpt-5.2": (1.75, 14),
        "gpt-5.1": (1.25, 10),
        "gpt-5": (1.25, 10),
        "gpt-5-mini": (0.25, 2),
        "gpt-5-nano": (0.05, 0.4),
        "gpt-4.1": (2, 8),
        "gpt-4.1-mini": (0.4, 1.6),
        "gpt-4.1-nano": (0.1, 0.4),
        "gpt-4o": (2.5, 10),
        "gpt-4o-2024-05-13": (5, 15),
        "gpt-4o-mini": (0.15, 0.6),
        "gpt-4": (30, 60),
        "gpt-4-turbo": (10, 30),
        "gpt-3.5-turbo": (0.5, 1.5),
        "gpt-3.5-turbo-0125": (0.5, 1.5),
        "gpt-3.5-turbo-1106": (1, 2),
        "o3": (2, 8),
        "o4-mini": (1.1, 4.4),
    },
    "api.groq.com": {
        "llama-3.1-8b-instant": (0.05, 0.08),
        "llama-3.3-70b-versatile": (0.59, 0.79),
        "meta-llama/llama-4-scout-17b-16e-instruct": (0.11, 0.34),
        "openai/gpt-oss-20b": (0.075, 0.3),
        "openai/gpt-oss-120b": (0.15, 0.6),
        "qwen/qwen3-32b": (0.29, 0.59),
    },
}
"""By the host that is asked, and the model's name there; a name's date, as in -2024-07-18, may be left out here."""


def is_free(selector: str) -> bool:
    """Whether nobody is paid for the questions: they are answered in this process."""
    return selector == "embedded" or selector.startswith(("embedded:", "scripted:"))


def with_list_prices(settings: RunSettings) -> RankingSettings:
    """How the model is asked, with its list prices where none are given and they are known."""
    prices = _list_prices(settings)
    if prices is None:
        return settings.ranking
    return settings.ranking.model_copy(update={"price_in": prices[0], "price_out": prices[1]})


def list_prices_of(settings: RunSettings) -> str | None:
    """The date of the list prices that a cost is estimated by; None where prices are given, or none are known."""
    return None if _list_prices(settings) is None else LOOKED_UP


def _list_prices(settings: RunSettings) -> tuple[float, float] | None:
    """The prices of a model by its host: the same name elsewhere, as on a server of one's own, has none."""
    kind, _, model = settings.selector.partition(":")
    if kind != "openai" or settings.ranking.price_in or settings.ranking.price_out:
        return None
    hosts = settings.ranking.hosts or (ApiKeys.from_environment().host("openai") or f"https://{OPENAI}",)
    names = {_host_name(host) for host in hosts}
    models = LIST_PRICES.get(names.pop(), {}) if len(names) == 1 else {}
    return models.get(model) or models.get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model))


def _host_name(host: str) -> str:
    try:
        return urlsplit(host).hostname or ""
    except ValueError:  # such as a port that is none: the run says so
        return ""
