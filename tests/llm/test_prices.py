"""List prices: of which model, on which host, and that prices given count before them."""

import re

import pytest

from selectllm.llm.prices import LIST_PRICES, LOOKED_UP, list_prices_of, with_list_prices
from selectllm.settings import RankingSettings, RunSettings

GROQ = "https://api.groq.com/openai/v1"
MINI = (0.15, 0.6)


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def prices(selector: str, *hosts: str, price_in: float = 0, price_out: float = 0) -> tuple[float, float]:
    ranking = RankingSettings(hosts=hosts, price_in=price_in, price_out=price_out)
    known = with_list_prices(RunSettings(pool="p", budget=1, selector=selector, ranking=ranking))
    assert known.hosts == hosts
    return known.price_in, known.price_out


@pytest.mark.parametrize(
    ("selector", "hosts", "expected"),
    [
        ("openai:gpt-4o-mini", (), MINI),
        ("openai:gpt-4o-mini", ("https://api.openai.com/v1",), MINI),
        ("openai:gpt-4o-mini-2024-07-18", (), MINI),
        ("openai:gpt-4o-2024-05-13", (), (5, 15)),
        ("openai:gpt-4o-2024-11-20", (), (2.5, 10)),
        ("openai:gpt-3.5-turbo-1106", (), (1, 2)),
        ("openai:llama-3.1-8b-instant", (GROQ,), (0.05, 0.08)),
        ("openai:llama-3.1-8b-instant", (GROQ, GROQ + "/"), (0.05, 0.08)),
        ("openai:llama-3.1-8b-instant", (), (0, 0)),
        ("openai:gpt-4o-mini", (GROQ,), (0, 0)),
        ("openai:gpt-4o-mini", ("https://api.openai.com/v1", "http://127.0.0.1:8000/v1"), (0, 0)),
        ("openai:gpt-4o-mini", ("https://eu.api.openai.com/v1",), (0, 0)),
        ("openai:gpt-4o-mini", ("https://api.openai.com.evil.example/v1",), (0, 0)),
        ("openai:gpt-4o-mini", ("http://[broken",), (0, 0)),
        ("openai:ft:gpt-4o-mini:us::1", (), (0, 0)),
        ("openai:gpt-4o-mini-audio-preview", (), (0, 0)),
        ("ollama:gpt-4o-mini", (), (0, 0)),
        ("embedded", (), (0, 0)),
        ("scripted:first", (), (0, 0)),
    ],
)
def test_a_model_has_list_prices_where_it_is_sold(
    selector: str, hosts: tuple[str, ...], expected: tuple[float, float]
) -> None:
    assert prices(selector, *hosts) == expected


def test_the_environments_host_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert prices("openai:gpt-4o-mini") == (0, 0)
    monkeypatch.setenv("OPENAI_BASE_URL", GROQ)
    assert prices("openai:openai/gpt-oss-20b") == (0.075, 0.3)


def test_prices_given_count_before_list_prices() -> None:
    assert prices("openai:gpt-4o-mini", price_in=7) == (7, 0)
    given = RunSettings(pool="p", budget=1, selector="openai:gpt-4o-mini", ranking=RankingSettings(price_out=7))
    assert list_prices_of(given) is None
    assert list_prices_of(RunSettings(pool="p", budget=1, selector="openai:gpt-4o-mini")) == LOOKED_UP
    assert list_prices_of(RunSettings(pool="p", budget=1)) is None


def test_the_table_is_plausible() -> None:
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", LOOKED_UP)
    for models in LIST_PRICES.values():
        for name, (price_in, price_out) in models.items():
            assert 0 < price_in < price_out <= 100, name


def test_a_limit_needs_prices_of_ones_own() -> None:
    values = {"pool": "p", "budget": 1, "selector": "openai:gpt-4o-mini", "ranking": {"max_cost": 1}}
    with pytest.raises(ValueError, match="--max-cost needs --price-in or --price-out"):
        RunSettings.model_validate(values)
