"""The loss of held-out answers, in nats, and its mean in the ways that decide which model looks better.

Long answers weigh more per token than by rows, and a model that was tuned on answers of the test's length gains by that
alone. So all of these are always given, with intervals by a percentile bootstrap over rows (Efron, 1979).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.cancellation import raise_if_cancelled
from selectllm.errors import RunError
from selectllm.execution import Progress
from selectllm.tuning.encode import IGNORED, Encoded, collate

BATCH_TOKENS: Final = 1024
"""Tokens of a batch, blanks among them: logits of a whole vocabulary take memory for each."""

RESAMPLES: Final = 2_000
LENGTHS: Final = ((0, 80), (80, 350), (350, None))
"""Characters of answers, from and below."""

_FIELDS: Final = ("loss", "tokens", "characters")

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RowLosses:
    """Of each row, in the file's order: the sum (M,) of its answer tokens' losses, how many these are, characters."""

    ids: tuple[str, ...]
    sums: Numbers
    tokens: Numbers
    characters: Numbers


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; None without at least two rows."""

    mean: float
    low: float | None
    high: float | None
    rows: int


def score(model: Any, rows: Sequence[Encoded], on_progress: Progress, step: str = "scoring") -> RowLosses:
    """Read rows with a model; raises RunError where a loss is no number, Stopped in a run that is cancelled."""
    import torch
    from torch.nn.functional import cross_entropy

    model.eval()
    sums, done = np.zeros(len(rows)), 0
    for places in _batches(rows):
        raise_if_cancelled()
        on_progress(step, done, len(rows))
        tensors = collate([rows[place] for place in places])
        labels = tensors.pop("labels")[:, 1:]
        with torch.inference_mode():
            logits = model(**tensors).logits[:, :-1].transpose(1, 2)
            losses = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
        sums[places] = losses.sum(1).double().numpy()
        done += len(places)
    on_progress(step, len(rows), len(rows))
    if not np.isfinite(sums).all():
        raise RunError("the loss of a held-out row is no number. Lower --learning-rate, and name a new --out")
    tokens, characters = ([float(len(row.answer)) for row in rows], [float(row.characters) for row in rows])
    return RowLosses(tuple(row.id for row in rows), sums, np.array(tokens), np.array(characters))


def _batches(rows: Sequence[Encoded]) -> list[list[int]]:
    """Places of rows of about the same length."""
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    batches, start = [], 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // len(rows[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches


def measures(losses: RowLosses, before: RowLosses | None = None) -> dict[str, dict[str, Any]]:
    """Each measure as an Estimate; with `before`, of the difference to it: below 0 is better than before."""
    zeros = np.zeros_like(losses.sums)
    sums = losses.sums - (before.sums if before else zeros)
    found = {"per token": _estimate(sums, losses.tokens)}
    means, ones = sums / losses.tokens, np.ones_like(sums)
    found["mean of rows"] = _estimate(means, ones)
    for low, high in LENGTHS:
        inside = (losses.characters >= low) & (losses.characters < (high or np.inf))
        name = f"answers of {low} to {high - 1} characters" if high else f"answers of {low} characters or more"
        if inside.any():
            found[name] = _estimate(means[inside], ones[inside])
    return {name: asdict(estimate) for name, estimate in found.items()}


def _estimate(sums: Numbers, weights: Numbers) -> Estimate:
    """The ratio of two sums over rows, with its interval."""
    mean, rows = float(sums.sum() / weights.sum()), len(sums)
    if rows < 2:
        return Estimate(mean, None, None, rows)
    drawn = np.random.default_rng(0).integers(rows, size=(RESAMPLES, rows))
    low, high = np.percentile(sums[drawn].sum(1) / weights[drawn].sum(1), (2.5, 97.5))
    return Estimate(mean, float(low), float(high), rows)


def from_record(rows: Sequence[Mapping[str, Any]]) -> RowLosses:
    """The losses that `as_record` wrote down."""
    sums, tokens, characters = (np.array([float(row[name]) for row in rows]) for name in _FIELDS)
    return RowLosses(tuple(row["id"] for row in rows), sums, tokens, characters)


def as_record(losses: RowLosses) -> list[Mapping[str, Any]]:
    """The rows of a file of losses."""
    cells = zip(losses.ids, losses.sums, losses.tokens, losses.characters, strict=True)
    return [
        {"id": id, "loss": round(float(sum_), 6), "tokens": int(tokens), "characters": int(characters)}
        for id, sum_, tokens, characters in cells
    ]
