"""What judgments come to: for each model by category and turn, with intervals over questions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from selectllm.evaluation.answers.estimates import Scores, as_values, differences, estimate
from selectllm.evaluation.mt_bench.judge import Bench
from selectllm.evaluation.mt_bench.prompts import Kind
from selectllm.evaluation.mt_bench.questions import Dialogue

ALL: Final = "all"


def summarise(judgments: pa.Table, bench: Bench, kind: Kind) -> dict[str, Any]:
    """Scores of all models, of each category and turn and of all together; and, of ratings, the models' differences.

    A rating is 1 to 10. In pairwise mode the score is the share of wins over the first model, ties counting half: a win
    is one that both orders agree on. A model's interval is over questions, by the mean over a question's turns. What
    has no usable judgment is `failed`, what has no answer `missing`: neither is scored.
    """
    rows = judgments.to_pylist()
    names = list(bench.answers) if kind == "single" else list(bench.answers)[1:]
    by_model = {name: _ratings(rows, name) if kind == "single" else _wins(rows, name) for name in names}
    found = []
    for name in names:
        judged = {(row["question_id"], row["turn"]) for row in rows if name in (row["model"], row["other"])}
        for category, turn, holds in _groups(bench.dialogues):
            wanted = [place for place in _places(bench.dialogues) if holds(*place)]
            keys = [(one.id, turn) for one, turn in wanted]
            scores = {key: by_model[name][key] for key in keys if key in by_model[name]}
            own = as_values(estimate(name, "rating" if kind == "single" else "wins", scores, len(keys)))
            del own["by_seed"]
            missing = sum(key not in judged for key in keys)
            own |= {"category": category, "turn": turn, "missing": missing}
            found.append(own | {"failed": len(keys) - len(scores) - missing})
    pairs = [as_values(one) for one in differences("rating", by_model)] if kind == "single" else []
    for pair in pairs:
        del pair["over_seeds"]
    return {"scores": found, "differences": pairs}


def _ratings(rows: Sequence[Mapping[str, Any]], name: str) -> Scores:
    return {
        (row["question_id"], row["turn"]): row["score"]
        for row in rows
        if row["model"] == name and row["other"] is None and row["score"] is not None
    }


def _wins(rows: Sequence[Mapping[str, Any]], name: str) -> Scores:
    """What a model wins at each turn: as both orders say; half where they differ, nothing where one failed."""
    by_place: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if name in (row["model"], row["other"]) and row["score"] is not None:
            is_first = row["model"] == name
            place = by_place.setdefault((row["question_id"], row["turn"]), {})
            place["first" if is_first else "second"] = row["score"] if is_first else 1 - row["score"]
    return {
        place: games["first"] if games["first"] == games["second"] else 0.5
        for place, games in by_place.items()
        if len(games) == 2
    }


Holds = Callable[[Dialogue, int], bool]


def _groups(dialogues: Sequence[Dialogue]) -> Iterator[tuple[str, int | None, Holds]]:
    """All together, each turn, each category, and each turn of each category."""
    turns = (None, *range(1, max(len(one.turns) for one in dialogues) + 1))
    for category in (ALL, *dict.fromkeys(one.category for one in dialogues)):
        for turn in turns:
            yield category, turn, _holds(category, turn)


def _holds(category: str, turn: int | None) -> Holds:
    return lambda one, place: category in (ALL, one.category) and turn in (None, place)


def _places(dialogues: Sequence[Dialogue]) -> Iterator[tuple[Dialogue, int]]:
    return ((one, turn) for one in dialogues for turn in range(1, len(one.turns) + 1))
