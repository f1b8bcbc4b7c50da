"""A pool's candidates, each made when it is asked for: a million at once would take a gigabyte."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from heapq import heappushpop
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.queries import Rows
from selectllm.ranking.prompts import CLIP_MARK, Candidate

_ESCAPED: Final = r'[\x00-\x1f"\\<\[\x{85}\x{2028}\x{2029}]'
"""Characters that may be written as escapes, each with at most `_ESCAPE` bytes more than it has."""

_ESCAPE: Final = 5
_FRAME: Final = len('{"instruction": "", "input": ""}') + 2 * len(CLIP_MARK.encode())


class Candidates(Mapping[str, Candidate]):
    """The candidates of a table of the schema POOL by id, in its order, each in at most `limit` characters."""

    def __init__(self, pool: pa.Table, limit: int) -> None:
        self.ids: pa.ChunkedArray = pool["id"]
        self._instructions, self._inputs, self._limit = pool["instruction"], pool["input"], limit

    def __getitem__(self, id: str) -> Candidate:
        return self._at(self._row_of[id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._row_of)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def clipped(self) -> int:
        """How many are shown with a part of their text alone."""
        return int(np.sum(self._lengths(pc.utf8_length) > self._limit))

    def of(self, ids: pa.ChunkedArray) -> tuple[Candidate, ...]:
        """The candidates with these ids."""
        return self.at(self.rows_of(ids).tolist())

    def at(self, rows: Iterable[int]) -> tuple[Candidate, ...]:
        """The candidates in these rows of the table, from 0."""
        return tuple(map(self._at, rows))

    def rows_of(self, ids: pa.ChunkedArray) -> Rows:
        """The rows of the table, from 0, in which these ids stand."""
        rows: Rows = pc.index_in(ids, value_set=self.ids.combine_chunks()).to_numpy().astype(np.int64)
        return rows

    def longest(self, count: int) -> list[Candidate]:
        """The `count` candidates that take the most bytes in a prompt; of all others only a bound is computed."""
        escaped = [pc.fill_null(pc.count_substring_regex(texts, _ESCAPED), 0) for texts in self._texts]
        most = self._lengths(pc.binary_length) + _ESCAPE * sum(found.to_numpy() for found in escaped) + _FRAME
        longest: list[tuple[int, int]] = [(-1, -1)] * min(count, len(self))
        for row in np.argsort(-most, kind="stable").tolist():
            if not longest or most[row] <= longest[0][0]:
                break
            heappushpop(longest, (self._at(row).shown_bytes, row))
        return [self._at(row) for _, row in sorted(longest, reverse=True)]

    @property
    def _texts(self) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        return self._instructions, self._inputs

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self.ids.to_pylist())}

    def _lengths(self, length: pc.Function) -> Rows:
        """The length of the texts of each row together."""
        lengths: Rows = sum(pc.fill_null(length(texts), 0).to_numpy().astype(np.int64) for texts in self._texts)
        return lengths

    def _at(self, row: int) -> Candidate:
        whole = Candidate(self.ids[row].as_py(), self._instructions[row].as_py(), self._inputs[row].as_py())
        return whole.clipped(self._limit)[0]
