"""Fixtures of the tests of models behind OpenAI's API."""

import pytest


@pytest.fixture
def no_openai_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what the environment says of OpenAI's API, and what servers have answered before."""
    monkeypatch.setattr("selectllm.llm.openai._answered", set())
    for name in ("API_KEY", "BASE_URL", "ORG_ID", "PROJECT_ID", "ADMIN_KEY", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)
