"""The flow's command line."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

from deployments.local import Environment
from deployments.steps import ROOT
from flows.commands import selection_app
from flows.selection import select_instructions
from selectllm import select
from selectllm.cli.main import run_app
from selectllm.settings import RunSettings
from tasks.logs import LOGGERS

MakeRun = Callable[..., RunSettings]
PROGRAM = """
import runpy, sys
from selectllm.embedding import models
from tests.conftest import HashEmbedder

models.open_embedder = lambda _name: HashEmbedder()
try:
    runpy.run_module("flows.selection", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
assert not {"great_expectations", "torch", "sentence_transformers", "dask", "ray"} & set(sys.modules)
"""
pytestmark = [pytest.mark.usefixtures("quick_embedding"), pytest.mark.filterwarnings("default")]


def test_a_flow_process_prints_only_the_summary_and_imports_only_what_it_needs(
    make_run: MakeRun, environment: Environment
) -> None:
    settings = make_run(budget=3)
    select(settings)
    command = [sys.executable, "-c", PROGRAM, settings.pool, "--budget", "3", "--selector", settings.selector]
    command += ["--store", settings.store, "--no-validate", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["selection"]["selected"] == 3


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "61"], "selectllm: the budget is 61, but the pool holds 60 usable rows"),
        (["--budget", "0"], "selectllm: --budget should be greater than or equal to 1"),
        (["--budget", "3", "--workers", "0"], "selectllm: --workers should be greater than or equal to 1"),
        (["--budget", "3", "--selector", "ollama:m", "--host", "http://127.0.0.1:9"], "ollama serve"),
    ],
)
def test_an_error_is_one_line_without_traceback(
    arguments: list[str],
    message: str,
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = make_run(rows=60, selector="scripted:first")
    selector = [] if "--selector" in arguments else ["--selector", settings.selector]
    monkeypatch.setattr(sys, "argv", ["flow", settings.pool, "--store", settings.store, *selector, *arguments])
    filters = {name: list(logging.getLogger(name).filters) for name in LOGGERS}
    try:
        assert run_app(selection_app(select_instructions)) == 2
    finally:
        for name, before in filters.items():
            logging.getLogger(name).filters = before
    out, err = capfd.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err
