"""Overlaps in words: rows of tables, and what must be said of them."""

from collections.abc import Mapping
from typing import Any, Final

NAMES: Final = {"rouge_l": "Rouge-L", "cosine": "cosine"}
"""What a table calls the measures."""

SEEDS_SHOWN: Final = 5

Record = Mapping[str, Any]


def estimate_rows(record: Record) -> list[list[str]]:
    """A row for each model and measure: mean, interval, how many were scored and are missing, the seeds' means."""
    return [
        [
            row["model"],
            NAMES[row["measure"]],
            _number(row["mean"]),
            _interval(row["interval"]),
            f"{row['scored']:,}",
            f"{row['missing']:,}",
            " ".join(_number(mean) for mean in list(row["by_seed"].values())[:SEEDS_SHOWN])
            + (" …" if len(row["by_seed"]) > SEEDS_SHOWN else ""),
        ]
        for row in record["estimates"]
    ]


def difference_rows(record: Record) -> list[list[str]]:
    """A row for each pair of models and measure: the mean difference, and its intervals."""
    return [
        [
            f"{row['first']} - {row['second']}",
            NAMES[row["measure"]],
            _number(row["over_questions"] and row["over_questions"]["mean"], sign=True),
            _interval(row["over_questions"], sign=True),
            _interval(row["over_seeds"], sign=True),
        ]
        for row in record["differences"]
    ]


def notes(record: Record) -> list[str]:
    """What has to be known to read the numbers."""
    found = ["Likeness to one reference, not quality. Intervals: 95 %, over questions. Another tuning is another seed."]
    without = max((row["without_reference"] for row in record["sources"]), default=0)
    missing = sum(row["missing"] for row in record["sources"])
    if missing:
        found.append(f"{missing:,} answers are missing: they are not scored. Differences are over shared questions.")
    if without:
        found.append(f"{without:,} questions have no reference: nothing is compared with them.")
    if longer := sum(row["longer"] for row in record["sources"]):
        found.append(f"{longer:,} pairs have a text of more than 1,024 words: Rouge-L compares the first 1,024.")
    return found


def _number(value: float | None, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.4f}"


def _interval(interval: Mapping[str, float] | None, *, sign: bool = False) -> str:
    if interval is None:
        return "-"
    return f"{_number(interval['low'], sign=sign)} to {_number(interval['high'], sign=sign)}"
