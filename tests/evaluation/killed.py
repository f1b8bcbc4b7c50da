"""Commands of `selectllm evaluate` in processes of their own, which are killed and run again."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from selectllm.testing.faulty_ollama import FaultyOllama
from tests.campaign import CONCURRENCY, Ended, Running, Scene, Undisturbed

DELAY: Final = 0.02
QUESTIONS: Final = 20
PASSING: Final = frozenset(
    ("cached", "asked", "paid_prompt_tokens", "paid_output_tokens", "cost", "artifact", "out", "annotations")
)
"""What a record says of one run, or of where its files are."""

ASKED: Final = {
    "answers": 2 * QUESTIONS,  # two seeds
    "overlap": QUESTIONS,
    "mt-bench": 4 * QUESTIONS,  # two turns, and their judgments
    "mt-bench-pairwise": 6 * QUESTIONS,  # each judgment in both orders
    "alpaca-eval": 2 * QUESTIONS + 1,  # both orders, and the trial
    "judge-agreement": QUESTIONS + 1,
}
"""The commands, and how many questions each asks."""


class Evaluation(Scene):
    """A command, its files, a store and an output folder."""

    def __init__(self, folder: Path, server: FaultyOllama, name: str) -> None:
        super().__init__(folder, server)
        self.command = ("evaluate", name.removesuffix("-pairwise"))
        self._own = OPTIONS[name](folder, self.out)

    def outputs(self) -> dict[str, bytes]:
        """The files that are written whole, by their paths in the output folder."""
        found = (path for path in self.out.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
        return {str(path.relative_to(self.out)): path.read_bytes() for path in found}

    def selection(self) -> bytes:
        """All that the last run has given: its record without what is passing, the written files, the artifacts."""
        record = json.loads((self.folder / f"stderr-{self._runs}-out").read_text())
        artifacts = {path.stem: path.read_bytes() for path in self.store.glob("v1/artifacts/*/[!.]*.parquet")}
        files = {**self.outputs(), **artifacts}
        return repr((_lasting(record), sorted(files.items()))).encode()

    def _arguments(self) -> list[str]:
        places = ("--host", self.server.host, "--store", str(self.store), "--json")
        return [*self._own, "--concurrency", str(CONCURRENCY), *places]


@cache
def undisturbed_evaluation(name: str) -> tuple[Undisturbed, Mapping[str, bytes]]:
    """What an undisturbed run gives, and the files that it writes; once for each command."""
    with TemporaryDirectory() as folder, FaultyOllama(delay=DELAY, parallel=CONCURRENCY) as server:
        scene = Evaluation(Path(folder), server, name)
        ended = scene.run()
        assert (ended.code, ended.stderr, scene.faults()) == (0, "", []), (ended, scene.faults())
        assert len(ended.questions) == len(set(ended.questions)) == len(scene.kept()) == ASKED[name]
        return Undisturbed(scene.selection(), len(ended.questions), 0), scene.outputs()


def kill_after(scene: Evaluation, asked: int) -> Ended:
    """Kill a run as soon as the server was asked so often."""
    run: Running = scene.begin()
    scene.wait_for(lambda server: len(server.asked) >= asked, run)
    run.signal(9)
    return run.end()


def _lasting(value: Any) -> Any:
    """A record without what is passing, at any depth."""
    if isinstance(value, dict):
        return {name: _lasting(one) for name, one in value.items() if name not in PASSING}
    return [_lasting(one) for one in value] if isinstance(value, list) else value


def _write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def _ask(number: int) -> str:
    return f"Question {number}: which river is it?"


def _questions(folder: Path) -> str:
    rows = [{"instruction": _ask(n), "output": f"this is answer {n} of some words"} for n in range(QUESTIONS)]
    return _write(folder / "questions.jsonl", rows)


def _outputs(folder: Path, name: str) -> str:
    rows = [{"instruction": _ask(n), "output": f"{name} " * (n % 5 + 1), "generator": name} for n in range(QUESTIONS)]
    return _write(folder / f"{name}.jsonl", rows)


def _answers(folder: Path, out: Path) -> list[str]:
    return [_questions(folder), "--selector", "ollama:m", "--seeds", "2", "--out", str(out / "answers.jsonl")]


def _overlap(folder: Path, out: Path) -> list[str]:
    models = ("--model", "asked=ollama:m", "--model", f"file={_outputs(folder, 'file')}")
    return [_questions(folder), *models, "--out", str(out / "overlap.json")]


def _mt_bench(folder: Path, out: Path) -> list[str]:
    turns = [[_ask(n), f"And question {n} once more?"] for n in range(QUESTIONS)]
    rows = [{"question_id": n, "category": "writing", "turns": own} for n, own in enumerate(turns, 1)]
    models = ("--model", "asked=ollama:m", "--judge", "ollama:m")
    return [_write(folder / "bench.jsonl", rows), *models, "--out", str(out)]


def _pairwise(folder: Path, out: Path) -> list[str]:
    choices = [[{"index": 0, "turns": [f"first {n}", f"second {n}"]}] for n in range(QUESTIONS)]
    rows = [{"question_id": n, "model_id": "file", "choices": own} for n, own in enumerate(choices, 1)]
    return [*_mt_bench(folder, out), "--judging", "pairwise", "--model", f"file={_write(folder / 'file.jsonl', rows)}"]


def _alpaca_eval(folder: Path, out: Path) -> list[str]:
    files = ("--outputs", _outputs(folder, "mine"), "--baseline", _outputs(folder, "theirs"))
    return [*files, "--selector", "ollama:m", "--both-orders", "--out", str(out / "annotations.json")]


def _agreement(folder: Path, out: Path) -> list[str]:
    texts = [{"output_1": f"bad {n}", "output_2": f"good {n}", "preference": 1 + n % 2} for n in range(QUESTIONS)]
    given = _write(
        folder / "given.jsonl",
        [{"instruction": _ask(n), **own} for n, own in enumerate(texts)],
    )
    return ["--given", given, "--selector", "ollama:m", "--preference", "auto"]


OPTIONS: Final[Mapping[str, Callable[[Path, Path], list[str]]]] = {
    "answers": _answers,
    "overlap": _overlap,
    "mt-bench": _mt_bench,
    "mt-bench-pairwise": _pairwise,
    "alpaca-eval": _alpaca_eval,
    "judge-agreement": _agreement,
}
