"""The experiment: arms paired by seeds, rows away from the test, and nothing done twice."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks import experiment
from selectllm.errors import UsageError
from tests.tuning.tiny import write_rows

pytestmark = pytest.mark.usefixtures("quick_embedding")


@pytest.fixture
def arguments(base: Path, tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(
        pool=str(write_rows(tmp_path / "pool.jsonl", range(100, 160))),
        test=str(write_rows(tmp_path / "test.jsonl", range(150, 200))),  # ten rows stand in both
        out=tmp_path / "experiment", budget=12, seeds=2, arms=["longest", "selectllm-tiers"], test_rows=40, pool_rows=0,
        selector="scripted:first", candidate_chars=240, list_chars=120, base=str(base), epochs=1, batch=4,
        learning_rate=5e-3, max_tokens=128, precision="float32",
    )  # fmt: skip


def test_the_experiment_compares_arms_and_goes_on_where_it_was(
    arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = experiment.run(arguments)
    assert (arguments.out / "experiment.md").read_text() == text
    sections = text.split("\n## ")
    assert sections[1].startswith("Per token\n")
    names = [line.split(" | ")[0] for line in sections[1].splitlines()[-3:]]
    assert names == ["| random", "| longest", "| selectllm-tiers"]
    cells = sorted(path.name for path in (arguments.out / "cells").iterdir())
    assert cells == [f"{arm}-{seed}" for arm in ("longest", "random", "selectllm-tiers") for seed in (0, 1)]
    tests = {json.loads(line)["instruction"] for line in (arguments.out / "test.jsonl").read_text().splitlines()}
    assert len(tests) == 40
    chosen = {}
    for name in cells:
        lines = (arguments.out / "cells" / name / "train.jsonl").read_text().splitlines()
        chosen[name] = {json.loads(line)["instruction"] for line in lines}
        assert len(chosen[name]) == 12
        assert not chosen[name] & tests
        trained = json.loads((arguments.out / "cells" / name / "tuning.json").read_text())["train"]
        assert (trained["rows"], trained["cut"], trained["too_long"]) == (12, 0, 0)
    assert chosen["random-0"] != chosen["random-1"]
    assert chosen["longest-0"] == chosen["longest-1"]

    monkeypatch.setattr(experiment, "load", lambda _base: pytest.fail("loaded again"))
    assert experiment.run(arguments) == text
    with pytest.raises(UsageError, match="is of an experiment with other arguments"):
        experiment.run(argparse.Namespace(**{**vars(arguments), "budget": 13}))


def test_ratings_come_from_lists_also_of_a_model_that_scores_single_rows(arguments: argparse.Namespace) -> None:
    settings = {
        arm: experiment.selection_settings(arm, 0, arguments) for arm in ("selectllm-tiers", "selectllm-ratings")
    }
    assert [one.ranking.mode for one in settings.values()] == ["auto", "listwise"]
    assert [one.ranking.candidate_chars for one in settings.values()] == [240, 120]
    assert [one.ranking.gather for one in settings.values()] == ["tiers", "ratings"]


def test_the_difference_of_an_arm_is_that_of_its_seeds(arguments: argparse.Namespace) -> None:
    arguments.arms = ["longest", "selectllm-ratings"]
    text = experiment.run(arguments)
    assert "| per token | " in text
    assert (arguments.out / "differences.svg").read_text().startswith("<svg")
    folder = arguments.out / "cells"
    means = {
        arm: [
            sum(losses.sums) / sum(losses.tokens)
            for losses in (experiment.read_losses(folder / f"{arm}-{seed}", "tuned") for seed in (0, 1))
        ]
        for arm in ("random", "longest")
    }
    expected = sum(means["longest"]) / 2 - sum(means["random"]) / 2
    (line,) = [
        line for line in (arguments.out / "experiment.md").read_text().split("\n## ")[1].splitlines()
        if line.startswith("| longest |")
    ]  # fmt: skip
    _, _, loss, seeds, rows = [cell.strip() for cell in line.strip("|").split("|")][:5]
    assert float(loss) == pytest.approx(sum(means["longest"]) / 2, abs=6e-4)
    assert float(seeds.split()[0]) == pytest.approx(expected, abs=6e-4)
    assert float(rows.split()[0]) == pytest.approx(expected, abs=6e-4)
