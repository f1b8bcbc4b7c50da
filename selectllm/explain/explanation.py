"""What is known of a row."""

from dataclasses import asdict, dataclass, field
from typing import Any


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

    One that is not used could not be read, or was about a part of a list of which another part had no usable answer.
    """

    key: str
    round: int  # of the tournament; 0 for the row's own query
    used: bool  # whether ranks rest on it
    question: str  # its name, as "query 17, pass 2"; empty where the ledger's line is older than version 0.2
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
    """A round of the tournament that the row was in; a row that was alone in its query went on unasked."""

    number: int
    size: int | None  # rows of the query, itself included; None where no single answer tells it
    rank: int | None  # None where no answer could be used
    went_on: bool


@dataclass(frozen=True)
class Look:
    """A further question about rows near the cut that showed the row."""

    round: int
    size: int  # rows that it showed, itself included
    place: int | None  # None where the answer does not place it


@dataclass(frozen=True)
class Spread:
    """How the chosen rows were kept from saying the same; null what was not asked for.

    `diversity` is how much that counted against ratings, `near_duplicate` the cosine from which on rows were passed
    over.
    """

    diversity: float | None
    near_duplicate: float | None


@dataclass(frozen=True)
class Share:
    """The row's value of the column that rows are divided by, as JSON, and how many rows of its stratum were wanted.

    `stratum` is that value, or None where no quota names it: then the stratum holds all such rows. `place` is the row's
    among the preferences of the stratum that could be chosen, from 1; None where it is not among the preferences.
    """

    column: str
    value: str
    stratum: str | None
    wanted: int
    place: int | None = None


@dataclass(frozen=True)
class Near:
    """The chosen row that is nearly the same, by its number in the pool and its id, and the cosine."""

    row: int
    id: str
    cosine: float


@dataclass(frozen=True)
class Target:
    """How near the row is to the examples of a target: its place on the shortlist, None where it is not on it.

    `example` is the row of the examples' file that took it, else the nearest one; `cosine` is that of the two; `score`
    is the mean of the row's three best cosines to examples.
    """

    place: int | None
    example: int
    cosine: float
    score: float


@dataclass(frozen=True)
class Decision:
    """Whether the row was chosen, at which place of the selection, and why or why not, in a word.

    Chosen: `rank`, its rank was good enough; `tournament` or `score`, the budget cut its tier, and that put it high
    enough; `rating`, it is among the best rated; else the reason of a strategy that asks no model, such as `length` or
    `random`. Not chosen: `tier`, the budget was full at a better rank; `place`, others came first; `unranked`, the
    model named others of its query; `unnamed`, the strategy named others; `abstained`, no answer could be used;
    `refused`, the model's provider refused its content; `passed_over`, it is nearly the same as the chosen row `near`;
    `off_target`, it is not on the shortlist of the rows that are near to examples; `excluded`; `quarantined`;
    `unknown`, the run's tables do not say why.

    `tier` is the worst rank that the budget reached. Of the `rows` of that rank that could be chosen, `taken` were, and
    `place` is the row's own among them, from 1; with ratings, without ranks or with a `spread` it is the row's among
    all preferences that could be chosen.
    """

    chosen: bool
    why: str
    reason: str | None = None  # why it was quarantined or excluded
    order: int | None = None
    tier: int | None = None
    rows: int | None = None
    taken: int | None = None
    place: int | None = None
    near: Near | None = None
    spread: Spread | None = None
    share: Share | None = None  # where values of a column had their numbers of rows


@dataclass(frozen=True)
class Explanation:
    """A row's way through a run that chose `selected` rows; a quarantined row has no id, and came no further."""

    run: str
    strategy: str
    selected: int
    model: str  # empty where no model ranked
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
    rating: float | None = None  # of the row, where rows were gathered by ratings, and what is not known of it
    spread: float | None = None
    looks: tuple[Look, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)  # by dimension, where rows were asked about alone
    reason: str | None = None  # why it is worth it, in the model's words, where it was asked for them
    target: Target | None = None  # where examples said what to choose, of a row that could be chosen
    origin: str = ""  # the row's file and its number there, where the pool is of several files

    def record(self) -> dict[str, Any]:
        """The explanation as JSON takes it."""
        return asdict(self)
