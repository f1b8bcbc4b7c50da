"""The figures of rules without judgement in docs/measurements.md are those that the code gives."""

import re
from pathlib import Path

import pytest

from selectllm.ranking.discrimination import Estimate
from selectllm.settings import SCRIPTED_RULES, RunSettings
from selectllm.steps.calibrate import calibrate
from selectllm.steps.context import Context
from selectllm.store import Store
from tests.docs.pages import DOCS, TEXTS


@pytest.mark.parametrize("rule", SCRIPTED_RULES)
def test_the_floor_is_as_the_page_says(rule: str, tmp_path: Path) -> None:
    values = {"pool": "-", "budget": 1, "selector": f"scripted:{rule}"}
    found = calibrate(Context(RunSettings.model_validate(values), Store(str(tmp_path)))).calibration.overall
    (cells,) = re.findall(
        rf"(?m)^\| `scripted:{rule}` \| [^|]* \| ([^|]*) \| ([^|]*) \|$", TEXTS[DOCS / "measurements.md"]
    )
    assert cells == (_cell(found.accuracy), _cell(found.auc))


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
