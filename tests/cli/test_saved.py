"""What `--save` of plan and compare writes: the same settings again, never over somebody's own file; and its schema."""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from prefect.utilities.templating import apply_values

from deployments import steps
from selectllm.cli.config import ConfigFile, fields_of, nested
from selectllm.cli.main import main, new_app
from selectllm.cli.saved import format_settings, is_as_written
from selectllm.cli.schema import COMPARISON_SCHEMA, SCHEMA, comparison_schema, run_schema, schema_texts
from selectllm.settings import RunSettings

VALIDATOR = Draft202012Validator(run_schema())

FULL: dict[str, Any] = {
    "pool": "a: b.jsonl",
    "more_files": ["# c", "-"],
    "budget": 3,
    "selector": "openai:m",
    "criteria": "1\n  2 \n\n",
    "reasons": True,
    "strategy": "null",
    "diversity": 0.25,
    "near_duplicate": 1e-05,
    "seed": 4294967295,
    "store": "s3://bucket/a?b",
    "exclude": ["", "yes", "[x]", '{"y": 1}'],
    "history": "2026-10-01",
    "slot": "007",
    "requery": True,
    "out": "~",
    "columns": {"instruction": "on", "input": "", "output": "\u8a66\u9a13", "turn": "first", "role_map": "user='x'"},
    "aim": {
        "quota": ['"a:b":law=2', '"a:b":null=1'],
        "target": "null",
        "target_rows": 77,
        "away_from": ["- x", "~"],
        "away_above": 0.123,
    },
    "embedding": {"model": "C:\\models\\m", "given": "# v.parquet"},
    "queries": {"size": 9, "composition": "paper"},
    "ranking": {
        "hosts": ["http://a:1/v1", "http://[::1]"],
        "mode": "listwise",
        "depth": 4,
        "passes": 2,
        "gather": "tiers",
        "looks": 1.5,
        "candidate_chars": 100,
        "think": "off",
        "concurrency": 256,
        "timeout": 0.1,
        "deadline": 1e300,
        "retries": 0,
        "give_up_after": 1,
        "reask": True,
        "max_abstained": 1,
        "max_cost": 0.5,
        "price_in": 2.5,
        "price_out": 1e-9,
    },
    "quality": {"no_validate": False, "expectations": "*x", "data_docs": "&y"},
}

LEFT_OUT = {("quality", "no_validate"), ("aim", "stratify"), ("ranking", "batch")}
"""Settings that cannot be set together with the others of FULL."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SELECTLLM_QUALITY__NO_VALIDATE")


APP = new_app("show")


@APP.default
def show(settings: RunSettings, *, config: ConfigFile = None) -> RunSettings:
    return settings


def reread(text: str) -> RunSettings:
    """The settings that a command gets from a file's text."""
    Path("run.yaml").write_text(text, encoding="utf-8", newline="")
    settings: RunSettings = APP(["--config", "run.yaml"], result_action="return_value", exit_on_error=False)
    return settings


def differing() -> RunSettings:
    """Settings of which no field has its default."""
    settings = RunSettings.model_validate(FULL)
    for path, field in fields_of(RunSettings):
        value: Any = settings
        for name in path:
            value = getattr(value, name)
        assert value != field.default or path in LEFT_OUT, f"{path}: add it to FULL, or to LEFT_OUT"
    return settings


def test_all_settings_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = differing()
    assert reread(format_settings(settings, "x")) == settings
    defaults = RunSettings(pool="p", budget=1)
    for name, value in (("SEED", "7"), ("NEAR_DUPLICATE", "0.9"), ("RANKING__HOSTS", '["x"]'), ("REASONS", "true")):
        monkeypatch.setenv(f"SELECTLLM_{name}", value)
    assert reread(format_settings(defaults, "x")) == defaults, "the environment fills nothing in"


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.text(min_size=1), st.none() | st.text(), st.lists(st.text()), st.floats(0, 1))
@example("\x85", "a\x85b", ["\u2028", "\x85 c", "\u2029\n"], 0.5)
def test_all_texts_come_back(pool: str, criteria: str | None, exclude: list[str], diversity: float) -> None:
    values = {"pool": pool, "criteria": criteria, "exclude": exclude, "diversity": diversity, "out": criteria}
    settings = RunSettings.model_validate({"budget": 1, "columns": {"input": pool}, **values})
    assert reread(format_settings(settings, "x")) == settings


def test_odd_numbers_and_characters_come_back() -> None:
    ranking = {"timeout": float("inf"), "deadline": 5e-324, "looks": 0.1 + 0.2}
    values = {
        "pool": "caf\u00e9 \U0001f600.jsonl",
        "budget": 10**30,
        "ranking": ranking,
        "criteria": "\x00\x85\u2028\ufeff\ufffe\r\n\t",
    }
    settings = RunSettings.model_validate(values)
    assert reread(format_settings(settings, "x")) == settings


def test_every_setting_stands_below_its_description() -> None:
    text = format_settings(RunSettings(pool="p", budget=1), "x")
    assert yaml.safe_load(text) == RunSettings(pool="p", budget=1).model_dump(mode="json")
    words = re.sub(r"\s*\n\s*# ", " ", text)
    for path, field in fields_of(RunSettings):
        assert f"{' '.join((field.description or '').split())}\n{'  ' * (len(path) - 1)}{path[-1]}:" in words, path
    assert max(len(line) for line in text.splitlines() if not line.startswith("# Written")) <= 102


def test_a_plan_saves_what_counts_and_the_run_by_it_is_the_same(
    make_run: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = make_run().pool
    monkeypatch.setenv("SELECTLLM_SEED", "5")
    Path("first.yaml").write_text("{strategy: random, budget: 4, quality: {no_validate: true}}")
    arguments = [pool, "--config", "first.yaml", "--budget", "3"]
    assert main(["plan", *arguments, "--save", "run.yaml", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["seed"] == 5
    assert printed.err == (
        "selectllm: run.yaml holds all settings of this run: `selectllm select --config run.yaml` runs it\n"
    )
    assert stat.S_IMODE(Path("run.yaml").stat().st_mode) & 0o600 == 0o600
    assert {path.name for path in Path().iterdir()} == {Path(pool).name, "first.yaml", "run.yaml"}
    assert main(["select", *arguments, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    monkeypatch.setenv("SELECTLLM_SEED", "6")
    assert main(["select", "--config", "run.yaml", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["artifacts"] == first["artifacts"]
    assert (again["seed"], again["selection"]["budget"]) == (5, 3)


def test_somebodys_own_file_is_written_over_only_when_told(
    make_run: Callable[..., RunSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", make_run().pool, "--budget", "3", "--selector", "scripted:first", "--save", "run.yaml"]
    assert main(arguments) == 0
    assert main([*arguments, "--seed", "7"]) == 0, "as it was written it may be written over"
    text = Path("run.yaml").read_text()
    assert "\nseed: 7\n" in text
    for changed in (text.replace("seed: 7", "seed: 8"), text + "\n", text.split("\n", 2)[2], "mine", ""):
        Path("run.yaml").write_text(changed)
        capsys.readouterr()
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.err == (
            "selectllm: run.yaml is there, and is not as --save left it. Name another file, or add --overwrite\n"
        )
        assert printed.out == "", "before any work"
        assert Path("run.yaml").read_text() == changed
    assert main([*arguments, "--overwrite"]) == 0
    assert is_as_written(Path("run.yaml"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("run.json", "--save writes YAML: name a file that ends in .yaml, not run.json"),
        ("none/run.yaml", "--save cannot write none/run.yaml: there is no folder none"),
        ("folder.yaml", "--save cannot write folder.yaml: it is no file"),
    ],
)
def test_a_path_that_cannot_be_written_is_named(path: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder.yaml").mkdir()
    assert main(["plan", "p.jsonl", "--budget", "3", "--save", path]) == 2
    assert capsys.readouterr().err == f"selectllm: {message}\n"


def test_a_plan_that_fails_saves_nothing() -> None:
    assert main(["plan", "missing.jsonl", "--budget", "3", "--save", "run.yaml"]) == 2
    assert list(Path().iterdir()) == []


def test_passwords_in_a_saved_file_are_pointed_out(
    make_run: Callable[..., RunSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    host = "http://user:planted@gpu1:11434"
    arguments = ["plan", make_run().pool, "--budget", "3", "--selector", "ollama:m", "--host", host]
    assert main([*arguments, "--save", "run.yaml"]) == 0
    assert "run.yaml holds the password of a URL: show it to nobody\n" in capsys.readouterr().err
    assert host in Path("run.yaml").read_text()


def test_the_schemas_are_up_to_date() -> None:
    for file, text in schema_texts().items():
        assert file.read_text(encoding="utf-8") == text, "run `python -m selectllm.cli.schema`"
        Draft202012Validator.check_schema(yaml.safe_load(text))


def test_a_comparison_saves_what_counts_and_goes_by_it_again(
    make_run: Callable[..., RunSettings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", make_run().pool, "--budgets", "3,4", "--strategies", "longest, shortest", "--seeds", "2"]
    arguments += ["--dry-run", "--json"]
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "5")
    assert main([*arguments, "--save", "comparison.yaml"]) == 0
    first = capsys.readouterr()
    assert first.err == (
        "selectllm: comparison.yaml holds all settings of this run: `selectllm compare --config comparison.yaml` "
        "runs it\n"
    )
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "6")
    assert main(["compare", "--config", "comparison.yaml", "--dry-run", "--json", "--save", "again.yaml"]) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert "none of the strategies" not in again.err
    text = Path("comparison.yaml").read_text(encoding="utf-8")
    assert Path("again.yaml").read_text(encoding="utf-8") == text
    assert yaml.safe_load(text)["ranking"]["depth"] == 5
    link = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert Path(link).resolve() == COMPARISON_SCHEMA
    Draft202012Validator(comparison_schema()).validate(yaml.safe_load(text))
    assert is_as_written(Path("comparison.yaml"))
    Path("comparison.yaml").write_text("mine")
    assert main([*arguments, "--save", "comparison.yaml"]) == 2
    assert Path("comparison.yaml").read_text() == "mine"
    assert main([*arguments, "--save", "comparison.yaml", "--overwrite"]) == 0
    assert Path("comparison.yaml").read_text(encoding="utf-8") != "mine"


def test_a_comparison_that_is_made_saves_its_settings_too(make_run: Callable[..., RunSettings]) -> None:
    arguments = ["compare", make_run().pool, "--budgets", "3", "--strategies", "longest", "--seeds", "1"]
    assert main([*arguments, "--save", "comparison.yaml"]) == 0
    assert yaml.safe_load(Path("comparison.yaml").read_text(encoding="utf-8"))["budgets"] == [3]
    assert main(["compare", "missing.jsonl", "--budgets", "3", "--save", "other.yaml"]) == 2
    assert not Path("other.yaml").exists()


def test_a_comparison_has_a_schema_of_its_own() -> None:
    validator = Draft202012Validator(comparison_schema())
    for text in ("{}", "{budgets: [2, 3], seeds: 2, labels: , ranking: {depth: 2}}"):
        validator.validate(yaml.safe_load(text))
    for text in ("{budget: 2}", "{budgets: 2}", "{seeds: 0}", "{queries: {size: 1}}"):
        assert not validator.is_valid(yaml.safe_load(text))


def test_a_saved_file_names_the_schema_by_a_path_that_resolves(make_run: Callable[..., RunSettings]) -> None:
    Path("deep/er").mkdir(parents=True)
    arguments = ["plan", make_run().pool, "--budget", "3", "--selector", "scripted:first"]
    for name in ("run.yaml", "deep/er/run.yaml"):
        assert main([*arguments, "--save", name]) == 0
        first, *_ = Path(name).read_text(encoding="utf-8").splitlines()
        link = first.removeprefix("# yaml-language-server: $schema=")
        assert (Path(name).resolve().parent / link).resolve() == SCHEMA


def test_the_schema_accepts_what_runs_accept() -> None:
    for settings in (differing(), RunSettings(pool="p", budget=1)):
        VALIDATOR.validate(yaml.safe_load(format_settings(settings, "x")))
    for text in ("{}", "{budget: 3}", "{ranking: {depth: 2}, quality: }", "{near_duplicate: }"):
        VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "values",
    [
        *({"budgett": 1}, {"budget": 0}, {"budget": "many"}, {"budget": None}, {"seed": 1.5}, {"exclude": "a"}),
        *({"ranking": {"dephts": 1}}, {"ranking": {"think": False}}, {"ranking": 3}, {"queries": {"size": 201}}),
        *({"near_duplicate": 0}, {"history": "a/b"}, {"slot": 7}, {"reasons": "yes"}, {"runner": "dask"}, [], "a"),
    ],
)
def test_the_schema_refuses_what_is_wrong(values: Any) -> None:
    assert not VALIDATOR.is_valid(values)


def test_the_deployments_runs_are_of_the_schema() -> None:
    file = yaml.safe_load((steps.ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    values = {"selector_settings": steps.selector_settings()}
    parameters = [apply_values(deployment.get("parameters", {}), values) for deployment in file["deployments"]]
    runs = [given["run"] for given in parameters if "run" in given]
    assert runs
    for run in runs:
        VALIDATOR.validate(run)


def test_paths_become_groups() -> None:
    assert nested({("a",): 1, ("b", "c"): 2, ("b", "d"): 3}) == {"a": 1, "b": {"c": 2, "d": 3}}
