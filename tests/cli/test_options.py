import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from selectllm.cli.main import build_app, main
from selectllm.cli.messages import flag_of
from selectllm.settings import Composition, RunSettings
from selectllm.strategies import OWN
from tasks.settings import FlowSettings

Path = tuple[str, ...]


def options(settings: type[BaseModel] = RunSettings, path: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every field that is not a group of fields, with its path."""
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options(field.annotation, (*path, name))
        else:
            yield (*path, name), field


ALL = [*options(), *options(FlowSettings)]
DESCRIPTIONS = {flag_of(path): field.description or "" for path, field in options()}


def test_the_set_of_options_is_fixed() -> None:
    assert set(DESCRIPTIONS) == {"POOL"} | {
        f"--{name}"
        for name in (
            "more-files",
            "budget", "selector", "criteria", "reasons", "strategy", "seed", "store", "out",
            "diversity", "near-duplicate",
            "stratify", "quota", "target", "target-rows", "away-from", "away-above",
            "instruction-column", "input-column",
            "output-column", "turn", "role-map",
            "embedding-model", "embeddings",
            "query-size", "composition", "host", "mode", "depth", "passes", "gather", "looks",
            "candidate-chars", "think", "concurrency", "timeout", "deadline", "retries", "give-up-after",
            "batch", "reask", "max-abstained", "max-cost", "price-in", "price-out", "exclude", "history", "slot",
            "requery", "no-validate", "expectations", "data-docs",
        )
    }  # fmt: skip
    assert {flag_of(path, FlowSettings) for path, _ in options(FlowSettings)} == {
        "--runner",
        "--runner-address",
        "--workers",
        "--no-report",
    }


def test_every_option_is_in_the_help_with_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "--help"]) == 0
    help = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for flag, description in DESCRIPTIONS.items():
        assert flag in help
        assert description.split(".")[0].split(":")[0][:40] in help, flag


def test_the_sections_of_the_help_are_in_the_order_of_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "--help"]) == 0
    help = capsys.readouterr().out
    titles = [line.strip("╭─╮ ") for line in help.splitlines() if line.startswith("╭")]
    assert titles == ["Run", "Columns", "Aim", "Embedding", "Queries", "Ranking", "Quality", "Settings file", "Output"]
    assert "[default: ()]" not in help
    assert "[default: None]" not in help
    assert "[default: False]" not in help
    assert "[default: 14]" in help


def test_a_missing_pool_or_budget_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, name in ((["--budget", "1"], "POOL"), (["p.jsonl"], "--budget")):
        assert main(["select", *arguments]) == 2
        error = 'Command "select" parameter {} requires an argument. See --help'
        assert capsys.readouterr().err == f"selectllm: {error.format(name)}\n"


def test_the_defaults_are_fixed() -> None:
    settings = RunSettings(pool="p", budget=1)
    assert (settings.selector, settings.strategy, settings.store) == ("embedded", "selectllm", "./artifacts")
    assert (settings.seed, settings.out) == (0, None)
    assert (settings.diversity, settings.near_duplicate) == (0, None)
    aim = settings.aim
    assert (aim.column, aim.target, aim.target_rows, aim.away_from, aim.away_above) == (None, None, None, (), 0.9)
    ranking = settings.ranking
    assert (ranking.timeout, ranking.deadline, ranking.retries, ranking.give_up_after) == (120, 600, 4, 900)
    assert (ranking.max_abstained, ranking.passes, ranking.mode, ranking.candidate_chars) == (0.05, 1, "auto", 2000)
    assert (ranking.think, ranking.hosts, ranking.depth, ranking.concurrency) == ("auto", (), 3, 4)
    assert (settings.queries.size, settings.queries.composition) == (14, "matched")


def test_every_option_has_a_description_and_a_form_title() -> None:
    for path, field in ALL:
        assert field.description, path
        assert field.title, path


def test_descriptions_state_the_bounds_that_the_form_hides() -> None:
    bounded = {flag_of(path): limits for path, _ in options() if (limits := list(_limits(_form_field(path))))}
    assert {"--seed", "--budget", "--query-size", "--timeout", "--deadline", "--max-cost", "--max-abstained"} <= set(
        bounded
    )
    for flag, limits in bounded.items():
        named = re.findall(r"\(([^()]*\d[^()]*)\)", DESCRIPTIONS[flag])
        missing = [
            limit for limit in limits if not any(re.search(rf"(?<![\d,.]){limit}(?![\d,.])", text) for text in named)
        ]
        assert missing == [], flag


def _limits(schema: dict[str, Any]) -> Iterator[str]:
    """The bounds of a field in the words of its description, also for fields that allow other types than numbers."""
    if "minimum" in schema:
        yield f"{schema['minimum']:,}"
    if "exclusiveMinimum" in schema:
        yield f"more than {schema['exclusiveMinimum']:,}"
    if "maximum" in schema:
        yield f"{schema['maximum']:,}"
    if "exclusiveMaximum" in schema:
        yield f"{schema['exclusiveMaximum'] - 1:,}" if schema["type"] == "integer" else "less than"
    for alternative in schema.get("anyOf", []):
        yield from _limits(alternative)


def _form_field(path: Path) -> dict[str, Any]:
    """The schema of an option in the form."""
    schema = RunSettings.model_json_schema()
    *groups, name = path
    for group in groups:
        annotation = RunSettings.model_fields[group].annotation
        assert annotation is not None
        schema = {"properties": schema["$defs"][annotation.__name__]["properties"]}
    field: dict[str, Any] = schema["properties"][name]
    return field


def test_the_form_shows_each_option_as_one_plain_field() -> None:
    for path, field in options():
        shown = _form_field(path)
        assert shown.get("type") in ("string", "integer", "number", "boolean", "array"), path
        assert not {"anyOf", "oneOf", "allOf", "$ref"} & set(shown), path
        assert "default" not in shown or shown["default"] is not None, path
        assert field.title == shown["title"]
    groups = [field for field in RunSettings.model_json_schema()["properties"].values() if "$ref" in field]
    assert groups
    assert not [group for group in groups if "default" in group], "the form would send null for the fields left open"


def test_descriptions_fit_both_the_command_line_and_the_form() -> None:
    for path, field in ALL:
        assert not re.search(r"--|repeated|pip install", field.description or ""), path


def test_options_become_settings() -> None:
    parsed: list[RunSettings] = []
    app = build_app()

    @app.command
    def show(settings: RunSettings) -> int:
        parsed.append(settings)
        return 0

    arguments = ["show", "pool.csv", "--budget", "3", "--query-size", "9", "--composition", "paper"]
    app(
        [*arguments, "--host", "http://a", "--host", "http://b", "--exclude", "x", "--requery"],
        result_action="return_value",
    )
    (settings,) = parsed
    assert (settings.pool, settings.budget, settings.queries.size) == ("pool.csv", 3, 9)
    assert (settings.queries.composition, settings.ranking.hosts) == ("paper", ("http://a", "http://b"))
    assert (settings.exclude, settings.requery) == (("x",), True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "0"], "--budget should be greater than or equal to 1, not '0'"),
        (["--query-size", "1"], "--query-size should be greater than or equal to 2, not '1'"),
        (["--concurrency", "1000"], "--concurrency should be less than or equal to 256, not '1000'"),
        (["--selector", "gpt"], "unknown selector 'gpt': use one of ollama:MODEL"),
        (["--selector", "ollama:"], "unknown selector 'ollama:'"),
        (["--selector", "scripted:best"], "unknown selector 'scripted:best'"),
        (["--max-cost", "5"], "--max-cost needs --price-in or --price-out"),
        (["--mode", "pointwise", "--selector", "scripted:first"], "scripted selectors rank lists"),
        (["--reasons", "--selector", "scripted:first"], "--reasons needs a model: scripted selectors go by a rule"),
        (["--batch", "--selector", "ollama:m"], "--batch needs a selector openai:MODEL: ollama:m takes no batches"),
        (["--diversity", "2"], "--diversity should be less than or equal to 1, not '2'"),
        (["--near-duplicate", "0"], "--near-duplicate should be greater than 0, not '0'"),
        (["--near-duplicate", "1.1"], "--near-duplicate should be less than or equal to 1, not '1.1'"),
        (["--quota", "kind=3"], "--quota cannot be 'kind=3': write COLUMN:VALUE=N, as in category:summarization=20"),
        (["--quota", "kind:a=3"], "the quotas sum to 3, and the budget is 1: lower one of them"),
        (["--quota", "kind:a=1", "--stratify", "kind"], "--stratify and --quota both say"),
        (["--target-rows", "5"], "--target-rows needs --target"),
        (["--away-above", "0"], "--away-above should be greater than 0, not '0'"),
        (["--seed", "-1"], "--seed should be greater than or equal to 0"),
        (["--slot", "s"], "--slot needs --history"),
        (["--slot", "s/", "--history", "h"], "--slot should match pattern"),
        (["--strategy", ""], "--strategy should have at least 1 character, not ''"),
        (["--timeout", "soon"], "--timeout should be a valid number, not 'soon'. See --help"),
        (["--depth", "2", "--depth", "3"], "Parameter --depth specified multiple times. See --help"),
        (["--mode", "loud"], "loud"),
        (["--nothing"], "--nothing"),
    ],
)
def test_validation_errors_use_the_option_names(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = [] if "--budget" in arguments else ["--budget", "1"]
    assert main(["plan", "p.jsonl", *budget, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "pydantic" not in error


@pytest.mark.parametrize("flag", ["--selector", "--concurrency"])
@pytest.mark.parametrize("value", ["http://user:planted@gpu1:11434", "http://gpu1:11434/?token=planted"])
def test_validation_errors_hide_passwords(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "p.jsonl", "--budget", "1", flag, value]) == 2
    error = capsys.readouterr().err
    assert "http://gpu1:11434" in error
    assert "planted" not in error


def test_settings_are_frozen_and_reject_unknown_fields() -> None:
    settings = RunSettings(pool="p", budget=1)
    with pytest.raises(ValidationError):
        settings.budget = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        RunSettings.model_validate({"pool": "p", "budget": 1, "budgett": 2})


def test_the_form_offers_the_compositions_as_choices() -> None:
    schema = RunSettings.model_json_schema()["$defs"]["QuerySettings"]["properties"]["composition"]
    assert schema["enum"] == list(get_args(Composition))


def test_the_help_of_strategy_names_each_of_ours() -> None:
    text = RunSettings.model_fields["strategy"].description or ""
    text = text.replace("-mid, -high", "perplexity-mid, perplexity-high")
    assert OWN.keys() <= set(re.split(r"[\s,;:.()]+", text))
