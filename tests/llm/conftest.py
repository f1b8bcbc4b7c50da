"""Fixtures of the tests of models and of their hosts."""

import pytest


@pytest.fixture
def no_openai_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what the environment says of OpenAI's API, and what servers have answered before."""
    monkeypatch.setattr("selectllm.llm.openai._answered", set())
    for name in ("API_KEY", "BASE_URL", "ORG_ID", "PROJECT_ID", "ADMIN_KEY", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"OPENAI_{name}", raising=False)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait long: for a batch, or after a failure."""
    monkeypatch.setattr("selectllm.llm.batch_server.FIRST_POLL_SECONDS", 0.01)
    monkeypatch.setattr("selectllm.llm.batcher.QUEUE_SECONDS", 0.01)
    monkeypatch.setattr("selectllm.llm.backoff.FIRST_SECONDS", 0.01)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let failures be followed by short pauses, and hosts that are out be probed often."""
    monkeypatch.setattr("selectllm.llm.backoff.FIRST_SECONDS", 0.001)
    monkeypatch.setattr("selectllm.llm.hosts.PROBE_SECONDS", 0.02)
