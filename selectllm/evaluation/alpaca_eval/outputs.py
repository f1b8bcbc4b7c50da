"""A model's answers in AlpacaEval's format, paired with a baseline's, and what a judge makes of them."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from selectllm.errors import UsageError
from selectllm.evaluation.alpaca_eval.annotations import Annotations, Numbers
from selectllm.evaluation.alpaca_eval.files import check_columns, read_rows, text_of
from selectllm.evaluation.judging.pairs import Pair
from selectllm.pool.formats import shown_name
from selectllm.text import join_names

COLUMNS: Final = ("instruction", "output")


@dataclass(frozen=True)
class Contest:
    """Two models' answers to the same instructions: `pairs`, and how many answers of each had no partner."""

    model: str
    baseline: str
    pairs: tuple[Pair, ...]
    model_alone: int
    baseline_alone: int

    def annotations(self, preferences: Numbers, annotator: str) -> Annotations:
        """A judge's preferences (M,) for the model, as annotations."""
        return Annotations(
            self.model,
            self.baseline,
            annotator,
            preferences,
            np.array([float(len(pair.baseline)) for pair in self.pairs]),
            np.array([float(len(pair.model)) for pair in self.pairs]),
            np.array([float(pair.index or 0) for pair in self.pairs]),
        )

    def file(self, preferences: Numbers, annotator: str) -> bytes:
        """The same as AlpacaEval's annotations.json: preferences from 1 to 2, null where there is none."""
        rows = [
            {
                "instruction": pair.instruction,
                "output_1": pair.baseline,
                "generator_1": self.baseline,
                "dataset": pair.dataset,
                "output_2": pair.model,
                "generator_2": self.model,
                "annotator": annotator,
                "preference": None if np.isnan(preference) else 1 + float(preference),
                "index": pair.index,
            }
            for pair, preference in zip(self.pairs, preferences, strict=True)
        ]
        return json.dumps(rows, indent=2).encode() + b"\n"


def read_contest(model: str, baseline: str) -> Contest:
    """The answers of two files, paired by instruction, in the baseline's order; raises PoolError, UsageError.

    Each file has `instruction`, `output` and, where it says so, the `generator` and the `dataset`. An instruction that
    a file has several times is paired in order.
    """
    names = shown_name(model), shown_name(baseline)
    of_model, of_baseline = _outputs(model), _outputs(baseline)
    answers = {key: output for key, _, output in _keyed(of_model, names[0])}
    pairs: list[Pair] = []
    for place, (key, row, output) in enumerate(_keyed(of_baseline, names[1])):
        if key in answers:
            dataset = row.get("dataset")
            dataset = dataset if isinstance(dataset, str) else None
            pairs.append(Pair(len(pairs) + 1, key[0], output, answers[key], place, dataset))
    if not pairs:
        raise UsageError(f"{names[0]} and {names[1]} have no instruction in common: name two files about the same ones")
    alone = len(of_model) - len(pairs), len(of_baseline) - len(pairs)
    return Contest(_generator(of_model, names[0]), _generator(of_baseline, names[1]), tuple(pairs), *alone)


def _outputs(location: str) -> list[dict[str, Any]]:
    rows = read_rows(location)
    check_columns(rows, COLUMNS, shown_name(location))
    return rows


def _keyed(rows: Sequence[dict[str, Any]], name: str) -> Iterator[tuple[tuple[str, int], dict[str, Any], str]]:
    """Each row and its answer by its instruction, and by how often that has stood in the file before."""
    before: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        instruction, output = (text_of(row, column, f"row {number} of {name}") for column in COLUMNS)
        yield (instruction, before[instruction]), row, output
        before[instruction] += 1


def _generator(rows: Sequence[dict[str, Any]], name: str) -> str:
    found = sorted({str(row["generator"]) for row in rows if row.get("generator") is not None})
    if len(found) > 1:
        raise UsageError(f"{name} holds answers of several models ({join_names(found)}): divide the file")
    return found[0] if found else name
