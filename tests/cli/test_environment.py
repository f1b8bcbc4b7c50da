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


def test_precedence_is_explicit_values_environment_file_fallbacks_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "SELECTLLM_SEED=1\nSELECTLLM_STORE=file\nSELECTLLM_RANKING__DEPTH=4\nSELECTLLM_RANKING__PASSES=2\nOTHER=x\n"
        "SELECTLLM_NOTHING_OF_OURS=1\n"
    )
    monkeypatch.setenv("SELECTLLM_STORE", "environment")
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "5")
    monkeypatch.setenv("SELECTLLM_QUERIES__SIZE", "9")
    explicit = RunSettings.model_validate({"pool": "p", "budget": 1, "ranking": {"depth": 6}})
    fallbacks = {"store": "fallback", "selector": "scripted:first", "ranking": {"retries": 7}}
    settings = with_environment(explicit, fallbacks)
    ranking = settings.ranking
    assert (settings.seed, settings.store, settings.selector) == (1, "environment", "scripted:first")
    assert (ranking.depth, ranking.passes, ranking.retries, ranking.timeout) == (6, 2, 7, 120)
    assert settings.queries.size == 9


def test_explicit_values_override_even_when_equal_to_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "5")
    explicit = RunSettings.model_validate({"pool": "p", "budget": 1, "ranking": {"depth": 3}})
    assert with_environment(explicit).ranking.depth == 3
    assert with_environment(RunSettings(pool="p", budget=1)).ranking.depth == 5


def test_the_command_line_overrides_the_environment(
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
    ("name", "value", "message"),
    [
        ("SELECTLLM_RANKING__HOSTS", "http://a", "Lists are written as JSON"),
        ("SELECTLLM_RANKING__DEPTH", "many", "ranking.depth: Input should be a valid integer"),
    ],
)
def test_an_invalid_variable_is_bad_usage(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        with_environment(RunSettings(pool="p", budget=1))


def test_errors_about_invalid_variables_hide_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELECTLLM_SELECTOR", "http://user:planted@gpu1:11434")
    with pytest.raises(UsageError, match="unknown selector 'http://gpu1:11434'") as error:
        with_environment(RunSettings(pool="p", budget=1))
    assert "planted" not in str(error.value)


def test_without_variables_no_field_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__HOSTS", '["http://a", "http://b"]')
    assert from_environment() == {"ranking": {"hosts": ["http://a", "http://b"]}}
    monkeypatch.delenv("SELECTLLM_RANKING__HOSTS")
    assert from_environment() == {}


def test_dependent_options_can_come_from_variables_and_arguments(
    monkeypatch: pytest.MonkeyPatch, make_run: Callable[..., RunSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELECTLLM_QUALITY__NO_VALIDATE", "true")
    monkeypatch.setenv("SELECTLLM_HISTORY", "nightly")
    monkeypatch.setenv("SELECTLLM_RANKING__PRICE_IN", "2.5")
    monkeypatch.setenv("SELECTLLM_EXCLUDE", "[]")
    arguments = ["plan", make_run().pool, "--budget", "3", "--slot", "mon", "--max-cost", "4", "--json"]
    assert main(arguments) == 0, capsys.readouterr().err


def test_the_command_line_names_an_invalid_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "many")
    monkeypatch.setenv("SELECTLLM_RANKING__HOSTS", '["http://a"]')
    assert main(["plan", "p.jsonl", "--budget", "0"]) == 2
    assert capsys.readouterr().err == (
        "selectllm: --budget should be greater than or equal to 1, not '0'; "
        "SELECTLLM_RANKING__DEPTH should be a valid integer, not 'many'. See --help\n"
    )


def test_commands_without_settings_ignore_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__HOSTS", "no JSON")
    assert main(["artifacts", "--store", str(tmp_path)]) == 0, capsys.readouterr().err


def test_a_variable_for_an_unknown_setting_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SELECTLLM_RANKING__DEPHT", "2")
    assert main(["plan", "p.jsonl", "--budget", "1"]) == 2
    assert capsys.readouterr().err == "selectllm: SELECTLLM_RANKING__DEPHT names no setting\n"
    with pytest.raises(UsageError, match=r"ranking\.depht: Extra inputs"):
        with_environment(RunSettings(pool="p", budget=1))
