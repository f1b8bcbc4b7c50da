"""The sheet of an overlap: models' answers beside references, and beside each other."""

from collections.abc import Mapping
from typing import Any

from selectllm.evaluation.answers.text import NAMES, difference_rows, estimate_rows, notes
from selectllm.evaluation.page.sheet import Mark, Picture, Sheet, Table

COUNTS = ("answered", "missing", "cut", "foreign", "unusable", "longer")


def overlap_sheet(record: Mapping[str, Any]) -> Sheet:
    """What an overlap's record says."""
    estimates, pairs = record["estimates"], record["differences"]
    means = [
        _mark(NAMES[row["measure"]], row["model"], row["interval"] or {"mean": row["mean"]})
        for row in estimates
        if row["mean"] is not None
    ]
    differences = [
        _mark(NAMES[row["measure"]], f"{row['first']} − {row['second']}", row["over_questions"])
        for row in pairs
        if row["over_questions"] is not None
    ]
    tables = [
        Table(
            "Likeness to the references",
            ["model", "measure", "mean", "95 % interval", "scored", "missing", "by seed"],
            estimate_rows(record),
            "The mean over questions, from 0 to 1. Each question has one value, its mean over seeds.",
            names=2,
        ),
        Table(
            "Differences of models",
            ["difference", "measure", "mean", "over questions", "over seeds"],
            difference_rows(record),
            "Over the questions that both models have an answer to. An interval that leaves out 0 is a difference.",
            names=2,
        ),
        Table(
            "Answers",
            ["model", "from", *("cut off" if name == "cut" else name for name in COUNTS)],
            [
                [one["name"], one["selector"] or ", ".join(one["files"]), *(f"{one.get(name, 0):,}" for name in COUNTS)]
                for one in record["sources"]
            ],
            "Missing answers were blank, refused or never came. Foreign ones are to other questions.",
            names=2,
        ),
    ]
    return Sheet(
        "Answers beside references",
        {
            "Questions": f"{record['questions']:,}",
            "Unreadable rows": f"{record['left_out']:,}",
            "Repeats, asked once": f"{record['repeats']:,}",
            "Embedding model": record["embedding_model"],
        },
        [
            Picture("How like are the answers to the references?", "mean over questions", means, is_shared=False),
            Picture("Do the models differ?", "mean difference", differences, 0.0, is_shared=False),
        ],
        [table for table in tables if table.rows],
        notes(record),
    )


def _mark(panel: str, label: str, interval: Mapping[str, float]) -> Mark:
    return Mark(panel, label, interval["mean"], interval.get("low"), interval.get("high"))
