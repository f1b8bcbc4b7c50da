"""The names of formats and fields, on which what goes to annotators and what comes back must agree."""

from collections.abc import Collection, Iterable
from typing import Final, Literal

Target = Literal["label-studio", "argilla", "jsonl", "csv", "parquet", "hf", "openai-batch"]
"""What a selection can be written for: a tool, a kind of file, a Hugging Face dataset, a batch of OpenAI's."""

Training = Literal["alpaca", "messages", "sharegpt"]
"""The layout of a training file."""

Several = Literal["first", "longest", "all", "none-if-disputed"]
"""Which answers of a row count that several annotators answered: the earliest, the longest, each different one, or the
earliest of those rows alone whose answers agree."""

ORDER: Final = "order"
PROMPT: Final = "prompt"
ANSWER: Final = "answer"
PROBLEM: Final = "problem"

ANSWERS: Final = (ANSWER, "output", "response", "completion")
"""Columns that hold answers, best first."""

ANNOTATORS: Final = ("annotator", "annotator_id", "completed_by", "user_id")
TIMES: Final = ("updated_at", "created_at")
"""Columns of tables that say who answered, and when; best first."""

PROBLEMS: Final = ("skip", "unclear")
"""What annotators can say of a row in the place of an answer: that they cannot answer it, or that nobody could."""


def renamed(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """New names of columns by their old ones: `source_<name>` where a name is taken, as the pool does it."""
    new: dict[str, str] = {}
    used = set(taken)
    for name in names:
        new_name = name
        while new_name in used:
            new_name = f"source_{new_name}"
        used.add(new_name)
        new[name] = new_name
    return new
