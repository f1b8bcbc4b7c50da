"""What a command imports: what it does not need is not waited for."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from selectllm import select
from selectllm.cli.main import COMMANDS, build_app, main
from selectllm.settings import RunSettings
from tests.conftest import HashEmbedder

NEEDLESS_FOR_HELP = ("pydantic", "numpy", "pyarrow", "asyncio", "httpx", "fsspec", "selectllm.settings")

NEEDLESS_WHEN_WARM = (
    *("scipy", "sklearn", "pandas", "torch", "transformers", "sentence_transformers", "great_expectations"),
    *("httpx", "ollama", "openai", "jinja2", "altair", "rich.progress", "pydantic_settings"),
    *("selectllm.report.page.build", "selectllm.report.notebook"),
)

WARM = f"""
from types import SimpleNamespace
from selectllm.embedding import models
models.open_embedder = lambda _: SimpleNamespace(digest={HashEmbedder.digest!r})
"""


def imported(needless: Sequence[str], arguments: Sequence[str], before: str = "") -> list[str]:
    """What a command line imports of some modules, in a process and an environment of its own."""
    program = f"{before}\nimport sys\nfrom selectllm.cli.main import main\nassert main(sys.argv[1:]) == 0\n"
    program += f"print(*[name for name in {tuple(needless)} if name in sys.modules])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SELECTLLM_")}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_no_command(arguments: list[str]) -> None:
    assert (
        imported([*NEEDLESS_FOR_HELP, *(f"selectllm.cli.{module}" for module, _ in COMMANDS.values())], arguments) == []
    )


def test_a_command_imports_no_other() -> None:
    others = [f"selectllm.cli.{name}" for name in ("compare", "doctor", "evaluate", "report", "tune")]
    assert imported(["numpy", "pyarrow", *others], ["select", "--help"]) == []


def test_a_warm_run_imports_what_it_reads_with_and_no_more(
    make_run: Callable[..., RunSettings], quick_embedding: type[HashEmbedder]
) -> None:
    settings = make_run()
    select(settings)
    options = ["--budget", str(settings.budget), "--selector", settings.selector, "--store", settings.store]
    assert imported(NEEDLESS_WHEN_WARM, ["select", settings.pool, *options, "--no-validate"], WARM) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_list_of_commands_shows_how_the_help_of_each_begins(command: str) -> None:
    _, beginning = COMMANDS[command]
    assert build_app()[command].help.partition("\n\n")[0].replace("\n", " ") == beginning


def test_a_word_behind_help_shows_the_whole_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for arguments in (["--help", "artifacts"], ["artifacts", "--help"]):
        assert main(arguments) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "Example:" in texts[0]


def test_an_unknown_command_is_answered_with_the_one_that_may_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selct"]) == 2
    assert '"select"' in capsys.readouterr().err
