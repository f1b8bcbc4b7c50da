"""A table that came back, and which of its columns went out with the selection: those hold nothing of annotators."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from selectllm.errors import UsageError
from selectllm.export.names import ANSWERS, PROBLEM
from selectllm.pool.annotated import ID_NAMES
from selectllm.pool.rows import is_missing
from selectllm.text import escape_surrogates, join_names, json_text

Record = Mapping[str, Any]

_SAME_SHARE: Final = 0.5
"""From this share of cells that are as the pool has them on, a column is the pool's: spreadsheets rewrite some."""


@dataclass(frozen=True)
class ReturnedTable:
    """A table's column names and records, its location for messages, and the run's rows by id, as they were sent out.

    Names are read as they are, and else without capitals and spaces around them. `sent` is empty where no run is known.
    """

    names: Sequence[str]
    rows: Sequence[Record] = field(repr=False)
    location: str
    sent: Mapping[str, Record] = field(repr=False)

    def column(self, name: str) -> str | None:
        """The column that a name stands for."""
        return name if name in self.names else self._folded.get(name)

    def written(self, name: str) -> str | None:
        """The column that a name stands for, None where it came from the pool."""
        column = self.column(name)
        return None if column is None or self._is_pools(column) else column

    def id_of(self, record: Record) -> Any:
        """The id of a record's row: the one that the run chose, wherever it stands, else one that is not the pool's."""
        columns = [column for name in ID_NAMES if (column := self.column(name)) is not None]
        values = {column: record[column] for column in columns if not is_missing(record[column])}
        chosen = (value for value in reversed(values.values()) if _key(value) in self.sent)
        others = (value for column, value in values.items() if column == "id" or not self._was_sent(column))
        return next(chosen, next(others, None))

    def is_unchanged(self, record: Record, column: str) -> bool:
        """Whether a cell holds the text that went out in it."""
        known = self._sent_row(record)
        if known is None or not self._was_sent(column) or is_missing(known.get(column)):
            return False
        return not _is_empty(record[column]) and _is_same(record[column], known[column])

    def answers(self) -> str | None:
        """The column that annotators wrote answers in, None where there is no column for them.

        A column that went out with the selection counts where somebody changed it. Raises UsageError where it can be
        one of several, and where the table holds no answers but the pool's.
        """
        found = [column for name in ANSWERS if (column := self.column(name)) is not None]
        new = [column for column in found if not self._was_sent(column) or self._is_changed(column)]
        filled = [column for column in found if column not in new and not self._is_blank(column)]
        if new and self._was_sent(new[0]) and len(new) > 1:
            raise UsageError(
                f"{self.location}: the answers can be those of {join_names(map(repr, new))}, for the pool has "
                f"{new[0]!r} as well. Name the column that annotators filled in with --answer-column"
            )
        if filled and not new:
            raise UsageError(
                f"{self.location} holds no answers but those that the pool had, in {join_names(map(repr, filled))}: "
                "nobody changed them. If they are the answers to use, name the column with --answer-column; else write "
                "answers into a new column, and name that one"
            )
        if not found and self.written(PROBLEM) is None:  # where all was skipped, there is no column of answers
            raise UsageError(
                f"{self.location} has none of the columns {', '.join(ANSWERS)}: its columns are "
                f"{join_names(self.names)}. Name the one that holds the answers with --answer-column"
            )
        return next(iter(new or found), None)

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {name.strip().casefold(): name for name in reversed(self.names)}

    @cached_property
    def _sent_names(self) -> frozenset[str]:
        return frozenset(next(iter(self.sent.values()), ()))

    def _was_sent(self, column: str) -> bool:
        """Whether the selection has a column of that name, which the export did not rename to `source_<name>`."""
        moved = column
        while moved in self._sent_names:
            moved = f"source_{moved}"
        return moved != column and moved not in self.names

    def _is_pools(self, column: str) -> bool:
        """Whether a column still holds what the pool had in it."""
        if not self._was_sent(column):
            return False
        filled = self._filled(column)
        return sum(self.is_unchanged(record, column) for record in filled) >= _SAME_SHARE * max(len(filled), 1)

    def _is_changed(self, column: str) -> bool:
        return not all(self.is_unchanged(record, column) for record in self._filled(column))

    def _is_blank(self, column: str) -> bool:
        return not self._filled(column)

    def _filled(self, column: str) -> list[Record]:
        """The records of chosen rows that have something in a column."""
        return [record for record in self.rows if not _is_empty(record[column]) and self._sent_row(record) is not None]

    def _sent_row(self, record: Record) -> Record | None:
        return self.sent.get(_key(self.id_of(record)))


def _key(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _is_empty(value: Any) -> bool:
    return is_missing(value) or _plain(value) in ("", "[]", "{}")


def _plain(value: Any) -> str:
    """A value as a file of text has it, without the spaces and line ends that programs change."""
    return " ".join((escape_surrogates(value) if isinstance(value, str) else json_text(value)).split())


def _is_same(cell: Any, value: Any) -> bool:
    """Whether a cell is what a value becomes in a file: with an apostrophe in front, and numbers written otherwise."""
    came, went = _plain(cell), _plain(value)
    if went in (came, came.removeprefix("'")):
        return True
    if isinstance(value, str):
        return False
    with suppress(ValueError):
        return float(came) == float(went)
    return came.casefold() == went.casefold()
