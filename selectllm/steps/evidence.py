"""All that a model's answers say about a pool's rows, as ratings take it."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.ranking.ratings import Answers, Ratings, Rows, rate
from selectllm.schemas import LOOKS
from selectllm.steps.cache import StepResult
from selectllm.steps.rank import passes_of
from selectllm.store import Store
from selectllm.store.tables import in_order

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FirstAnswers:
    """What the queries gave: QUERIES in the order of their ids, by which rows are numbered, RANKINGS and PASSES.

    Where queries were asked about in several passes, each pass is an answer of its own. Nothing is known of the rows
    whose content the model's provider `refused`.
    """

    queries: pa.Table
    rankings: pa.Table
    passes: pa.Table
    refused: frozenset[str] = frozenset()

    @cached_property
    def ids(self) -> pa.Array:
        """The rows' ids."""
        return self.queries["id"].combine_chunks()

    @cached_property
    def query_ids(self) -> Rows:
        """The query of each row."""
        query_ids: Rows = self.queries["query_id"].to_numpy()
        return query_ids

    @cached_property
    def answers(self) -> Answers:
        """The answers about queries."""
        ranks = np.zeros(len(self.ids), dtype=np.int64)
        ranks[self.rows_of(self.rankings["id"])] = self.rankings["rank"].to_numpy()
        of_passes = self._of_passes(ranks) if len(self.passes) else Answers.of([])
        # Of a query only one of whose passes had a usable answer, that is the ranking.
        once = np.setdiff1d(self.rankings["query_id"].to_numpy(), self.passes["query_id"].to_numpy())
        shown = np.flatnonzero(np.isin(self.query_ids, once) & (~self.is_refused | (ranks > 0)))
        return of_passes.joined(Answers(self.query_ids[shown], shown, ranks[shown]))

    @cached_property
    def is_refused(self) -> Flags:
        """Whether each row was refused."""
        return self.are_among(self.refused)

    @cached_property
    def replies(self) -> pa.Array:
        """The keys of the replies about each row, with commas between them."""
        keys_of: dict[int, dict[str, None]] = {}
        for query, keys in zip(self.rankings["query_id"].to_pylist(), self.rankings["reply"].to_pylist(), strict=True):
            keys_of.setdefault(query, {}).update(dict.fromkeys(filter(None, keys.split(","))))
        told = pa.array(list(map(",".join, keys_of.values())), pa.string())
        place = pc.index_in(pa.array(self.query_ids), value_set=pa.array(list(keys_of), pa.int64()))
        return pc.if_else(pa.array(self.is_refused), "", pc.fill_null(told.take(place), ""))

    def rows_of(self, ids: pa.ChunkedArray) -> Rows:
        """The numbers of the rows with these ids."""
        rows: Rows = pc.index_in(ids, value_set=self.ids).to_numpy().astype(np.int64)
        return rows

    def are_among(self, ids: Collection[str]) -> Flags:
        """Whether each row's id is among some."""
        among: Flags = pc.is_in(self.ids, value_set=pa.array(sorted(ids), pa.string())).to_numpy(zero_copy_only=False)
        return among

    def _of_passes(self, ranks: Rows) -> Answers:
        """Each pass was shown the rows of its query that had no rank before it."""
        told = np.stack([self.passes[name].to_numpy().astype(np.int64) for name in ("query_id", "ranked", "number")])
        asked, question = np.unique(told, axis=1, return_inverse=True)
        placed = Answers(question.ravel(), self.rows_of(self.passes["id"]), self.passes["place"].to_numpy())
        members = np.flatnonzero(~self.is_refused)
        members = members[np.argsort(self.query_ids[members], kind="stable")]
        starts, ends = (np.searchsorted(self.query_ids[members], asked[0], side) for side in ("left", "right"))
        number = np.repeat(np.arange(len(starts)), ends - starts)
        rows = members[np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])]
        had_rank = (ranks[rows] > 0) & (ranks[rows] <= asked[1][number])
        is_placed = np.isin(number * len(ranks) + rows, placed.question * len(ranks) + placed.row)
        left = ~had_rank & ~is_placed
        unplaced = Answers(number[left], rows[left], np.zeros(left.sum(), dtype=np.int64))
        return Answers(*(np.concatenate(both) for both in zip(placed.arrays, unplaced.arrays, strict=True)))


@dataclass(frozen=True)
class Evidence:
    """The answers about a pool: those about queries, and LOOKS."""

    first: FirstAnswers
    looks: pa.Table

    @classmethod
    def of(cls, store: Store, queries: StepResult, rankings: StepResult, looks: StepResult | None) -> "Evidence":
        """The evidence of these steps."""
        refused = {id for result in (rankings, looks) if result for id in result.facts.get("refused_rows", ())}
        first = FirstAnswers(
            in_order(queries.table(store), ("id", "ascending")),
            rankings.table(store),
            passes_of(store, rankings),
            frozenset(refused),
        )
        return cls(first, looks.table(store) if looks else LOOKS.empty_table())

    @property
    def ids(self) -> pa.Array:
        """The rows' ids."""
        return self.first.ids

    @property
    def refused(self) -> frozenset[str]:
        """The ids of the rows that were refused."""
        return self.first.refused

    @property
    def clusters(self) -> Rows:
        """Which cluster each row is of: in its query it stands at the place of that."""
        places: Rows = self.first.queries["position"].to_numpy().astype(np.int64)
        return places

    @cached_property
    def looked_at(self) -> Rows:
        """The row that each line of the looks is about."""
        return self.first.rows_of(self.looks["id"])

    @property
    def rounds(self) -> Rows:
        """The last round of looks that showed each row, or 0."""
        rounds = np.zeros(len(self.ids), dtype=np.int64)
        np.maximum.at(rounds, self.looked_at, self.looks["round"].to_numpy())
        return rounds

    @property
    def replies(self) -> pa.Array:
        """The keys of the replies about each row, with commas between them."""
        told: dict[int, list[str]] = {}
        for row, keys in zip(self.looked_at.tolist(), self.looks["reply"].to_pylist(), strict=True):
            known = told.setdefault(row, list(filter(None, self.first.replies[row].as_py().split(","))))
            known += [key for key in keys.split(",") if key not in known]
        rows = sorted(told)
        mask = np.zeros(len(self.ids), dtype=bool)
        mask[rows] = True
        joined = pa.array([",".join(told[row]) for row in rows], pa.string())
        return pc.replace_with_mask(self.first.replies, pa.array(mask), joined)

    @property
    def next_question(self) -> int:
        """The number of the next look."""
        return int(self.looks["question"].to_numpy().max(initial=-1)) + 1

    def open_rows(self, barred: Collection[str]) -> Rows:
        """The rows whose ids are not barred."""
        return np.flatnonzero(~self.first.are_among(barred))

    def questions_about(self, rows: Rows) -> list[list[int]]:
        """The questions that have shown each of some rows: those of looks from 0, those of queries below."""
        order = np.argsort(self.looked_at, kind="stable")
        starts, ends = (np.searchsorted(self.looked_at[order], rows, side).tolist() for side in ("left", "right"))
        looks = self.looks["question"].to_numpy()[order]
        queries = (-1 - self.first.query_ids[rows]).tolist()
        return [[query, *looks[start:end].tolist()] for query, start, end in zip(queries, starts, ends, strict=True)]

    def with_looks(self, looks: pa.Table) -> "Evidence":
        """The evidence with further looks."""
        return replace(self, looks=pa.concat_tables([self.looks, looks]))

    def rated(self) -> Ratings:
        """The ratings of all rows."""
        question, number = (self.looks[name].to_numpy().astype(np.int64) for name in ("question", "number"))
        places = pc.fill_null(self.looks["place"], 0).to_numpy().astype(np.int64)
        looks = Answers(question * (number.max(initial=0) + 1) + number, self.looked_at, places)
        return rate(len(self.ids), self.first.answers.joined(looks))
