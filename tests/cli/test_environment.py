from collections.abc import Callable
from pathlib import Path

import pytest

from selectllm.cli.environment import from_environment, with_environment
from selectllm.cli.main import main
from selectllm.errors import UsageError
from selectllm.settings import RunSettings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SELECTLLM_QUALITY__NO_VALIDATE")


def test_given_counts_before_the_environment_before_the_file_before_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "SELECTLLM_SEED=1\nSELECTLLM_STORE=file\nSELECTLLM_RANKING__DEPTH=4\nSELECTLLM_RANKING__PASSES=2\nOTHER=x\n"
        "SELECTLLM_NOTHING_OF_OURS=1\n"
    )
    monkeypatch.setenv("SELECTLLM_STORE", "environment")
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "5")
    monkeypatch.setenv("SELECTLLM_QUERIES__SIZE", "9")
    given = RunSettings.model_validate({"pool": "p", "budget": 1, "ranking": {"depth": 6}})
    run = with_environment(given, fallbacks={"store": "below", "selector": "scripted:first", "ranking": {"retries": 7}})
    assert (run.seed, run.store, run.selector) == (1, "environment", "scripted:first")
    assert (run.ranking.depth, run.ranking.passes, run.ranking.retries, run.ranking.timeout) == (6, 2, 7, 120)
    assert run.queries.size == 9


def test_explicit_values_count_even_when_they_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "5")
    explicit = RunSettings.model_validate({"pool": "p", "budget": 1, "ranking": {"depth": 3}})
    assert with_environment(explicit).ranking.depth == 3
    assert with_environment(RunSettings(pool="p", budget=1)).ranking.depth == 5


def test_the_command_line_counts_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], make_run: Callable[..., RunSettings]
) -> None:
    pool = make_run().pool
    monkeypatch.setenv("SELECTLLM_SELECTOR", "scripted:longest")
    monkeypatch.setenv("SELECTLLM_QUERIES__SIZE", "10")
    monkeypatch.setenv("SELECTLLM_QUALITY__NO_VALIDATE", "true")
    assert main(["plan", pool, "--budget", "3"]) == 0
    assert "6 of up to 10 rows" in capsys.readouterr().out
    assert main(["plan", pool, "--budget", "3", "--query-size", "14"]) == 0
    assert "5 of up to 14 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SELECTLLM_RANKING__HOSTS", "http://a", "Lists are written as JSON"),
        ("SELECTLLM_RANKING__DEPTH", "many", "ranking.depth: Input should be a valid integer"),
    ],
)
def test_a_variable_that_is_not_allowed_is_bad_usage(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        with_environment(RunSettings(pool="p", budget=1))


def test_a_password_in_a_variable_that_is_not_allowed_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELECTLLM_SELECTOR", "http://user:planted@gpu1:11434")
    with pytest.raises(UsageError, match="unknown selector 'http://gpu1:11434'") as error:
        with_environment(RunSettings(pool="p", budget=1))
    assert "planted" not in str(error.value)


def test_without_variables_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__HOSTS", '["http://a", "http://b"]')
    assert from_environment() == {"ranking": {"hosts": ["http://a", "http://b"]}}
    monkeypatch.delenv("SELECTLLM_RANKING__HOSTS")
    assert from_environment() == {}


def test_options_that_need_each_other_may_come_from_both(
    monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., RunSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELECTLLM_QUALITY__NO_VALIDATE", "true")
    monkeypatch.setenv("SELECTLLM_HISTORY", "nightly")
    monkeypatch.setenv("SELECTLLM_RANKING__PRICE_IN", "2.5")
    monkeypatch.setenv("SELECTLLM_EXCLUDE", "[]")
    arguments = ["plan", make_run().pool, "--budget", "3", "--slot", "mon", "--max-cost", "4", "--json"]
    assert main(arguments) == 0, capsys.readouterr().err
