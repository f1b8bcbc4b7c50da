"""Does choosing rows help a model that is tuned on them? Arms at one budget, paired by seeds, tested on held-out rows.

    python benchmarks/experiment.py POOL TEST --out FOLDER [--budget N] [--seeds N] [--arms ARM ...]

POOL and TEST have columns of instructions and outputs. Rows that stand in the test, or are too near to one of its rows,
are not chosen. Every arm and seed is kept in the folder, and a training that was killed goes on from its checkpoint:
run the same command again. The folder's experiment.md has the table.

The loss of held-out answers rewards answers of the test's length. So it is given per token, by rows and by lengths of
answers, next to the mean length of the answers that each arm trained on. It is no measure of quality.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selectllm import RunSettings, select
from selectllm.comparison.cells import VARIANTS, base_of
from selectllm.errors import UsageError
from selectllm.evaluation.bootstrap import paired_difference
from selectllm.execution import no_progress
from selectllm.pool import Columns, fetch, parse
from selectllm.store.files import write_atomically
from selectllm.tuning.base import Loaded, load
from selectllm.tuning.inputs import encode_rows, read_inputs
from selectllm.tuning.score import RowLosses, from_record, measures, score
from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.text import cell
from selectllm.tuning.tune import LOSSES, RESULT, tune_loaded

RANDOM: Final = "random"
ARMS: Final = (RANDOM, "selectllm-tiers", "selectllm-ratings", "longest", "facility")
"""The reference, the method by either way to gather answers, and two rivals that ask no model."""

DECIDE: Final = (
    *("pool", "test", "budget", "test_rows", "pool_rows", "selector", "candidate_chars"),
    *("base", "epochs", "batch", "learning_rate", "max_tokens", "precision"),
)
"""The arguments that decide the numbers: a folder is of one set of them. Arms and seeds can be added."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """An arm with a seed, as it was trained: the losses after it, and the rows that it was trained on."""

    arm: str
    seed: int
    losses: RowLosses
    answer_characters: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool")
    parser.add_argument("test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), help="strategies, or variants such as selectllm-tiers")
    parser.add_argument("--test-rows", type=int, default=200, help="drawn from the test, the same for all")
    parser.add_argument("--pool-rows", type=int, default=0, help="drawn from the pool; 0 takes all")
    parser.add_argument("--selector", default="embedded")
    parser.add_argument("--candidate-chars", type=int, default=240)
    parser.add_argument("--base", default=None)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    try:
        print(run(arguments))
    except UsageError as error:
        sys.exit(str(error))


def run(arguments: argparse.Namespace) -> str:
    """Run what is missing, and write the table; returns it."""
    out: Path = arguments.out
    claim_folder(out, arguments)
    draw(arguments.pool, arguments.pool_rows, out / "pool.jsonl")
    draw(arguments.test, arguments.test_rows, out / "test.jsonl")
    arms = list(dict.fromkeys((RANDOM, *arguments.arms)))
    cells, base = list[Cell](), Base(out / "test.jsonl")
    for seed in range(arguments.seeds):
        for arm in arms:
            folder = out / "cells" / f"{arm}-{seed}"
            if not (folder / RESULT).exists():
                write_atomically(folder / "train.jsonl", jsonl(choose(arm, seed, arguments)))
                base.train(tuning_settings(folder, seed, arguments))
            cells.append(read_cell(folder, arm, seed))
            print(f"seed {seed}, {arm}: {measures(cells[-1].losses)['per token']['mean']:.4f} per token", flush=True)
    text = report(arguments, arms, cells, read_losses(out / "cells" / f"{RANDOM}-0", "untuned"))
    write_atomically(out / "experiment.md", text.encode())
    return text


def claim_folder(out: Path, arguments: argparse.Namespace) -> None:
    """Keep the arguments in the folder; raises UsageError where it has those of another experiment."""
    decide = {name: getattr(arguments, name) for name in DECIDE}
    path = out / "arguments.json"
    if not path.exists():
        write_atomically(path, json.dumps(decide, indent=1).encode())
    elif json.loads(path.read_text(encoding="utf-8")) != decide:
        raise UsageError(f"{out} is of an experiment with other arguments, see {path}: name another --out")


def draw(location: str, count: int, path: Path) -> None:
    """Write rows with answers of a file, the first of each id, at most `count` by a fixed draw, in the file's order."""
    if path.exists():
        return
    rows = [row for row in parse(fetch(location), Columns()).table.to_pylist() if row["output"]]
    rows = list({row["id"]: row for row in reversed(rows)}.values())[::-1]
    if not rows:
        raise UsageError(f"{location} has no row with an answer: its answers must stand in a column such as output")
    if 0 < count < len(rows):
        rows = [rows[place] for place in sorted(np.random.default_rng(0).choice(len(rows), count, replace=False))]
    write_atomically(path, jsonl(rows))


def jsonl(rows: Sequence[Row]) -> bytes:
    names = ("instruction", "input", "output")
    return "".join(json.dumps({name: row[name] or "" for name in names}) + "\n" for row in rows).encode()


def choose(arm: str, seed: int, arguments: argparse.Namespace) -> list[Row]:
    """The rows that an arm chooses with a seed, none of them near to a test row."""
    out: Path = arguments.out
    settings: dict[str, Any] = {"pool": str(out / "pool.jsonl"), "budget": arguments.budget, "seed": seed}
    settings |= {"strategy": base_of(arm), "selector": arguments.selector, "store": str(out / "store")}
    settings |= {"aim": {"away_from": [str(out / "test.jsonl")]}, "quality": {"no_validate": True}}
    ranking = {"candidate_chars": arguments.candidate_chars}
    variant = dict(VARIANTS.get(arm, {}))
    settings |= {**variant, "ranking": {**ranking, **variant.get("ranking", {})}}
    chosen = select(RunSettings.model_validate(settings)).table()
    rows = {row["id"]: row for row in parse(fetch(str(out / "pool.jsonl")), Columns()).table.to_pylist()}
    return [rows[id] for id in chosen["id"].to_pylist()]


def tuning_settings(folder: Path, seed: int, arguments: argparse.Namespace) -> TuningSettings:
    shared = ("base", "epochs", "batch", "learning_rate", "max_tokens", "precision")
    files = {"train": str(folder / "train.jsonl"), "test": str(arguments.out / "test.jsonl"), "out": str(folder)}
    given = {name: getattr(arguments, name) for name in shared}
    return TuningSettings.model_validate(files | given | {"seed": seed, "no_export": True})


class Base:
    """The base model, loaded once, and its losses of the test's rows, which all arms share."""

    def __init__(self, test: Path) -> None:
        self._test = test
        self._loaded: Loaded | None = None
        self._losses: RowLosses | None = None

    def train(self, settings: TuningSettings) -> None:
        """Tune a model on what an arm chose, and score it."""
        inputs = read_inputs(settings)
        self._loaded = self._loaded or load(inputs.base)
        rows = encode_rows(inputs, self._loaded)
        assert rows.test is not None
        self._losses = self._losses or score(self._loaded.model, rows.test.rows, no_progress)
        tune_loaded(inputs, (self._loaded, rows), self._losses, no_progress)


def read_cell(folder: Path, arm: str, seed: int) -> Cell:
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    return Cell(arm, seed, read_losses(folder, "tuned"), mean(len(row["output"]) for row in rows))


def read_losses(folder: Path, model: str) -> RowLosses:
    rows = [json.loads(line) for line in (folder / LOSSES).read_text(encoding="utf-8").splitlines()]
    return from_record([row for row in rows if row["model"] == model])


def mean_losses(cells: Sequence[Cell]) -> RowLosses:
    """Each row's loss as its mean over seeds."""
    first = cells[0].losses
    return RowLosses(first.ids, np.mean([one.losses.sums for one in cells], axis=0), first.tokens, first.characters)


def report(arguments: argparse.Namespace, arms: Sequence[str], cells: Sequence[Cell], untuned: RowLosses) -> str:
    """The tables of an experiment, as Markdown."""
    by_arm = {arm: [one for one in cells if one.arm == arm] for arm in arms}
    lines = [
        "# Experiment",
        "",
        f"{arguments.budget} rows for each arm, {arguments.seeds} paired seeds, {len(untuned.ids)} held-out rows, "
        f"{arguments.epochs} epochs. Loss in nats; a difference below 0 is better than random. Intervals are of 95 %: "
        "over seeds by pairs, and over held-out rows of the losses' means over seeds.",
    ]
    for name, before in measures(untuned).items():
        lines += ["", f"## {name[0].upper()}{name[1:]}", "", f"{before['rows']} rows; untuned {cell(before)}.", ""]
        lines += ["| arm | answers trained on (characters) | loss | to random, over seeds | to random, over rows |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_line(arm, by_arm, name) for arm in arms]
    return "\n".join([*lines, ""])


def _line(arm: str, by_arm: Mapping[str, Sequence[Cell]], name: str) -> str:
    own, reference = by_arm[arm], by_arm[RANDOM]
    values, others = ([measures(one.losses)[name]["mean"] for one in of] for of in (own, reference))
    characters = mean(one.answer_characters for one in own)
    start = f"| {arm} | {characters:.0f} | {mean(values):.3f}"
    if arm == RANDOM:
        return f"{start} | | |"
    seeds = "one seed" if len(values) < 2 else cell(asdict(paired_difference(values, others)))
    return f"{start} | {seeds} | {cell(measures(mean_losses(own), mean_losses(reference))[name])} |"


if __name__ == "__main__":
    main()
