"""The sheet of MT-Bench: scores of all models, by category and turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from selectllm.evaluation.mt_bench.scores import ALL
from selectllm.evaluation.page.sheet import Mark, Picture, Sheet, Table

Row = Mapping[str, Any]

COLUMNS: Final = ("score", "95 % interval", "judged", "failed", "missing")

ABOUT: Final = {
    "single": "The judge's rating of an answer, from 1 to 10, over questions and turns.",
    "pairwise": "The share of wins over the first model, ties counting half: 0.5 is as good as that model.",
}
NOTES: Final = (
    "Intervals: 95 %, by a bootstrap over questions. They say what other questions of this kind would have given, and "
    "nothing of another tuning. A category has few questions, and a wide interval.",
    "A judgment that cannot be used has failed, and where an answer is missing none is asked for. Neither is scored.",
    "Scores by one judge do not compare with those by another judge, or by other prompts.",
)


def mt_bench_sheet(record: Mapping[str, Any]) -> Sheet:
    """What a benchmark's record says."""
    mode, scores = record["judging"], record["scores"]
    unit = "rating, 1 to 10" if mode == "single" else "share of wins"
    middle = None if mode == "single" else 0.5
    tables = [
        _scores("All questions", scores, ABOUT[mode], lambda row: row["category"] == ALL),
        _scores("By category", scores, "", lambda row: row["category"] != ALL and row["turn"] is None),
        _scores("By category and turn", scores, "", lambda row: row["category"] != ALL and row["turn"] is not None),
        _differences(record["differences"]),
        Table(
            "Answers",
            ["model", "answered", "missing"],
            [[name, f"{one['answered']:,}", f"{one['missing']:,}"] for name, one in record["answers"].items()],
        ),
    ]
    nothing = [] if scores else ["Nothing is judged yet: name a --judge, or a file of --judgments."]
    return Sheet(
        "MT-Bench",
        {
            "Questions": f"{record['questions']:,}",
            "Judging": "each answer is rated" if mode == "single" else "pairs, in both orders",
            "Judge": record["judge"] or ("from a file of judgments" if scores else "none"),
        },
        [
            Picture("How good are the answers?", unit, _marks(scores, overall=True), middle),
            Picture("In which categories?", unit, _marks(scores, overall=False), middle),
            Picture("Do the models differ?", "mean difference of ratings", _pairs(record["differences"]), 0.0),
        ],
        [table for table in tables if table.rows],
        [*nothing, *NOTES],
    )


def _scores(title: str, scores: Sequence[Row], about: str, holds: Callable[[Row], bool]) -> Table:
    rows = [
        [
            row["model"],
            "all" if row["category"] == ALL else row["category"],
            str(row["turn"] or "all"),
            "-" if row["mean"] is None else f"{row['mean']:.2f}",
            _interval(row["interval"], ".2f"),
            *(f"{row[name]:,}" for name in ("scored", "failed", "missing")),
        ]
        for row in scores
        if holds(row)
    ]
    return Table(title, ["model", "category", "turn", *COLUMNS], rows, about, names=3)


def _differences(pairs: Sequence[Row]) -> Table:
    rows = [
        [f"{row['first']} − {row['second']}", f"{found['mean']:+.2f}", _interval(found, "+.2f"), f"{found['pairs']:,}"]
        for row in pairs
        if (found := row["over_questions"])
    ]
    about = "Over the questions that both are judged on. An interval that leaves out 0 is a difference."
    return Table("Differences of models", ["difference", "mean", "95 % interval", "questions"], rows, about)


def _marks(scores: Sequence[Row], *, overall: bool) -> list[Mark]:
    return [
        Mark("" if overall else row["category"], row["model"], row["mean"], *_ends(row["interval"]))
        for row in scores
        if (row["category"] == ALL) is overall and row["turn"] is None and row["mean"] is not None
    ]


def _pairs(pairs: Sequence[Row]) -> list[Mark]:
    return [
        Mark("", f"{row['first']} − {row['second']}", found["mean"], *_ends(found))
        for row in pairs
        if (found := row["over_questions"])
    ]


def _ends(interval: Mapping[str, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval["low"], interval["high"])


def _interval(interval: Mapping[str, float] | None, form: str) -> str:
    return "-" if interval is None else f"{interval['low']:{form}} to {interval['high']:{form}}"
