"""The flow of a fine-tuning gives what the library gives, and shows it on the run's page."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from flows.commands import tuning_app
from flows.tuning import tune_model
from selectllm.cli.main import run_app
from selectllm.tuning.base import PACKAGES
from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.tune import tune
from tests.tuning.tiny import write_rows, write_tiny_gguf

pytestmark = [
    pytest.mark.filterwarnings("default"),  # Prefect's own code warns under Python 3.11 and later; ours must not
    pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="the extra `train` is not installed"),
]


def test_the_flow_tunes_like_the_library_and_finds_its_result(
    tmp_path: Path, artifacts: Callable[[Any], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_tiny_gguf(tmp_path / "tiny.gguf")
    train, test = write_rows(tmp_path / "train.jsonl", range(20)), write_rows(tmp_path / "test.jsonl", range(30, 36))
    settings = TuningSettings(train=str(train), test=str(test), base=str(base), out=str(tmp_path / "flow"))
    final = tune_model(settings, return_state=True)
    record = tune(settings.model_copy(update={"out": str(tmp_path / "library")}))
    assert final.result()["scores"] == record["scores"]
    assert "| per token | 6 |" in str(artifacts(final)["tuning"].data)
    arguments = [str(train), "--test", str(test), "--base", str(base), "--out", settings.out, "--json"]
    assert run_app(tuning_app(tune_model), arguments) == 0
    assert json.loads(capsys.readouterr().out) == final.result()
    assert run_app(tuning_app(tune_model), [*arguments, "--seed", "1"]) == 2
    assert "belongs to a training with another base" in capsys.readouterr().err
