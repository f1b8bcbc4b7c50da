"""docs/benchmarks.md, and what benchmarks tell the program that writes it."""

import json
from pathlib import Path

import pytest

from benchmarks.results import Figure, parse_figures, print_figures
from benchmarks.run_all import BENCHMARKS, LEFT_OUT, MARK, PAGE, Outcome, row, section

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def test_every_benchmark_is_run_or_left_out_with_a_reason() -> None:
    programs = {file.stem for file in FOLDER.glob("*.py") if "\ndef main()" in file.read_text(encoding="utf-8")}
    assert programs - {"run_all"} == BENCHMARKS.keys() | LEFT_OUT.keys()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_that_is_run_tells_its_figures(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert "add_json(parser)" in text
    assert "print_figures(" in text


def test_figures_are_read_from_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [Figure("a run", "a bare loop", 1.04, at_most=1.05), Figure("a page", "", 2.6, "MB")]
    print("what people read")
    print_figures(figures, as_json=True)
    output = capsys.readouterr().out
    assert parse_figures(output) == figures
    print_figures(figures, as_json=False)
    assert capsys.readouterr().out == ""
    assert json.loads(output.splitlines()[-1])[0]["at_most"] == 1.05


@pytest.mark.parametrize(
    ("bars", "words"),
    [
        ({}, "none"),
        ({"at_most": 1.05}, "at most 1.05: **not reached**"),
        ({"at_most": 1.2}, "at most 1.2: reached"),
        ({"at_least": 1.05}, "at least 1.05: reached"),
        ({"at_least": 1, "at_most": 1.05}, "at most 1.05 and at least 1: **not reached**"),
    ],
)
def test_a_bar_is_reached_or_not(bars: dict[str, float], words: str) -> None:
    assert row(Figure("a run", "a bare loop", 1.1, **bars)) == f"| a run | a bare loop | 1.1 times | {words} |"


def test_a_benchmark_that_failed_says_so() -> None:
    assert section("x", Outcome("python x.py", 1.0, error="OSError: gone")).endswith("It failed: `OSError: gone`")


def test_the_page_has_its_mark_once() -> None:
    assert PAGE.read_text(encoding="utf-8").count(MARK) == 1
