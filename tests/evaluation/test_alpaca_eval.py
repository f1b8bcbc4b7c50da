"""AlpacaEval's scores: the published leaderboard, synthetic annotations, files of its formats, and damaged ones."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectllm.cli.main import main
from selectllm.errors import PoolError, UsageError
from selectllm.evaluation import row_bootstrap
from selectllm.evaluation.alpaca_eval.annotations import Annotations, read_annotations
from selectllm.evaluation.alpaca_eval.controls import Regularizer, read_difficulty, read_regularizer
from selectllm.evaluation.alpaca_eval.length_control import LengthControl, read_control
from selectllm.evaluation.alpaca_eval.scores import score


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_bootstrap, "RESAMPLES", 99)


@pytest.fixture
def alpaca_data(shared: Path) -> Path:
    folder = shared / "alpaca_eval"
    if not folder.is_dir():
        pytest.skip("the annotations of AlpacaEval are not beside this checkout")
    return folder


def leaderboard(folder: Path) -> dict[str, dict[str, float]]:
    with (folder / "leaderboard.csv").open(newline="") as file:
        return {row.pop(""): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}


def test_the_leaderboard_is_reproduced(alpaca_data: Path) -> None:
    published, errors = leaderboard(alpaca_data), []
    for model, expected in published.items():
        found = read_annotations(str(alpaca_data / "annotations.parquet"), model)
        files = (str(alpaca_data / name) for name in ("difficulty.csv", "gamed_baseline.csv"))
        control = read_control(found, *files)
        preferences = found.preferences
        assert 100 * preferences.mean() == pytest.approx(expected["win_rate"], abs=1e-9)
        assert 100 * preferences.std(ddof=1) / math.sqrt(805) == pytest.approx(expected["standard_error"], abs=1e-9)
        errors.append(abs(control.win_rate(np.arange(805)) - expected["length_controlled_winrate"]))
    assert len(errors) == 12
    assert np.mean(errors) < 0.1
    assert max(errors) < 0.2


def test_the_command_scores_a_published_model(alpaca_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, model = str(alpaca_data / "annotations.parquet"), "gemma-7b-it"
    options = ["--difficulty", str(alpaca_data / "difficulty.csv")]
    options += ["--regularizer", str(alpaca_data / "gamed_baseline.csv")]
    assert main(["evaluate", "alpaca-eval", "--annotations", file, "--model", model, *options, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    expected = leaderboard(alpaca_data)[model]
    assert (record["n"], record["unjudged"], record["notes"]) == (805, 0, [])
    assert record["win_rate"] == pytest.approx(expected["win_rate"], abs=1e-9)
    assert record["lc_win_rate"] == pytest.approx(expected["length_controlled_winrate"], abs=0.2)
    # The published standard error of 0.55 would give an interval of 2.2 points.
    assert record["lc_high"] - record["lc_low"] > 3.5


def made(count: int = 400, *, slope: float = 1.5, own: float = -0.5, hard: float = 0.0) -> tuple[Annotations, Any]:
    """Annotations of a model whose win rate at equal length is known, and the questions' difficulty."""
    drawn = np.random.default_rng(3)
    lengths = drawn.integers(200, 3000, size=(2, count)).astype(float)
    deltas, difficulty = lengths[0] - lengths[1], drawn.normal(size=count)
    logits = slope * np.tanh(deltas / deltas.std(ddof=1)) + own + hard * difficulty
    return Annotations("m", "b", "j", 1 / (1 + np.exp(-logits)), lengths[0], lengths[1]), difficulty


def control_of(annotations: Annotations, *more: Any) -> LengthControl:
    return LengthControl(annotations.baseline_lengths - annotations.model_lengths, annotations.preferences, *more)


@pytest.mark.parametrize("own", [-2.0, -0.5, 0.0, 1.0])
def test_the_win_rate_at_equal_length_is_found(own: float) -> None:
    annotations, _ = made(own=own)
    expected = 100 / (1 + math.exp(-own))
    assert control_of(annotations).win_rate(np.arange(400)) == pytest.approx(expected, abs=1e-4)


def test_the_difficulty_of_questions_is_taken_into_account() -> None:
    annotations, difficulty = made(own=-1.0, hard=2.0)
    expected = 100 * np.mean(1 / (1 + np.exp(1.0 - 2.0 * difficulty)))
    rows = np.arange(400)
    assert control_of(annotations, difficulty).win_rate(rows) == pytest.approx(expected, abs=1e-4)
    assert abs(control_of(annotations).win_rate(rows) - expected) > 0.1


def test_the_regularizer_pulls_the_slope_and_with_it_the_win_rate() -> None:
    annotations, _ = made(40, slope=3.0)
    drawn = np.random.default_rng(1).normal(size=2000)
    flat = Regularizer(drawn, np.full(2000, 0.5), None)
    free, held = (control_of(annotations, None, rule).win_rate(np.arange(40)) for rule in (None, flat))
    assert abs(free - held) > 0.5
    agreeing = Regularizer(drawn, 1 / (1 + np.exp(-3.0 * np.tanh(drawn))), None)
    assert control_of(annotations, None, agreeing).win_rate(np.arange(40)) == pytest.approx(free, abs=1e-3)


@pytest.mark.parametrize("preference", [0.0, 1.0])
def test_one_sided_preferences_end_at_the_edge(preference: float) -> None:
    annotations, _ = made(30)
    always = Annotations("m", "b", "j", np.full(30, preference), *(annotations.baseline_lengths, np.ones(30)))
    found = score(always, control_of(always))
    assert (found.win_rate, found.standard_error) == (100 * preference, 0.0)
    assert found.length_controlled is not None
    assert found.length_controlled.value == pytest.approx(100 * preference, abs=0.01)


def test_annotations_without_a_preference_count_in_no_win_rate() -> None:
    annotations, _ = made(60)
    preferences = annotations.preferences.copy()
    preferences[::3] = np.nan
    holed = Annotations("m", "b", "j", preferences, annotations.baseline_lengths, annotations.model_lengths)
    found = score(holed, control_of(holed))
    assert (found.n, found.unjudged) == (40, 20)
    assert found.win_rate == pytest.approx(100 * np.nanmean(preferences))
    assert any("20 annotations have no preference" in note for note in found.notes)


def test_the_interval_is_that_of_refits_and_repeats_itself() -> None:
    annotations, _ = made(100)
    noisy = (np.random.default_rng(5).random(100) < annotations.preferences).astype(float)
    judged = Annotations("m", "b", "j", noisy, annotations.baseline_lengths, annotations.model_lengths)
    control = control_of(judged)
    found = score(judged, control, seed=2).length_controlled
    assert found is not None
    assert found == score(judged, control, seed=2).length_controlled
    assert found != score(judged, control, seed=3).length_controlled
    draws = np.random.default_rng(2)
    values = [control.win_rate(draws.integers(100, size=100)) for _ in range(99)]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


@pytest.mark.parametrize(
    ("count", "words"), [(5, "5 annotations with a preference are too few"), (20, "the same length")]
)
def test_what_cannot_be_fitted_has_a_reason(count: int, words: str) -> None:
    annotations, _ = made(count)
    same = Annotations("m", "b", "j", annotations.preferences, np.full(count, 9.0), np.full(count, 7.0))
    found = score(same, control_of(same))
    assert found.length_controlled is None
    assert found.record()["lc_win_rate"] is None
    assert words in found.notes[0]


def annotation(number: int, preference: Any, **more: Any) -> dict[str, Any]:
    """One annotation, with the fields that AlpacaEval writes."""
    return {
        "instruction": f"Question {number}?",
        "output_1": "The baseline's answer, " + "long " * number,
        "generator_1": "gpt4_1106_preview",
        "dataset": "helpful_base",
        "output_2": "\u00e9" * (7 * number + 3),
        "generator_2": "mine",
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": preference,
        "time_per_example": 0.16,
        "price_per_example": 0.0077,
        "raw_completion": {"finish_reason": "length", "logprobs": {"content": [{"token": "M", "bytes": [77]}]}},
    } | more


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


def test_annotations_of_its_format_are_read(tmp_path: Path) -> None:
    rows = [annotation(n, p) for n, p in enumerate([1.0000000918, 2, 1.75, 1.5, 0, None])]
    found = read_annotations(write(tmp_path / "annotations.json", rows))
    assert (found.model, found.baseline) == ("mine", "gpt4_1106_preview")
    assert found.annotator == "weighted_alpaca_eval_gpt4_turbo"
    assert found.preferences[:5] == pytest.approx([9.18e-8, 1, 0.75, 0.5, 0.5])
    assert np.isnan(found.preferences[5])
    assert found.model_lengths.tolist() == [3, 10, 17, 24, 31, 38]  # characters, not bytes
    assert found.baseline_lengths.tolist() == [23 + 5 * n for n in range(6)]
    assert found.index is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"instruction": "Hi"}], "has no column 'preference'"),
        ([annotation(0, 1), annotation(1, 2.5)], "annotation 2 of .* has the preference 2.5: it should be from 1 to 2"),
        ([annotation(0, 0.4)], "it should be from 1 to 2, or 0 for a draw"),
        ([annotation(0, "second")], "annotation 1 of .* has 'second' as 'preference', where a finite number"),
        ([annotation(0, True)], "has True as 'preference'"),
        ([annotation(0, 1, output_2=None)], "has null as 'output_2', where a text is needed"),
        ([annotation(0, 1), annotation(1, 1, generator_2="yours")], "several values for the model .*--model"),
        ([annotation(0, 1), annotation(1, 1, generator_1="b")], "several values for the baseline .*divide the file"),
        ([annotation(0, 1, index=4), annotation(1, 1, index=4)], "each needs its own"),
        ([{"preference": 0.5, "len_baseline": 4, "len_model": -1}], "has -1 as 'len_model'"),
        ([{"preference": 1.5, "len_baseline": 4, "len_model": 1}], "it should be from 0 to 1"),
        (["no object"], "row 1 of .* is not a JSON object"),
    ],
)
def test_annotations_that_cannot_be_used_are_refused(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_annotations(write(tmp_path / "annotations.json", rows))


def test_one_model_of_several_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [annotation(0, 1), annotation(1, 2, generator_2="yours")])
    assert read_annotations(file, "yours").preferences.tolist() == [1.0]
    with pytest.raises(UsageError, match=r"no annotations of the model 'his'\. It is about: mine, yours"):
        read_annotations(file, "his")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="does not exist"):
        read_annotations(str(tmp_path / "none.json"))


def test_difficulty_is_joined_by_index(tmp_path: Path) -> None:
    table = tmp_path / "difficulty.csv"
    table.write_text(",instruction_difficulty\n2,0.5\n0,-1.5\n1,3e-9\n")  # as pandas writes an index
    rows = [annotation(n, 1, index=n) for n in (1, 2)]
    by_index = read_annotations(write(tmp_path / "indexed.json", rows))
    assert read_difficulty(str(table), by_index).tolist() == [3e-9, 0.5]
    by_place = read_annotations(write(tmp_path / "all.json", [annotation(n, 1) for n in range(3)]))
    assert read_difficulty(str(table), by_place).tolist() == [-1.5, 3e-9, 0.5]
    some = read_annotations(write(tmp_path / "some.json", [annotation(n, 1) for n in range(2)]))
    with pytest.raises(UsageError, match="is about 3 questions, and there are 2 annotations"):
        read_difficulty(str(table), some)
    foreign = read_annotations(write(tmp_path / "foreign.json", [annotation(0, 1, index=7)]))
    with pytest.raises(UsageError, match="no difficulty of the question with index 7"):
        read_difficulty(str(table), foreign)
    for text, words in (
        ("index,hard\n0,1\n", "has no column 'difficulty'"),
        ("index,difficulty\n0,\n", "has no number as 'difficulty'"),
        ("index,difficulty\n0,1\n0,2\n", "names the question 0 again"),
    ):
        table.write_text(text)
        with pytest.raises(UsageError, match=words):
            read_difficulty(str(table), by_place)


def test_the_regularizer_is_read(tmp_path: Path) -> None:
    table = tmp_path / "gamed.csv"
    table.write_text("std_delta_len,instruction_difficulty,preference\n-1.5,0.25,0.75\n2,1,\n1,0,1\n")
    found = read_regularizer(str(table), with_difficulty=True)
    assert found.difficulty is not None
    assert [found.deltas.tolist(), found.preferences.tolist(), found.difficulty.tolist()] == [
        [-1.5, 1.0], [0.75, 1.0], [0.25, 0.0],
    ]  # fmt: skip
    assert read_regularizer(str(table), with_difficulty=False).difficulty is None
    table.write_text("std_delta_len,preference\n1,0.5\n")
    with pytest.raises(UsageError, match="has no column 'difficulty'"):
        read_regularizer(str(table), with_difficulty=True)
    table.write_text("std_delta_len,preference\n1,1.5\n")
    with pytest.raises(UsageError, match="it should be from 0 to 1"):
        read_regularizer(str(table), with_difficulty=False)


def test_the_command_says_what_the_fit_went_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [annotation(n, 1 + n % 2, generator_2="mine\x1b[2J") for n in range(12)]
    file = write(tmp_path / "annotations.json", rows)
    assert main(["evaluate", "alpaca-eval", "--annotations", file]) == 0
    shown = capsys.readouterr().out
    assert "win rate                     50.00 %   standard error 15.08" in shown
    assert "note: fitted without the difficulty of questions (--difficulty)" in shown
    assert "note: fitted without the regulariser's rows (--regularizer)" in shown
    assert "\x1b" not in shown
    assert main(["evaluate", "alpaca-eval", "--annotations", str(tmp_path / "none.json")]) == 2
    assert "does not exist" in capsys.readouterr().err
