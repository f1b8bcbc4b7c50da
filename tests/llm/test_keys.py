"""A key goes only to its own host. The tests of the clients check the sent headers."""

import pickle

import pytest

from selectllm.errors import SelectorUnavailable
from selectllm.llm.keys import ApiKeys, ProviderKey

KEY = "sk-very-secret-0123456789"
HOST = "http://model.example/v1"


@pytest.mark.parametrize(
    ("host", "named", "sees"),
    [
        ("http://model.example", "", False),
        ("http://model.example", "http://model.example", True),
        ("http://model.example/", "http://model.example", True),
        (None, "http://model.example", True),
        (None, "", False),
        ("https://ollama.com", "", True),
        ("http://ollama.com", "", False),
        ("http://model.example", "http://other.example", False),
    ],
)
def test_an_ollama_key_goes_to_its_named_host_or_to_the_cloud(host: str | None, named: str, sees: bool) -> None:
    keys = ApiKeys(ollama=ProviderKey(KEY, named))
    assert keys.for_host("ollama", host).key == (KEY if sees else "")
    assert keys.for_host("openai", host).key == ""


@pytest.mark.parametrize(
    ("host", "named", "sees"),
    [
        (HOST, "", False),
        (HOST, HOST, True),
        (f"{HOST}/", HOST, True),
        (None, HOST, True),
        (None, "", True),
        ("https://api.openai.com/v1", HOST, True),
        ("https://eu.api.openai.com/v1", "", True),
        ("http://api.openai.com/v1", "", False),
        ("https://api.openai.com.example/v1", "", False),
        ("https://api.openai.com@model.example/v1", "", False),
        ("https://myapi.openai.com/v1", "", False),
        (HOST, "http://other.example/v1", False),
    ],
)
def test_an_openai_key_goes_to_its_named_url_or_to_openai(host: str | None, named: str, sees: bool) -> None:
    own = ProviderKey(KEY, named, organization="my-org", project="my-project", headers=(("a", "b"),))
    keys = ApiKeys(openai=own)
    assert keys.for_host("openai", host) == (own if sees else ProviderKey())
    assert keys.for_host("ollama", host).key == ""


def test_the_environment_can_hold_one_key_per_provider() -> None:
    environment = {
        "OLLAMA_API_KEY": "one",
        "OLLAMA_HOST": "http://one.example",
        "OPENAI_API_KEY": "two",
        "OPENAI_BASE_URL": HOST,
        "OPENAI_ORG_ID": "my-org",
        "OPENAI_CUSTOM_HEADERS": "x-one: 1\nnothing\nx-two : a:b",
    }
    keys = ApiKeys.from_environment(environment)
    assert keys.ollama == ProviderKey("one", "http://one.example")
    assert keys.openai == ProviderKey("two", HOST, "my-org", headers=(("x-one", "1"), ("x-two", "a:b")))
    assert (keys.host("ollama"), keys.host("openai")) == ("http://one.example", HOST)
    assert ApiKeys.from_environment({}) == ApiKeys()


def test_no_text_shows_a_key() -> None:
    keys = ApiKeys(ProviderKey(KEY, f"http://user:{KEY}@host"), ProviderKey(KEY, "", KEY, KEY, (("x", KEY),)))
    assert KEY not in f"{keys} {keys!r}"
    assert pickle.loads(pickle.dumps(keys)) == keys


@pytest.mark.parametrize("key", [f"{KEY}…", f"{KEY}\n{KEY}", "\x00"])
@pytest.mark.parametrize("provider", ["ollama", "openai"])
def test_a_key_with_invalid_characters_is_refused(provider: str, key: str) -> None:
    keys = ApiKeys(**{provider: ProviderKey(key, HOST)})
    with pytest.raises(SelectorUnavailable, match=f"{provider.upper()}_API_KEY holds characters") as raised:
        keys.for_host(provider, HOST)  # type: ignore[arg-type]
    assert KEY not in str(raised.value)


def test_white_space_around_a_key_is_removed() -> None:
    assert ApiKeys(openai=ProviderKey(f" {KEY}\n")).for_host("openai", None).key == KEY
