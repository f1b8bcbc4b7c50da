"""All that a model's answers say about a pool's rows, as ratings take it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from selectllm.ranking.ratings import Answer, Ratings, Rows, rate
from selectllm.schemas import LOOKS
from selectllm.steps.cache import StepResult
from selectllm.steps.rank import passes_of
from selectllm.store import Store
from selectllm.store.tables import in_order


@dataclass(frozen=True)
class Evidence:
    """The answers about a pool: QUERIES, RANKINGS, PASSES and LOOKS. Rows are numbered in the order of their ids.

    Where queries were asked about in several passes, each pass is an answer of its own. Nothing is known of the rows
    whose content the model's provider `refused`.
    """

    queries: pa.Table
    rankings: pa.Table
    passes: pa.Table
    looks: pa.Table
    refused: frozenset[str] = frozenset()

    @classmethod
    def of(cls, store: Store, queries: StepResult, rankings: StepResult, looks: StepResult | None) -> "Evidence":
        """The evidence of these steps."""
        refused = {id for result in (rankings, looks) if result for id in result.facts.get("refused_rows", ())}
        return cls(
            in_order(queries.table(store), ("id", "ascending")),
            rankings.table(store),
            passes_of(store, rankings),
            looks.table(store) if looks else LOOKS.empty_table(),
            frozenset(refused),
        )

    @cached_property
    def ids(self) -> list[str]:
        """The rows' ids."""
        ids: list[str] = self.queries["id"].to_pylist()
        return ids

    @cached_property
    def clusters(self) -> Rows:
        """Which cluster each row is of: in its query it stands at the place of that."""
        places: Rows = self.queries["position"].to_numpy().astype(np.int64)
        return places

    @cached_property
    def questions(self) -> list[list[int]]:
        """The questions that have shown each row: those of looks from 0, those of queries below."""
        questions = [[-1 - query] for query in self.queries["query_id"].to_pylist()]
        row_of = self._row_of
        for id, question in zip(self.looks["id"].to_pylist(), self.looks["question"].to_pylist(), strict=True):
            questions[row_of[id]].append(question)
        return questions

    @cached_property
    def replies(self) -> list[list[str]]:
        """The keys of the replies about each row."""
        of_query: dict[int, dict[str, None]] = {}
        for query, keys in zip(self.rankings["query_id"].to_pylist(), self.rankings["reply"].to_pylist(), strict=True):
            of_query.setdefault(query, {}).update(dict.fromkeys(filter(None, keys.split(","))))
        replies = [[] if id in self.refused else list(of_query.get(query, ())) for id, query in self._members]
        for id, keys in zip(self.looks["id"].to_pylist(), self.looks["reply"].to_pylist(), strict=True):
            told = replies[self._row_of[id]]
            told += [key for key in keys.split(",") if key not in told]
        return replies

    @property
    def next_question(self) -> int:
        """The number of the next look."""
        return 1 + max(self.looks["question"].to_pylist(), default=-1)

    def with_looks(self, looks: pa.Table) -> "Evidence":
        """The evidence with further looks."""
        return replace(self, looks=pa.concat_tables([self.looks, looks]))

    def rated(self) -> Ratings:
        """The ratings of all rows."""
        return rate(len(self.ids), [*self._of_queries(), *self._of_looks()])

    @property
    def _members(self) -> Iterator[tuple[str, int]]:
        """Each row's id, and its query."""
        return zip(self.ids, self.queries["query_id"].to_pylist(), strict=True)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {id: row for row, id in enumerate(self.ids)}

    def _of_queries(self) -> list[Answer]:
        members: dict[int, list[int]] = {}
        for row, (id, query) in enumerate(self._members):
            if id not in self.refused:
                members.setdefault(query, []).append(row)
        ranked: dict[int, list[int]] = {}
        rankings = in_order(self.rankings, ("query_id", "ascending"), ("rank", "ascending"))
        for query, id in zip(rankings["query_id"].to_pylist(), rankings["id"].to_pylist(), strict=True):
            ranked.setdefault(query, []).append(self._row_of[id])
        if not len(self.passes):
            return [_answer(rows, members[query]) for query, rows in ranked.items()]
        asked: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        names = ("query_id", "ranked", "number", "place", "id")
        for query, before, number, place, id in zip(*(self.passes[name].to_pylist() for name in names), strict=True):
            asked.setdefault((query, before, number), []).append((place, self._row_of[id]))
        several = {query for query, _, _ in asked}
        answers = [
            _answer([row for _, row in sorted(rows)], sorted({*members[query]} - {*ranked[query][:before]}))
            for (query, before, _), rows in sorted(asked.items())
        ]
        # Of a query only one of whose passes had a usable answer, that is the ranking.
        return answers + [_answer(rows, members[query]) for query, rows in ranked.items() if query not in several]

    def _of_looks(self) -> list[Answer]:
        asked: dict[tuple[int, int], list[tuple[int | None, int]]] = {}
        names = ("question", "number", "place", "id")
        for question, number, place, id in zip(*(self.looks[name].to_pylist() for name in names), strict=True):
            asked.setdefault((question, number), []).append((place, self._row_of[id]))
        return [
            Answer(
                tuple(row for place, row in sorted((place, row) for place, row in rows if place is not None)),
                tuple(row for place, row in rows if place is None),
            )
            for rows in asked.values()
        ]


def _answer(ranked: list[int], shown: list[int]) -> Answer:
    return Answer(tuple(ranked), tuple(sorted({*shown} - {*ranked})))
