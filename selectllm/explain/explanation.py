"""What there is to tell of a row."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Why = Literal[
    "rank",  # chosen: its rank was good enough
    "tournament",  # chosen: the budget cut its level, and the tournament put it high enough
    "score",  # chosen: the same by its score
    "level",  # not chosen: the budget was full at a better rank
    "place",  # not chosen: others came first on the level that the budget cut
    "unranked",  # not chosen: the model named others of its query
    "abstained",  # not chosen: no answer could be used
    "excluded",  # not chosen: it was not to be
    "quarantined",  # not chosen: it is no usable instruction
    "unknown",  # not chosen, and the run's tables do not say why
]


@dataclass(frozen=True)
class Candidate:
    """A row of the same query; no rank where the model named others, no score where it ranked a list."""

    id: str
    row: int
    instruction: str
    rank: int | None
    score: float | None
    chosen: bool


@dataclass(frozen=True)
class Answer:
    """A reply of the model, as it came, to a question that showed the row.

    `round` is the tournament's, 0 for the row's own query. `used` is whether ranks rest on it: the others could not be
    read, so that the model was asked again, or they tell of a part of a query that was too long.
    """

    key: str
    round: int
    used: bool
    attempt: int
    outcome: str
    model: str
    shown: tuple[str, ...]  # ids, in the order that the prompt showed them
    text: str
    thinking: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Round:
    """A round of the tournament that the row was in, among `met` rows, itself included.

    Both are None where no answer could be used; a row that met no other went on unasked.
    """

    number: int
    met: int | None
    rank: int | None
    went_on: bool


@dataclass(frozen=True)
class Decision:
    """Whether the row was chosen, as which, and why or why not.

    `level` is the worst rank that the budget reached. Of the `rows` of that rank that could be chosen `taken` were, and
    `place` is the row's own among them, from 1.
    """

    chosen: bool
    why: Why
    reason: str | None = None  # for which it was quarantined or excluded
    order: int | None = None
    level: int | None = None
    rows: int | None = None
    taken: int | None = None
    place: int | None = None


@dataclass(frozen=True)
class Explanation:
    """A row's way through a run that chose `selected` rows; a quarantined row has no id, and came no further."""

    run: str
    selected: int
    model: str
    row: int
    id: str | None
    instruction: str
    decision: Decision
    input: str | None = None
    repeat: int | None = None  # the row that was asked about, where it is a repeat of this one
    query_id: int | None = None
    rank: int | None = None
    candidates: tuple[Candidate, ...] = ()  # by rank
    answers: tuple[Answer, ...] = ()  # in the order that they came
    rounds: tuple[Round, ...] = ()

    def record(self) -> dict[str, Any]:
        """The explanation as JSON takes it."""
        return asdict(self)
