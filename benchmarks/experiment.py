"""Does choosing rows help a model that is tuned on them? Arms at one budget, paired by seeds, tested on held-out rows.

    python benchmarks/experiment.py POOL TEST --out FOLDER [--budget N] [--seeds N] [--arms ARM ...]

POOL and TEST have columns of instructions and outputs. Rows that stand in the test, or are too near to one of its rows,
are not chosen. Every arm and seed is kept in the folder, and a training that was killed goes on from its checkpoint:
run the same command again. The folder's experiment.md has the tables, and differences.svg the picture.

The loss of held-out answers rewards answers of the test's length. So it is given per token, by rows and by lengths of
answers, next to the mean length of the answers that each arm trained on. It is no measure of quality.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.experiment_report import PICTURE, RANDOM, Cell, draw_differences, read_cell, read_losses, report
from selectllm import RunSettings, select
from selectllm.comparison.cells import VARIANTS, base_of
from selectllm.errors import UsageError
from selectllm.execution import no_progress
from selectllm.pool import Columns, fetch, parse
from selectllm.store.files import write_atomically
from selectllm.tuning.base import Loaded, load, open_base
from selectllm.tuning.encode import encode
from selectllm.tuning.examples import read_examples
from selectllm.tuning.inputs import encode_rows, read_inputs
from selectllm.tuning.score import RowLosses, measures, score
from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.tune import RESULT, tune_loaded

RATINGS: Final = "selectllm-ratings"

ARMS: Final = (RANDOM, "selectllm-tiers", RATINGS, "longest", "facility")
"""The reference, the method by either way to gather answers, and two rivals that ask no model."""

DECIDE: Final = (
    *("pool", "test", "budget", "test_rows", "pool_rows", "selector", "candidate_chars", "list_chars"),
    *("base", "epochs", "batch", "learning_rate", "max_tokens", "precision"),
)
"""The arguments that decide the numbers: a folder is of one set of them. Arms and seeds can be added."""

Row = Mapping[str, str]


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
    parser.add_argument(
        "--list-chars", type=int, default=120, help="of a row in lists, where rows are rated from lists"
    )
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
    base = Base(arguments.base)
    for kind in ("pool", "test"):
        draw(base, arguments, kind)
    arms, cells = list(dict.fromkeys((RANDOM, *arguments.arms))), list[Cell]()
    for seed in range(arguments.seeds):
        for arm in arms:
            folder = out / "cells" / f"{arm}-{seed}"
            if not (folder / RESULT).exists():
                write_atomically(folder / "train.jsonl", jsonl(choose(arm, seed, arguments)))
                base.train(tuning_settings(folder, seed, arguments))
            cells.append(read_cell(folder, arm, seed))
            print(f"seed {seed}, {arm}: {measures(cells[-1].losses)['per token']['mean']:.4f} per token", flush=True)
    untuned = read_losses(out / "cells" / f"{RANDOM}-0", "untuned")
    text = report(facts(arguments, len(untuned.ids)), cells, untuned)
    write_atomically(out / "experiment.md", text.encode())
    write_atomically(out / PICTURE, draw_differences(cells).encode())
    return text


def facts(arguments: argparse.Namespace, tested: int) -> list[str]:
    """What was run, in sentences for the report."""
    rows = len((arguments.out / "pool.jsonl").read_bytes().splitlines())
    return [
        f"{arguments.budget:,} rows for each arm, chosen from {rows:,} rows of {Path(arguments.pool).name}, and "
        f"{tested:,} held-out rows of {Path(arguments.test).name}. Both are drawn from rows of at most "
        f"{arguments.max_tokens} tokens, answers included. Rows near to one that is held out were not chosen.",
        f"{arguments.seeds} seeds: with each, all arms tune the same model in the same order of steps.",
        f"Selector: {arguments.selector}, which sees {arguments.candidate_chars} characters of each row. For {RATINGS} "
        f"it ranks lists, in which it sees {arguments.list_chars} of each.",
        f"Tuned: {arguments.base or 'the demo model'} by LoRA, {arguments.epochs} epoch(s), {arguments.batch} rows a "
        f"step, learning rate {arguments.learning_rate:g}, {arguments.precision}.",
    ]


def claim_folder(out: Path, arguments: argparse.Namespace) -> None:
    """Keep the arguments in the folder; raises UsageError where it has those of another experiment."""
    decide = {name: getattr(arguments, name) for name in DECIDE}
    path = out / "arguments.json"
    if not path.exists():
        write_atomically(path, json.dumps(decide, indent=1).encode())
    elif json.loads(path.read_text(encoding="utf-8")) != decide:
        raise UsageError(f"{out} is of an experiment with other arguments, see {path}: name another --out")


def draw(base: "Base", arguments: argparse.Namespace, kind: str) -> None:
    """Write the rows of the pool or of the test: at most so many by a fixed draw, in their file's order.

    They are rows with answers, the first of each id, that fit into `--max-tokens` as a whole. Otherwise an arm that
    prefers long rows would train on fewer of them, and on less of each.
    """
    location, count, path = (
        getattr(arguments, kind),
        getattr(arguments, f"{kind}_rows"),
        arguments.out / f"{kind}.jsonl",
    )
    if path.exists():
        return
    fitting = base.fitting(location, arguments.max_tokens)
    rows = [row for row in parse(fetch(location), Columns()).table.to_pylist() if row["id"] in fitting]
    rows = list({row["id"]: row for row in reversed(rows)}.values())[::-1]
    if not rows:
        raise UsageError(f"{location} has no row with an answer that fits into --max-tokens {arguments.max_tokens}")
    if 0 < count < len(rows):
        rows = [rows[place] for place in sorted(np.random.default_rng(0).choice(len(rows), count, replace=False))]
    write_atomically(path, jsonl(rows))


def jsonl(rows: Sequence[Row]) -> bytes:
    names = ("instruction", "input", "output")
    return "".join(json.dumps({name: row[name] or "" for name in names}) + "\n" for row in rows).encode()


def choose(arm: str, seed: int, arguments: argparse.Namespace) -> list[Row]:
    """The rows that an arm chooses with a seed, none of them near to a test row."""
    chosen = select(selection_settings(arm, seed, arguments)).table()
    pool = parse(fetch(str(arguments.out / "pool.jsonl")), Columns()).table
    rows = {row["id"]: row for row in pool.to_pylist()}
    return [rows[id] for id in chosen["id"].to_pylist()]


def selection_settings(arm: str, seed: int, arguments: argparse.Namespace) -> RunSettings:
    """The settings of an arm's run."""
    out: Path = arguments.out
    settings: dict[str, Any] = {"pool": str(out / "pool.jsonl"), "budget": arguments.budget, "seed": seed}
    settings |= {"strategy": base_of(arm), "selector": arguments.selector, "store": str(out / "store")}
    settings |= {"aim": {"away_from": [str(out / "test.jsonl")]}, "quality": {"no_validate": True}}
    ranking: dict[str, Any] = {"candidate_chars": arguments.candidate_chars}
    if arm == RATINGS:  # they come from lists, and the demo model is asked about single rows unless it is told to
        ranking = {"candidate_chars": arguments.list_chars, "mode": "listwise"}
    variant = dict(VARIANTS.get(arm, {}))
    settings |= {**variant, "ranking": {**ranking, **variant.get("ranking", {})}}
    return RunSettings.model_validate(settings)


def tuning_settings(folder: Path, seed: int, arguments: argparse.Namespace) -> TuningSettings:
    shared = ("base", "epochs", "batch", "learning_rate", "max_tokens", "precision")
    files = {"train": str(folder / "train.jsonl"), "test": str(arguments.out / "test.jsonl"), "out": str(folder)}
    given = {name: getattr(arguments, name) for name in shared}
    return TuningSettings.model_validate(files | given | {"seed": seed, "no_export": True})


class Base:
    """The base model, loaded once, and its losses of the test's rows, which all arms share."""

    def __init__(self, named: str | None) -> None:
        self._named = named
        self._losses: RowLosses | None = None

    @cached_property
    def loaded(self) -> Loaded:
        """The model in memory."""
        return load(open_base(self._named))

    def fitting(self, location: str, max_tokens: int) -> set[str]:
        """The ids of the rows with answers, of a file, that fit into so many tokens as a whole."""
        rows = encode(self.loaded, read_examples(location, Columns()).rows, max_tokens).rows
        return {row.id for row in rows if not row.is_cut}

    def train(self, settings: TuningSettings) -> None:
        """Tune a model on what an arm chose, and score it."""
        inputs = read_inputs(settings)
        rows = encode_rows(inputs, self.loaded)
        assert rows.test is not None
        self._losses = self._losses or score(self.loaded.model, rows.test.rows, no_progress)
        tune_loaded(inputs, (self.loaded, rows), self._losses, no_progress)


if __name__ == "__main__":
    main()
