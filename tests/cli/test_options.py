import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from selectllm.cli.options import Option, command, options, settings_from
from selectllm.errors import UsageError
from selectllm.settings import Composition, RunSettings

NAMES = {one.name: one for one in options()}


def test_the_options_are_the_promised_ones() -> None:
    assert set(NAMES) == {
        "pool", "budget", "selector", "seed", "store", "out", "instruction-column", "input-column", "output-column",
        "embedding-model", "query-size", "queries", "host", "mode", "depth", "passes", "candidate-chars", "think",
        "concurrency", "timeout", "deadline", "retries", "give-up-after", "max-abstained", "max-cost", "price-in",
        "price-out", "exclude", "history", "slot", "requery", "refresh",
        "runner", "runner-address", "workers", "no-validate", "expectations", "data-docs",
    }  # fmt: skip


def test_the_defaults_are_the_promised_ones() -> None:
    run = RunSettings(pool="p", budget=1)
    assert (run.selector, run.store, run.seed, run.out) == ("embedded", "./artifacts", 0, None)
    asked = run.ranking
    assert (asked.timeout, asked.deadline, asked.retries, asked.give_up_after, asked.max_abstained) == (
        120,
        600,
        4,
        900,
        0.05,
    )
    assert (asked.passes, asked.mode, asked.candidate_chars, asked.think, asked.hosts) == (1, "auto", 2000, "off", ())
    assert (run.queries.size, run.queries.composition, run.ranking.depth, run.ranking.concurrency) == (
        14,
        "matched",
        3,
        4,
    )


def test_every_option_is_explained_and_titled_for_the_form() -> None:
    for option in options():
        assert option.field.description, option.name
        assert option.field.title, option.name


def test_bounds_stand_in_the_description_because_the_form_does_not_show_them() -> None:
    bounded = {option.name: limits for option in options() if (limits := list(_limits(_shown(option))))}
    assert {"seed", "budget", "query-size", "timeout", "deadline", "max-cost", "max-abstained"} <= set(bounded)
    for name, limits in bounded.items():
        told = re.findall(r"\(([^()]*\d[^()]*)\)", NAMES[name].field.description or "")
        assert [
            one for one in limits if not any(re.search(rf"(?<![\d,.]){one}(?![\d,.])", two) for two in told)
        ] == [], name


def _limits(schema: dict[str, Any]) -> Iterator[str]:
    """A field's bounds as its description tells them, also where other kinds of values are allowed beside numbers."""
    if "minimum" in schema:
        yield f"{schema['minimum']:,}"
    if "exclusiveMinimum" in schema:
        yield f"more than {schema['exclusiveMinimum']:,}"
    if "maximum" in schema:
        yield f"{schema['maximum']:,}"
    if "exclusiveMaximum" in schema:
        yield f"{schema['exclusiveMaximum'] - 1:,}" if schema["type"] == "integer" else "less than"
    for one in schema.get("anyOf", []):
        yield from _limits(one)


def _shown(option: Option) -> dict[str, Any]:
    """What the form knows of an option."""
    schema = RunSettings.model_json_schema()
    *groups, name = option.path
    for group in groups:
        annotation = RunSettings.model_fields[group].annotation
        assert annotation is not None
        schema = {"properties": schema["$defs"][annotation.__name__]["properties"]}
    shown: dict[str, Any] = schema["properties"][name]
    return shown


def test_the_form_shows_each_option_as_one_plain_field() -> None:
    for option in options():
        shown = _shown(option)
        assert shown.get("type") in ("string", "integer", "number", "boolean", "array"), option.name
        assert not {"anyOf", "oneOf", "allOf", "$ref"} & set(shown), option.name
        assert "default" not in shown or shown["default"] is not None, option.name
        assert option.field.title == shown["title"]
    groups = [one for one in RunSettings.model_json_schema()["properties"].values() if "$ref" in one]
    assert groups
    assert not [one for one in groups if "default" in one], "the form would send null for the fields left open"


def test_descriptions_are_for_both_doors() -> None:
    for option in options():
        assert not re.search(r"--|repeated|pip install", option.field.description or ""), option.name


def test_a_command_takes_each_option_and_hands_on_settings() -> None:
    got: list[RunSettings] = []

    def work(run: RunSettings, *, json: bool = False) -> int:
        got.append(run)
        return int(json)

    made = command(work)
    assert set(inspect.signature(made).parameters) == {one.argument for one in options()} | {"json"}
    assert made("pool.csv", budget=3, query_size=9, queries="paper", host=("http://h",), json=True) == 1
    assert (got[0].pool, got[0].budget, got[0].queries.size, got[0].queries.composition) == ("pool.csv", 3, 9, "paper")
    assert got[0].ranking.hosts == ("http://h",)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("budget",), 0, "--budget should be greater than or equal to 1, not 0"),
        (("queries", "size"), 1, "--query-size should be greater than or equal to 2, not 1"),
        (("ranking", "concurrency"), 1000, "--concurrency should be less than or equal to 256, not 1000"),
        (("selector",), "gpt", "unknown selector 'gpt': use one of ollama:MODEL"),
        (("selector",), "ollama:", "unknown selector 'ollama:'"),
        (("selector",), "scripted:best", "unknown selector 'scripted:best'"),
        (("ranking", "max_cost"), 5.0, "--max-cost needs --price-in or --price-out"),
        (("ranking", "mode"), "pointwise", "scripted selectors rank lists"),
        (("seed",), -1, "--seed should be greater than or equal to 0"),
    ],
)
def test_what_is_not_allowed_is_told_in_the_options_names(path: tuple[str, ...], value: object, message: str) -> None:
    with pytest.raises(UsageError) as error:
        settings_from({("pool",): "p", ("budget",): 1, ("selector",): "scripted:first", path: value})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", [("ranking", "hosts"), ("ranking", "concurrency"), ("selector",)])
@pytest.mark.parametrize("value", ["http://user:planted@gpu1:11434", "http://gpu1:11434/?token=planted"])
def test_a_password_in_what_is_not_allowed_is_not_told(path: tuple[str, ...], value: str) -> None:
    with pytest.raises(UsageError, match="http://gpu1:11434") as error:
        settings_from({("pool",): "p", ("budget",): 1, path: value})
    assert "planted" not in str(error.value)


def test_settings_cannot_be_changed_and_know_no_other_field() -> None:
    run = RunSettings(pool="p", budget=1)
    with pytest.raises(ValidationError):
        run.budget = 2  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        RunSettings.model_validate({"pool": "p", "budget": 1, "budgett": 2})


def test_the_form_offers_the_compositions_as_choices() -> None:
    schema = RunSettings.model_json_schema()["$defs"]["QuerySettings"]["properties"]["composition"]
    assert schema["enum"] == list(get_args(Composition))
