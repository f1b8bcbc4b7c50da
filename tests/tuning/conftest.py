"""A base model of random weights, and files of rows with answers."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from selectllm.tuning.base import PACKAGES
from selectllm.tuning.settings import TuningSettings
from tests.tuning.tiny import write_rows, write_tiny_gguf

Make = Callable[..., TuningSettings]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF file of a tiny model; tests of tuning are skipped without the extra."""
    for package in PACKAGES:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return write_tiny_gguf(tmp_path_factory.mktemp("base") / "tiny.gguf")


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    """Settings of a training on 30 rows, tested on 40 others, in a folder of this test; fields as in TuningSettings."""
    train, test = write_rows(tmp_path / "train.jsonl", range(100, 130)), write_rows(tmp_path / "test.jsonl", range(40))

    def make(**fields: Any) -> TuningSettings:
        settings: dict[str, Any] = {"train": str(train), "test": str(test), "base": str(base)}
        settings |= {"out": str(tmp_path / "out"), "epochs": 2, "learning_rate": 5e-3, "checkpoint_every": 3}
        return TuningSettings.model_validate(settings | fields)

    return make
