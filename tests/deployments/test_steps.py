"""Values that prefect.yaml reads from the machine that deploys."""

from pathlib import Path

import pytest

from deployments import steps


def test_the_default_selector_is_read_like_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    demo = {"selector": "embedded", "ranking": {"candidate_chars": 120}}
    assert steps.selector_settings() == demo
    (tmp_path / ".env").write_text("SELECTLLM_SELECTOR=ollama:file\n")
    assert steps.selector_settings() == {"selector": "ollama:file", "ranking": {}}
    monkeypatch.setenv("SELECTLLM_SELECTOR", "ollama:environment")
    assert steps.selector_settings() == {"selector": "ollama:environment", "ranking": {}}
