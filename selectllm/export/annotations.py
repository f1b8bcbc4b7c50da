"""Joins annotations with the selection that they are of, by id, and says what is missing or in dispute."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Final

from selectllm.export.came_back import Annotation, read_annotations
from selectllm.export.chosen import Chosen, read_chosen
from selectllm.pool.records import NOT_UTF8
from selectllm.store import Store

KEEP_IDS: Final = "Keep the column `id` in the files that annotators fill in: it says which row an answer is to"
SAVE_AS_UTF8: Final = 'Save the file as UTF-8, which spreadsheets call "CSV UTF-8", and read it again'
"""What to do about records without an id, and about rows that cannot be decoded."""


@dataclass(frozen=True)
class AnnotatedSelection:
    """What came back about the rows of a selection; `answered + skipped + empty + missing` are all its rows.

    All ids are in the selection's order. `answers` holds those of each answered row, one for each annotator, the
    earliest first. `skipped` rows have no answer, and a problem such as "skip"; `problems` counts these annotations.
    `empty` rows were only given nothing. `doubled` are pairs of a row and an annotator who annotated it more than once:
    the latest counts. Of the rows that `several` annotators answered, those with different answers are `disputed`, and
    `agreement` is the share of pairs of answers that are equal but for spaces, None where there is no such row.
    `unknown` are ids that the selection does not have, `without_id` counts records without one, and `faults` are the
    reasons why rows of files could not be read.
    """

    chosen: Chosen = field(repr=False)
    read: int
    answers: Mapping[str, Sequence[Annotation]] = field(repr=False)
    skipped: tuple[str, ...]
    empty: tuple[str, ...]
    missing: tuple[str, ...]
    problems: Mapping[str, int]
    doubled: tuple[tuple[str, str], ...]
    several: tuple[str, ...]
    disputed: tuple[str, ...]
    agreement: float | None
    unknown: tuple[str, ...]
    without_id: int
    faults: Mapping[str, Mapping[int, str]]

    @property
    def may_be_of_another_run(self) -> bool:
        """Whether there are ids that the selection does not have, and no answers to rows that it has."""
        return bool(self.unknown) and not self.answers

    @property
    def has_undecoded(self) -> bool:
        """Whether rows of a file could not be read because they are not UTF-8."""
        return any(reason == NOT_UTF8 for rows in self.faults.values() for reason in rows.values())

    def record(self) -> dict[str, Any]:
        """Counts and ids, as JSON has them."""
        names = ("skipped", "empty", "missing", "several", "disputed", "unknown")
        lists = {name: getattr(self, name) for name in names}
        rows = len(self.chosen.table)
        counts = {"rows": rows, "annotations": self.read, "answered": len(self.answers)}
        counts |= {name: len(ids) for name, ids in lists.items()} | {"doubled": len(self.doubled)}
        return {
            "run": self.chosen.record.run,
            "counts": counts | {"without_id": self.without_id, "faults": sum(map(len, self.faults.values()))},
            "agreement": self.agreement,
            "problems": dict(self.problems),
            "ids": {name: list(ids) for name, ids in lists.items()},
            "doubled": [{"id": id, "annotator": annotator} for id, annotator in self.doubled],
            "faults": {file: {str(row): reason for row, reason in rows.items()} for file, rows in self.faults.items()},
        }


def compare_annotations(
    store: Store, files: Iterable[str], run: str | None = None, answer_column: str | None = None
) -> AnnotatedSelection:
    """Read files of annotations and join them with the rows that a run chose, by default the latest.

    Raises UsageError for a run that is not there, or a file that cannot be read or holds no answers; StoreError when
    the selection is gone.
    """
    chosen = read_chosen(store, run)
    annotations: list[Annotation] = []
    faults: dict[str, dict[int, str]] = {}
    for file in files:
        found, unread = read_annotations(file, answer_column, chosen)
        annotations += found
        if unread:
            faults[file] = unread
    return _joined(chosen, annotations, faults)


def _joined(
    chosen: Chosen, annotations: Sequence[Annotation], faults: Mapping[str, Mapping[int, str]]
) -> AnnotatedSelection:
    ids: list[str] = chosen.table["id"].to_pylist()
    by_row: dict[str, dict[str, Annotation]] = {id: {} for id in ids}
    times: Counter[tuple[str, str]] = Counter()
    unknown: dict[str, None] = {}
    for annotation in sorted(annotations, key=lambda annotation: annotation.when):
        if annotation.id in by_row:
            times[annotation.id, annotation.annotator] += 1
            by_row[annotation.id].pop(annotation.annotator, None)  # so that the order is that of what counts
            by_row[annotation.id][annotation.annotator] = annotation
        elif annotation.id is not None:
            unknown[annotation.id] = None
    states: dict[str, list[str]] = defaultdict(list)
    for id in ids:
        states[_state(by_row[id].values())].append(id)
    answers = {id: [a for a in by_row[id].values() if _is_answer(a)] for id in states["answered"]}
    several = [id for id in answers if len(answers[id]) > 1]
    equal = {id: [_normal(a) == _normal(b) for a, b in combinations(answers[id], 2)] for id in several}
    pairs = [is_equal for id in several for is_equal in equal[id]]
    counted = [annotation for row in by_row.values() for annotation in row.values()]
    return AnnotatedSelection(
        chosen=chosen,
        read=len(annotations),
        answers=answers,
        **{name: tuple(states[name]) for name in ("skipped", "empty", "missing")},
        problems=dict(sorted(Counter(a.problem for a in counted if a.problem).items())),
        doubled=tuple(pair for id in ids for pair in ((id, a) for a in by_row[id]) if times[pair] > 1),
        several=tuple(several),
        disputed=tuple(id for id in several if not all(equal[id])),
        agreement=sum(pairs) / len(pairs) if pairs else None,
        unknown=tuple(unknown),
        without_id=sum(annotation.id is None for annotation in annotations),
        faults=faults,
    )


def _is_answer(annotation: Annotation) -> bool:
    """Whether an annotation is an answer: one with a problem is none, whatever was written beside it."""
    return bool(annotation.answer) and not annotation.problem


def _state(annotations: Iterable[Annotation]) -> str:
    found = list(annotations)
    if any(map(_is_answer, found)):
        return "answered"
    if any(annotation.problem for annotation in found):
        return "skipped"
    return "empty" if found else "missing"


def _normal(annotation: Annotation) -> str:
    return " ".join(unicodedata.normalize("NFC", annotation.answer).split())
