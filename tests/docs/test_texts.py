"""Checks of the documentation: links, commands, options and examples."""

import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from xml.etree import ElementTree

import pyarrow as pa
import pytest
import yaml

import selectllm
from deployments.steps import ROOT
from selectllm import llm, strategies, testing
from selectllm.schemas import PREFERENCES
from selectllm.settings import Composition
from selectllm.strategies.strategy import Strategy
from tests.docs.pages import DOCS, LINK, PAGES, TEXTS, anchors, blocks, code, pages_of, site

FOREIGN = {
    *("--constraint", "--editable"),  # pip's
    *("--all", "--no-prompt", "--payload", "--resource-id", "--watch"),  # Prefect's
    *("--build", "--detach", "--file", "--scale"),  # docker's
    *("--always", "--fail", "--form", "--header", "--output", "--silent"),  # git's and curl's
    *("--enable-legacy-api-token", "--internal-host", "--no-browser", "--password", "--port"),  # Label Studio's
    *("--user-token", "--username"),
    "--swa-full",  # llama-server's
    *("--rows", "--selectors", "--texts"),  # the benchmarks'
}
"""Options of other programs that the texts name."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_existing_targets(page: Path) -> None:
    text = TEXTS[page]
    for link, place in LINK.findall(text):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert page.parent != DOCS or target.resolve().is_relative_to(DOCS), f"{link} is not a part of the site"
        assert not place or place in anchors(target.read_text(encoding="utf-8")), f"{link}#{place}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    named = set(re.findall(r"(?m)(?:^|[`&;] ?)make ([a-z-]+)", code(TEXTS[page])))
    assert named <= targets


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_named_option_exists(page: Path) -> None:
    known, named = (set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code(TEXTS[text]))) for text in (DOCS / "cli.md", page))
    if page.name in ("benchmarks.md", "experiment.md", "measurements.md"):
        sources = [file.read_text(encoding="utf-8") for file in (ROOT / "benchmarks").glob("*.py")]
        known |= {option for source in sources for option in re.findall(r'add_argument\("(--[a-z-]+)"', source)}
    assert named <= known | FOREIGN


def test_the_first_readme_commands_run() -> None:
    first, *_ = blocks(TEXTS[ROOT / "README.md"], "sh")
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make run", "make test"]


@pytest.mark.slow
def test_the_readme_shows_what_its_command_prints(tmp_path: Path) -> None:
    (command,) = (block for block in blocks(TEXTS[ROOT / "README.md"], "sh") if "scripted:longest" in block)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "selectllm", *arguments],
        cwd=tmp_path, env={name: value for name, value in os.environ.items() if not name.startswith("SELECTLLM_")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (shown,) = blocks(TEXTS[ROOT / "README.md"], "")
    counts, rows = shown.split("\n\n")
    assert counts in done.stdout
    assert rows.splitlines()[0].split() == ["order", "why", "instruction"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifacts", "examples", "selection"]


def test_named_wheels_and_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = "\n".join(TEXTS.values())
    assert set(re.findall(r"[\w.-]+\.whl", text)) == {f"selectllm-{project['version']}-py3-none-any.whl"}
    extras = {extra for group in re.findall(r"(?:whl|'\.)\[([\w,]+)\]", text) for extra in group.split(",")}
    assert "embed" in extras
    assert extras <= set(project["optional-dependencies"])


def test_the_site_navigation_lists_every_page() -> None:
    assert sorted(pages_of(site()["nav"])) == sorted(page.name for page in PAGES if page.parent == DOCS)


def test_the_api_page_lists_all_public_names() -> None:
    text = TEXTS[DOCS / "api.md"]
    named = set(re.findall(r"(?m)^::: ([\w.]+)$", text))
    listed = re.findall(r"(?m)^::: ([\w.]+)\n    options:\n      members:\n((?:        - \w+\n)+)", text)
    named |= {f"{module}.{name}" for module, members in listed for name in re.findall(r"- (\w+)", members)}
    for name in named:
        pkgutil.resolve_name(name)  # raises if the name does not exist
    ends = {name.rsplit(".", 1)[-1] for name in named}
    assert set(selectllm.__all__) | set(llm.__all__) <= ends
    rooms = {f"selectllm.{room}" for room in ("settings", "schemas", "errors", "strategies", "llm")}
    assert rooms <= named
    assert f"{testing.__name__}.faulty_ollama.FaultyOllama" in named


def test_the_architecture_page_names_all_rooms() -> None:
    text = TEXTS[DOCS / "architecture.md"]
    library = ROOT / "selectllm"
    rooms = {f"{path.name}/" for path in library.iterdir() if (path / "__init__.py").is_file()}
    rooms |= {path.name for path in library.glob("[a-z]*.py")}
    assert {room for room in rooms if not re.search(rf"`(selectllm/)?{re.escape(room)}`", text)} == set()
    drawn = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    packages = {room for room in rooms if room.endswith("/")} - {
        "testing/",
        "settings/",
    }  # the ground floor is one line
    assert {room for room in packages if f">{room}<" not in drawn} == set()


def test_texts_explain_all_strategies_and_compositions() -> None:
    using, method = TEXTS[DOCS / "using.md"], TEXTS[DOCS / "method.md"]
    assert [name for name in strategies.OWN if not re.search(rf"(?m)^\| (`\w+`, )?`{name}`", using)] == []
    assert [name for name in strategies.REFUSED if f"`{name}`" not in using] == []
    assert [name for name in get_args(Composition) if f"| `{name}`" not in method] == []


def test_the_example_strategy_is_valid() -> None:
    example, *_ = blocks(TEXTS[ROOT / "CONTRIBUTING.md"], "python")
    names: dict[str, type[Strategy]] = {}
    exec(compile(re.sub(r"(?m)^    ", "", example), "CONTRIBUTING.md", "exec"), names)
    pool = pa.table({"id": ["a", "b", "c"], "instruction": ["a b c d", "a", "b"], "input": pa.nulls(3, pa.string())})
    preferences = names["FewestWords"]().prefer(SimpleNamespace(pool=pool))  # type: ignore[arg-type]
    assert preferences.schema == PREFERENCES
    assert preferences["id"].to_pylist() == ["b", "c", "a"]


def test_the_glossary_is_sorted() -> None:
    terms = re.findall(r"(?m)^\| (?!term|-)([^|]+) \|", TEXTS[DOCS / "glossary.md"])
    assert len(terms) > 40
    assert terms == sorted(set(terms), key=str.lower)


@pytest.mark.parametrize("picture", ["architecture.svg", "flow.svg"])
def test_pictures_load_nothing_and_have_dark_colours(picture: str) -> None:
    text = (DOCS / picture).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"https?://(?!www\.w3\.org/)", text) == []


def test_the_changelog_uses_the_standard_headings() -> None:
    text = TEXTS[ROOT / "CHANGELOG.md"]
    assert re.findall(r"(?m)^## (.*)$", text)[0] == "[Unreleased]"
    assert set(re.findall(r"(?m)^### (.*)$", text)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_the_citation_is_valid() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.citation-file-format"]
    done = subprocess.run([*command, "CITATION.cff"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pre_commit_hooks_download_nothing() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"
    linted = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    commands = re.findall(r"\$\(BIN\)/(.*)", linted)
    assert [f"{hook['entry'].removeprefix('.venv/bin/')} ." for hook in repository["hooks"]][:2] == commands[:2]
    assert repository["hooks"][2]["entry"].removeprefix(".venv/bin/") == commands[2]
