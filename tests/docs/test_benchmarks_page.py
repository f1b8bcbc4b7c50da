"""docs/benchmarks.md, and what benchmarks tell the program that writes it."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import run_all
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


PROGRAMS = {
    "good": 'print(\'seen\'); print(\'[{"what": "a run", "against": "", "value": 2.0}]\')',
    "silent": "pass",
    "talking": "print('no figures')",
    "odd": "print('[{\"is\": 1}]')",
    "failing": "import sys; sys.exit('no such luck')",
}

HANGING = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


def test_a_benchmark_that_fails_is_named_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    for name, program in PROGRAMS.items():
        (tmp_path / "benchmarks" / f"{name}.py").write_text(program)
    page = tmp_path / "page.md"
    page.write_text(f"By hand.\n\n{MARK}\n\nOld.\n")
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.setattr(run_all, "PAGE", page)
    monkeypatch.setattr(run_all, "BENCHMARKS", dict.fromkeys((*PROGRAMS, "other"), ()))
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--only", *reversed(PROGRAMS)])
    assert run_all.main() == 1
    text = page.read_text()
    assert text.startswith(f"By hand.\n\n{MARK}\n\n")
    assert "Old." not in text
    assert "**Failed:** failing, odd, talking, silent." in text
    assert "It failed: `no such luck`" in text
    assert text.count("It failed: `its last line holds no figures`") == 3
    assert "| a run | — | 2 times | none |" in text
    assert "- `benchmarks/other.py`: was left out this time." in text
    assert "seen" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--only", "good"])
    assert run_all.main() == 0
    assert "Failed" not in page.read_text()


def test_a_benchmark_that_hangs_is_stopped_with_its_own_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "hanging.py").write_text(HANGING)
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    outcome = run_all.run("hanging", (), limit=2)
    assert outcome.error == "it was stopped after 2 s, the limit of each benchmark"
    assert outcome.seconds < 300


def test_the_page_has_its_mark_once() -> None:
    assert PAGE.read_text(encoding="utf-8").count(MARK) == 1
