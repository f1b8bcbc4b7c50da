"""Settings from a file: what a value means, what counts first, and what is said of files that are wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.commands import selection_app
from selectllm.cli import doctor
from selectllm.cli.config import ConfigFile, settings_of
from selectllm.cli.main import build_app, main, run_app
from selectllm.errors import UsageError
from selectllm.settings import RankingSettings, RunSettings

Parse = Callable[..., RunSettings]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SELECTLLM_QUALITY__NO_VALIDATE")


@pytest.fixture
def parse() -> Parse:
    """The settings that a command gets from a file's text and from arguments."""

    def parse(text: str, *arguments: str, name: str = "run.yaml") -> RunSettings:
        Path(name).write_text(text, encoding="utf-8")
        parsed: list[RunSettings] = []
        app = build_app()

        @app.command
        def show(settings: RunSettings, *, config: ConfigFile = None) -> int:
            parsed.append(settings)
            return 0

        app(["show", "--config", name, *arguments], result_action="return_value", exit_on_error=False)
        return parsed[0]

    return parse


WHOLE = """\
# a comment
pool: pool.jsonl
budget: 20
selector: ollama:llama3.1:8b
exclude: [old.jsonl, "[new].jsonl"]
near_duplicate: 9.5e-1
history: nightly
slot: 2026-10-01
seed: 007
reasons: yes
criteria: no
queries:
    size: 9
ranking:
    hosts:
    -   http://gpu1:11434
    think: off
    timeout: 1e3
    price_in: 1
quality:
"""


def test_values_mean_what_their_texts_mean_behind_options(parse: Parse) -> None:
    settings = parse(WHOLE)
    assert (settings.pool, settings.budget, settings.selector) == ("pool.jsonl", 20, "ollama:llama3.1:8b")
    assert settings.exclude == ("old.jsonl", "[new].jsonl")
    assert (settings.near_duplicate, settings.seed, settings.reasons) == (0.95, 7, True)
    assert (settings.history, settings.slot, settings.criteria) == ("nightly", "2026-10-01", "no")
    assert (settings.queries.size, settings.ranking.hosts) == (9, ("http://gpu1:11434",))
    assert (settings.ranking.think, settings.ranking.timeout, settings.ranking.price_in) == ("off", 1000, 1)


def test_json_means_the_same(parse: Parse) -> None:
    text = """{"pool": "pool.jsonl", "budget": 20, "selector": "ollama:llama3.1:8b", "exclude": ["old.jsonl",
    "[new].jsonl"], "near_duplicate": 9.5e-1, "history": "nightly", "slot": "2026-10-01", "seed": 7, "reasons": true,
    "criteria": "no", "queries": {"size": 9}, "ranking": {"hosts": ["http://gpu1:11434"], "think": "off",
    \t"timeout": 1e3, "price_in": 1}, "quality": null}"""
    assert parse(text, name="run.json") == parse(WHOLE)


def test_options_count_before_the_file_and_the_file_before_the_environment(
    parse: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("SELECTLLM_SEED=1\nSELECTLLM_QUERIES__SIZE=5\n")
    for name in ("DEPTH", "PASSES", "RETRIES"):
        monkeypatch.setenv(f"SELECTLLM_RANKING__{name}", "7")
    monkeypatch.setenv("SELECTLLM_RANKING__HOSTS", '["http://environment"]')
    monkeypatch.setenv("SELECTLLM_NEAR_DUPLICATE", "0.9")
    text = "{pool: file.jsonl, budget: 4, seed: 2, near_duplicate: , ranking: {depth: 8, passes: 8, hosts: []}}"
    settings = parse(text, "--depth", "9", "--host", "http://option")
    ranking = settings.ranking
    assert (ranking.depth, ranking.passes, ranking.retries, settings.seed, settings.queries.size) == (9, 8, 7, 2, 5)
    assert settings.near_duplicate is None, "an empty value is one, too"
    assert ranking.hosts == ("http://option",)
    assert parse(text).ranking.hosts == (), "an empty list is a value, too"


def test_files_named_as_arguments_replace_all_of_the_file(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "{pool: a, more_files: [b, c], budget: 1, reasons: true}"
    assert parse(text).pools == ("a", "b", "c")
    assert parse(text, "d").pools == ("d",)
    assert parse(text, "d", "e").pools == ("d", "e")
    assert parse(text, "--reasons=false").reasons is False
    monkeypatch.setenv("SELECTLLM_POOL", "x")
    monkeypatch.setenv("SELECTLLM_MORE_FILES", '["y"]')
    assert parse("budget: 1").pools == ("x", "y")
    assert parse("budget: 1", "d").pools == ("d",)


def test_paths_are_relative_to_the_working_folder(
    make_run: Callable[..., RunSettings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "settings"
    folder.mkdir()
    Path("here.jsonl").write_bytes(Path(make_run().pool).read_bytes())
    (folder / "run.yaml").write_text("pool: here.jsonl\nbudget: 3\nselector: scripted:first\n")
    assert main(["plan", "--config", "settings/run.yaml"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml holds no settings: write them as `name: value`, one a line"),
        ("# all: left out\n", "run.yaml holds no settings"),
        ("just words", "run.yaml holds no settings by name"),
        ("- pool\n- budget", "run.yaml holds no settings by name"),
        ("budget: 1\nranking:\n\tdepth: 2", "run.yaml, line 3: this is no YAML: found character '\\t' that cannot"),
        ("budget: [1", "run.yaml, line 1: this is no YAML: expected ',' or ']'"),
        ("budget: 1\n---\nbudget: 2", "run.yaml, line 2: this is no YAML: but found another document"),
        ("budget: 1\nbudget: 2", "run.yaml: budget stands there twice"),
        ("ranking: {depth: 1, depth: 2}", "run.yaml: depth stands there twice"),
        ("budget: \x01", "run.yaml: this is no YAML: unacceptable character #x0001"),
        ("[a, b]: 1", "run.yaml, line 1: a key is a name, not a list or a group"),
        ("&a seed: *b", "run.yaml, line 1: this is no YAML: found undefined alias 'b'"),
        ("ranking: &a {depth: {depth: *a}}", "run.yaml, line 1: groups are nested too deeply"),
        ("x: " + "[" * 9 + "1" + "]" * 9, "run.yaml, line 1: groups are nested too deeply"),
        ("x: " + "[" * 9999 + "1" + "]" * 9999, "run.yaml: groups are nested too deeply"),
        ("budgett: 1", "run.yaml: budgett names no setting of this command: do you mean budget?"),
        ("depth: 1", "run.yaml: depth names no setting of this command: do you mean ranking.depth?"),
        ("query-size: 1", "run.yaml: query-size names no setting of this command: do you mean queries.size?"),
        ("host: a", "run.yaml: host names no setting of this command: do you mean ranking.hosts?"),
        ("ranking: {dephts: 1}", "run.yaml: ranking.dephts names no setting of this command: do you mean ranking.de"),
        ("runner: dask", "run.yaml: runner names no setting of this command."),
        ("<<: {budget: 1}", "run.yaml: << names no setting of this command."),
        ("ranking: 3", "run.yaml: ranking is a group: write its settings below it, not one value"),
        ("ranking: [depth]", "run.yaml: ranking is a group: write its settings below it, not a list"),
        ("seed: {a: 1}", "run.yaml: seed (--seed) should be one value, not a group"),
        ("seed: [1, 2]", "run.yaml: seed (--seed) should be one value, not a list"),
        ("exclude: a.txt", "run.yaml: exclude (--exclude) should be a list, such as [a, b], not one value"),
        ("ranking: {hosts: }", "run.yaml: ranking.hosts (--host) should be a list, such as [a, b], not nothing"),
        ("exclude: [a, [b]]", "run.yaml: exclude (--exclude) should be a list of single values: a list is in it"),
        ("exclude: [a, null]", "run.yaml: exclude (--exclude) should be a list of single values: nothing is in it"),
        ("budget: 0", "run.yaml: budget (--budget) should be greater than or equal to 1, not '0'"),
        ("budget: true", "run.yaml: budget (--budget) should be a valid integer, not 'true'"),
        ("budget: 1.5", "run.yaml: budget (--budget) should be a valid integer, not '1.5'"),
        ("seed: ", "run.yaml: seed (--seed) should be a valid integer, not None"),
        ("pool: ''", "run.yaml: pool (POOL) should have at least 1 character, not ''"),
        ("queries: {size: 1}", "run.yaml: queries.size (--query-size) should be greater than or equal to 2, not '1'"),
        ("ranking: {think: maybe}", "run.yaml: ranking.think (--think) should be 'auto', 'off', 'low' or 'on'"),
        ("reasons: perhaps", "run.yaml: reasons (--reasons) should be a valid boolean, not 'perhaps'"),
        ("selector: gpt", "run.yaml: selector (--selector): unknown selector 'gpt': use one of ollama:MODEL"),
        ("selector: http://u:planted@gpu1/", "run.yaml: selector (--selector): unknown selector 'http://gpu1/'"),
        ("slot: a", "--slot needs --history"),
        ("ranking: {max_cost: 5}", "--max-cost needs --price-in or --price-out"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text(text, encoding="utf-8")
    given = [] if "budget:" in text else ["--budget", "1"]
    pool = [] if "pool:" in text else ["p.jsonl"]
    assert main(["plan", *pool, *given, "--config", "run.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"selectllm: {message}")
    assert error.count("\n") == 1
    assert "planted" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.json holds no settings"),
        ("null", "run.json holds no settings"),
        ("[1]", "run.json holds no settings by name"),
        ('{"budget": 1,}', "run.json, line 1: this is no JSON: Illegal trailing comma"),
        ('{"budget": 1, "budget": 2}', "run.json: budget stands there twice"),
        ('{"budget": NaN}', "run.json: budget (--budget) should be a valid integer, not 'NaN'"),
        ("budget: 1", "run.json, line 1: this is no JSON"),
        ('{"budget": 1, "seed": ' + "[" * 100_000, "run.json: groups are nested too deeply"),
    ],
)
def test_what_is_wrong_with_json_is_said_too(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.json").write_text(text, encoding="utf-8")
    assert main(["plan", "p.jsonl", "--config", "run.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"selectllm: {message.split(': Illegal')[0]}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "run.yaml cannot be read: No such file or directory. --config names a file of settings"),
        ("pool: á\n".encode("latin-1"), "run.yaml, line 1: the file is not UTF-8. Write it as UTF-8"),
        ("pool: a\n".encode("utf-16"), "run.yaml, line 1: the file is not UTF-8. Write it as UTF-8"),
        (b"#" * 1_000_001, "run.yaml has more than 1,000,000 bytes: it is no file of settings"),
    ],
)
def test_a_file_that_is_no_text_of_settings_is_named(
    data: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is not None:
        Path("run.yaml").write_bytes(data)
    assert main(["plan", "--config", "run.yaml"]) == 2
    assert capsys.readouterr().err == f"selectllm: {message}\n"


def test_a_file_may_name_its_schema(parse: Parse) -> None:
    assert parse('{"$schema": "run.schema.json", "pool": "p", "budget": 3}', name="run.json").budget == 3
    Path("run.json").write_text('{"pool": "p", "budget": 3, "ranking": {"$schema": "x"}}')
    with pytest.raises(UsageError, match="names no setting"):
        settings_of("run.json")


def test_a_byte_order_mark_and_line_ends_of_windows_do_not_count(parse: Parse) -> None:
    settings = parse("\ufeffpool: a\r\nbudget: 3\r\nranking:\r\n  depth: 2\r\n")
    assert (settings.pool, settings.budget, settings.ranking.depth) == ("a", 3, 2)


def test_infinity_is_written_as_in_yaml_or_as_behind_the_option(parse: Parse) -> None:
    for text in (".inf", ".INF", "inf", "+.inf"):
        assert parse(f"{{pool: a, budget: 1, ranking: {{deadline: {text}}}}}").ranking.deadline == float("inf")


def test_a_missing_budget_is_reported_as_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text("pool: a\n")
    assert main(["select", "--config", "run.yaml"]) == 2
    assert "parameter --budget requires an argument" in capsys.readouterr().err


def test_select_runs_by_a_file(make_run: Callable[..., RunSettings], capsys: pytest.CaptureFixture[str]) -> None:
    pool = make_run().pool
    text = f"pool: {pool}\nbudget: 3\nstrategy: longest\nquality: {{no_validate: true}}\n"
    Path("run.yaml").write_text(text)
    assert main(["select", "--config", "run.yaml", "--out", "out"]) == 0, capsys.readouterr().err
    assert len(Path("out/selection.jsonl").read_text().splitlines()) == 3


def test_the_flow_takes_a_file() -> None:
    Path("run.yaml").write_text("{pool: p.jsonl, budget: 4, ranking: {depth: 7}}")
    calls: list[RunSettings] = []

    def flow(settings: RunSettings, _: object) -> dict[str, Any]:
        calls.append(settings)
        raise UsageError("enough")

    assert run_app(selection_app(flow), ["--config", "run.yaml", "--workers", "3"]) == 2
    assert calls == [RunSettings(pool="p.jsonl", budget=4, ranking=RankingSettings(depth=7))]


def test_doctor_takes_what_it_needs_of_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ranking = "{hosts: [http://a, http://b], depth: 7, timeout: 9}"
    Path("run.yaml").write_text(f"{{pool: p, budget: 4, seed: 3, selector: 'openai:m', ranking: {ranking}}}")
    monkeypatch.setenv("SELECTLLM_RANKING__DEPTH", "5")
    monkeypatch.setenv("SELECTLLM_RANKING__PASSES", "5")
    seen: list[RunSettings] = []

    async def diagnose(settings: RunSettings, **_: object) -> list[object]:
        seen.append(settings)
        return []

    monkeypatch.setattr(doctor, "_diagnose", diagnose)
    assert main(["doctor", "--config", "run.yaml", "--timeout", "8"]) == 0
    (settings,) = seen
    assert (settings.selector, settings.ranking.hosts) == ("openai:m", ("http://a", "http://b"))
    assert (settings.ranking.timeout, settings.ranking.depth, settings.ranking.passes) == (8, 7, 5)
    for text, message in (
        ("{dephts: 3}", "run.yaml: dephts names no setting of this command: do you mean ranking.depth?"),
        ("{seed: x}", "the settings that the file and the environment name are not allowed: seed: Input should be"),
        ("{selector: ollama}", "unknown selector 'ollama'"),
        (
            "{ranking: {timeout: x}}",
            "Invalid value for run.yaml: ranking.timeout (--timeout) from file: unable to",
        ),
    ):
        Path("run.yaml").write_text(text)
        assert main(["doctor", "--config", "run.yaml"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_comparison_has_settings_of_its_own(
    make_run: Callable[..., RunSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    text = "{budgets: [2, 3], strategies: [longest], seeds: 2, quality: {no_validate: true}}"
    Path("run.yaml").write_text(f"pool: {make_run().pool}\n")
    Path("compare.yaml").write_text(text)
    assert main(["compare", make_run().pool, "--config", "compare.yaml", "--dry-run", "--json"]) == 0
    from_file = capsys.readouterr().out
    options = ["--budgets", "2,3", "--strategies", "longest", "--seeds", "2"]
    assert main(["compare", "--config", "run.yaml", *options, "--no-validate", "--dry-run", "--json"]) == 0
    assert capsys.readouterr().out == from_file
    Path("run.yaml").write_text("{budget: 1}")
    assert main(["compare", make_run().pool, "--config", "run.yaml"]) == 2
    assert capsys.readouterr().err == (
        "selectllm: run.yaml: budget names no setting of this command: do you mean budgets?\n"
    )


def test_a_file_that_is_read_once_more_for_an_error_hides_none() -> None:
    """`store_of` parses the command line again: it must give the file's store."""
    from selectllm.cli.unexpected import store_of

    Path("run.yaml").write_text("{pool: p, budget: 4, store: there}")
    assert store_of(build_app(), ["select", "--config", "run.yaml"]) == "there"
