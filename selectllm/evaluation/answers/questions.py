"""The questions that answers are about, and the references that some files have beside them."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from selectllm import pool
from selectllm.embedding.models import text
from selectllm.paths import redact_url
from selectllm.pool.carried import original_values
from selectllm.settings import RunSettings
from selectllm.store import digest

log = logging.getLogger(__name__)

QUESTION_ID = "question_id"
"""The column of a question's own number, in FastChat's files."""

SOURCE_ID = "source_id"
"""What a pool calls its file's own column `id`."""


@dataclass(frozen=True)
class Question:
    """One question: `text` is what a model is asked, `own_id` what other programs call the question."""

    id: str
    own_id: str
    instruction: str
    input: str | None
    reference: str | None

    @property
    def text(self) -> str:
        """The instruction and, on lines of its own, its input."""
        return text(self.instruction, self.input)


@dataclass(frozen=True)
class Questions:
    """The questions of a file, without repeats; `digest` is what decides them, `left_out` rows could not be read."""

    location: str
    digest: str
    rows: tuple[Question, ...] = field(repr=False)
    source_ids: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The id of each question by the value of its file's own column `id`, where no other question has that."""
    left_out: int = 0
    repeats: int = 0

    @cached_property
    def ids(self) -> Mapping[str, str]:
        """The id of each question by what may stand for it: its id, and that of its whole text as an instruction."""
        whole = {pool.row_id(row.text, None): row.id for row in self.rows}
        return whole | {row.id: row.id for row in self.rows}

    @cached_property
    def own_ids(self) -> Mapping[str, str]:
        """The id of each question by its own number."""
        return {row.own_id: row.id for row in self.rows}


def read_questions(settings: RunSettings) -> Questions:
    """Read the questions of a file in any format of a pool, by its columns; raises PoolError where it has none.

    A question's own number is its `question_id`; where not all questions have different ones, it is the row's number.
    """
    file = pool.fetch(settings.pool)
    rows = pool.partition(pool.parse(file, pool.Columns(**settings.columns.model_dump())), {})
    if rows.refused:
        raise pool.refusal((settings.pool,), rows.refused)
    if rows.quarantined:
        log.warning("%d rows of %s cannot be asked: they cannot be read", rows.quarantined, redact_url(settings.pool))
    table = rows.table
    names = ("id", "instruction", "input", "output")
    cells = zip(*(table[name].to_pylist() for name in names), strict=True)
    found = tuple(
        Question(id, own_id, instruction, input, output if output and output.strip() else None)
        for own_id, (id, instruction, input, output) in zip(_own_ids(table), cells, strict=True)
    )
    content = digest("questions", file.digest, file.form, settings.columns.model_dump())
    return Questions(redact_url(settings.pool), content, found, _by_source(table), rows.quarantined, rows.duplicates)


def _by_source(table: pa.Table) -> dict[str, str]:
    if SOURCE_ID not in table.column_names:
        return {}
    values = original_values(table.schema.field(SOURCE_ID), table[SOURCE_ID])
    named = [(str(value), id) for value, id in zip(values, table["id"].to_pylist(), strict=True) if value is not None]
    times = Counter(name for name, _ in named)
    return {name: id for name, id in named if times[name] == 1}


def _own_ids(table: pa.Table) -> list[str]:
    if QUESTION_ID in table.column_names:
        values = original_values(table.schema.field(QUESTION_ID), table[QUESTION_ID])
        own = [str(value) for value in values if value is not None]
        if len(set(own)) == len(table):
            return own
    return [str(row) for row in table["row"].to_pylist()]
