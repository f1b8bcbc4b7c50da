"""The artifacts that a run's selection was made from, and the replies of its model that say what became of a row."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from math import inf
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import StoreError
from selectllm.explain.explanation import Answer, Look, Round, Share, Spread, Target
from selectllm.llm.ledger_lines import Entry
from selectllm.llm.ledger_parts import read_lines
from selectllm.schemas import RESERVED
from selectllm.store import Artifact, Manifest, Store, digest
from selectllm.store.runs import load_run

Row = Mapping[str, Any]

ASKED: Final = ("rankings", "row_ratings")
"""Kinds of artifact that say which model was asked, and how: about queries, or about single rows."""

TIERS: Final = {"rank", "tournament", "score"}
"""The reasons of rows that are chosen by the tiers of their ranks."""


class Lineage:
    """The artifacts of one run by kind, and how its model was asked: `model` is empty where none was.

    `seeds` are those that its first attempts may have been made with.

    They are read from the manifests: where a slot of a history was filled before, its selection was made from other
    artifacts than the run's record names. Raises UsageError when there is no such run, StoreError for a gone artifact.
    """

    def __init__(self, store: Store, run: str | None = None) -> None:
        self._store = store
        self._tables: dict[str, pa.Table] = {}
        record = load_run(store, run)
        self.run, self.strategy = record.run, record.strategy
        selection = record.artifact("selection")
        if selection is None:
            raise StoreError(f"run {record.run} has no selection in its record: name another with --run")
        self._artifacts, self._manifests = {"selection": selection}, dict[str, Manifest]()
        pending = ["selection"]
        while pending:  # of each kind the nearest to the selection: it holds what earlier pages and generations do
            manifest = self._manifest(pending.pop(0))
            for kind in manifest.inputs:
                if kind not in self._artifacts:
                    self._artifacts[kind] = Artifact(kind=kind, key=manifest.made_from[kind])
                    if kind in (
                        "preferences",
                        "rankings",
                        "ratings",
                    ):  # nothing more is asked of what the others were made from
                        pending.append(kind)
        self._look_behind_shortlist()
        self._artifacts["quarantine"] = Artifact(kind="quarantine", key=self._manifest("pool").facts["quarantine"])
        self.spread = self._spread()
        # Reasons are made from the selection, so the record names them; without them all else can be explained.
        if (reasons := record.artifact("reasons")) and store.is_intact(reasons):
            self._artifacts["reasons"] = reasons
        self.selected = self._manifest("selection").rows
        asked = next((self._manifest(kind).settings for kind in ASKED if self.has(kind)), {})
        self.is_pointwise = asked.get("mode") == "pointwise"  # each row was a question of its own, and has a score
        self.model, self.seeds = str(asked.get("name", "")), {int(asked.get("seed", 0))}
        self.seeds |= {0} if self.is_pointwise else set()  # scores do not depend on the run's seed; once they did
        self._ledger = f"replies/{digest(asked['model'])}" if asked else None  # as the key of a ModelInfo is made

    def has(self, kind: str) -> bool:
        """Whether the run has such an artifact: not every run ranks, has a tournament, or excludes rows."""
        return kind in self._artifacts

    def table(self, kind: str) -> pa.Table:
        """The run's table of a kind, without carried columns; raises StoreError when it is gone or damaged."""
        if kind not in self._tables:
            table = self._store.read(self._artifacts[kind])
            if kind in ("pool", "selection"):
                table = table.select([name for name in table.column_names if name in RESERVED])
            self._tables[kind] = table
        return self._tables[kind]

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The rows of the run's table of a kind; none where the run has none."""
        return self.table(kind).to_pylist() if self.has(kind) else []

    @property
    def is_by_place(self) -> bool:
        """Whether rows were chosen by their places among the preferences, though a model was asked about them."""
        by_tiers = set(self.table("selection")["picked_by"].to_pylist()) <= TIERS
        return self.has("row_ratings") or (self.has("rankings") and not by_tiers)

    def _spread(self) -> Spread | None:
        """How the chosen rows were kept from saying the same, if they were; what was passed over joins the artifacts.

        The selection's facts alone name it: nothing is made from it.
        """
        selection = self._manifest("selection")
        if key := selection.facts.get("near_duplicates"):
            self._artifacts["near_duplicates"] = Artifact(kind="near_duplicates", key=key)
        found = {field.name: selection.settings.get(field.name) for field in fields(Spread)}
        return Spread(**found) if any(found.values()) else None

    def _look_behind_shortlist(self) -> None:
        """Of a shortlist take the pool that it was made from, whose rows are all to be explained."""
        made_from = self._manifest("pool").made_from
        if "targets" in made_from:
            self._artifacts |= {kind: Artifact(kind=kind, key=made_from[kind]) for kind in ("pool", "targets")}
            del self._manifests["pool"]

    def target_of(self, id: str) -> Target | None:
        """How near the row is to the examples; None without any, and for a row that could not be chosen."""
        rows = where(self.table("targets"), "id", id) if self.has("targets") else []
        return Target(**{field.name: rows[0][field.name] for field in fields(Target)}) if rows else None

    def share_of(self, id: str, preferred: Sequence[str]) -> Share | None:
        """The row's stratum, where there are any; `preferred` are the preferences that could be chosen, in order."""
        strata = where(self.table("strata"), "id", id) if self.has("strata") else []
        if not strata:
            return None
        facts, number = self._manifest("strata").facts, strata[0]["stratum"]
        of_stratum = set(where_ids(self.table("strata"), "stratum", number))
        place = next((n for n, other in enumerate(filter(of_stratum.__contains__, preferred), 1) if other == id), None)
        stratum = facts["values"][number]
        return Share(facts["column"], strata[0]["value"], stratum["value"], stratum["wanted"], place)

    @property
    def abstained_questions(self) -> set[str]:
        """The names of the questions without a usable answer; none where the run is older than version 0.2."""
        kinds = [kind for kind in (*ASKED, "looks", "tournament") if self.has(kind)]
        return {name for kind in kinds for name in self._manifest(kind).facts.get("abstained_questions", ())}

    @property
    def refused_rows(self) -> set[str]:
        """The ids of the rows whose content the model's provider refused; none where the run is older."""
        kinds = [kind for kind in (*ASKED, "looks", "tournament") if self.has(kind)]
        return {id for kind in kinds for id in self._manifest(kind).facts.get("refused_rows", ())}

    def replies(self, id: str) -> list[Entry]:
        """All replies of the run's model, in any run of the store, to questions that showed a row, the earliest first.

        Of two replies to one question the earlier counts, here as everywhere.
        """
        entries: dict[str, Entry] = {}
        for line in read_lines(self._store, self._ledger) if self._ledger else ():
            entry = Entry.parse(line) if id.encode() in line else None  # a ledger may be large
            if entry and id in entry.shown and (entry.key not in entries or entry.at < entries[entry.key].at):
                entries[entry.key] = entry
        return sorted(entries.values(), key=lambda entry: (entry.at, entry.key))

    def _manifest(self, kind: str) -> Manifest:
        artifact = self._artifacts[kind]
        manifest = self._manifests.get(kind) or self._store.manifest(artifact)
        if manifest is None:
            raise StoreError(
                f"run {self.run} cannot be explained: {self._store.path(artifact)} is gone or damaged. "
                "Run it again, which makes it again from the replies that are kept, or name another with --run"
            )
        self._manifests[kind] = manifest
        return manifest


def where(table: pa.Table, column: str, value: Any) -> list[dict[str, Any]]:
    """The rows of a table that have this value in a column."""
    return list(table.filter(pc.equal(table[column], value)).to_pylist())


def where_ids(table: pa.Table, column: str, value: Any) -> list[str]:
    """The ids of the rows of a table that have this value in a column."""
    ids: list[str] = table["id"].filter(pc.equal(table[column], value)).to_pylist()
    return ids


def answers_about(
    lineage: Lineage, id: str, members: Collection[str], ranks: Sequence[Row], later: Sequence[Row]
) -> tuple[Answer, ...]:
    """The replies about a row that the run's ranks rest on, and those to the same questions that could not be used.

    Parameters: `members` and `ranks`, the ids and the RANKINGS of the row's query; `later`, all of TOURNAMENT or LOOKS.
    All runs of a store share a ledger. A reply that a rank rests on is known by its key. Another one is the run's when
    its line names a question of the run (older ones than version 0.2 name none), it showed the question's rows by the
    run's seed, and it was an attempt before the one that was used, or the question abstained.
    """
    rounds = {key: 0 for rank in ranks for key in _keys(rank)}
    rounds |= {key: rank["round"] for rank in later for key in _keys(rank)}
    entries = lineage.replies(id)
    used = {(entry.question, entry.shown): entry.attempt for entry in entries if entry.key in rounds}
    abstained = set(map(_name, lineage.abstained_questions))
    asked = {_name(question) for question, _ in used} | abstained
    tier = {rank["id"] for rank in later}

    def round_of(entry: Entry) -> int | None:
        """The round that a reply belongs to, 0 for the row's own query; None where it is another run's."""
        if entry.key in rounds:
            return rounds[entry.key]
        name = _name(entry.question)
        is_of_run = entry.question and name in asked and entry.seed - entry.attempt + 1 in lineage.seeds
        is_unused = name in abstained or entry.outcome not in ("used", "repaired")
        if not is_of_run or not is_unused or entry.attempt >= used.get((entry.question, entry.shown), inf):
            return None
        number = int(match[1]) if (match := re.search(r" of round (\d+)$", name)) else 0
        return number if set(entry.shown) <= set(tier if number else members) else None

    numbered = ((entry, round_of(entry)) for entry in entries)
    return tuple(_answer(entry, number, entry.key in rounds) for entry, number in numbered if number is not None)


def rounds_of(id: str, tournament: Sequence[Row], answers: Sequence[Answer]) -> tuple[Round, ...]:
    """The rounds that the row was in; its rank is of the last one, and it came first in those before."""
    last = next((rank for rank in tournament if rank["id"] == id), None)
    if last is None:
        return ()
    whole = [answer for answer in answers if answer.used and not re.search(", (part|merge|rest)", answer.question)]
    sizes = {answer.round: len(answer.shown) for answer in whole}
    earlier = [Round(number, sizes.get(number), rank=1, went_on=True) for number in range(1, last["round"])]
    return (*earlier, Round(last["round"], sizes.get(last["round"]), last["rank"], went_on=False))


def looks_of(id: str, looks: Sequence[Row]) -> tuple[Look, ...]:
    """The further looks that showed the row, in order; of several passes each is one."""
    asked: dict[tuple[int, int], list[Row]] = {}
    for row in looks:
        asked.setdefault((row["question"], row["number"]), []).append(row)
    return tuple(
        Look(row["round"], len(rows), row["place"]) for rows in asked.values() for row in rows if row["id"] == id
    )


def _answer(entry: Entry, number: int, used: bool) -> Answer:
    known = {**vars(entry), **vars(entry.reply), "round": number, "used": used}
    return Answer(**{field.name: known[field.name] for field in fields(Answer)})


def _name(question: str) -> str:
    """A question's name without its pass and part; a candidate's without its query, which depends on the pool."""
    return re.sub(r", .*| of query \d+.*", "", question)


def _keys(row: Row) -> list[str]:
    """The keys of the replies that a row's rank rests on: several where there were several passes."""
    return [key for key in (row["reply"] or "").split(",") if key]
