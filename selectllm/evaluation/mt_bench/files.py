"""FastChat's files: model_answer and model_judgment, as it lays them out.

The shapes are those of lm-sys/FastChat, fastchat/llm_judge. A failed rating is -1 there, a failed verdict "error".
Nothing depends on the clock, so that the same judgments give the same file: `tstamp` is 0.
"""

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any, Final

import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.evaluation.answers.written import json_lines, model_answer_line
from selectllm.evaluation.mt_bench.prompts import Kind
from selectllm.evaluation.mt_bench.questions import Dialogue, Turns, number_of, read_rows
from selectllm.paths import redact_url
from selectllm.schemas import MT_BENCH_JUDGMENTS

Rows = Sequence[Mapping[str, Any]]

WINNERS: Final = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}


def file_name(name: str) -> str:
    """A model's or a judge's name, as a file can be called."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"


def model_answer(name: str, answers: Mapping[str, Turns]) -> bytes:
    """A model_answer file; a question without all its answers has no line."""
    whole = {id: turns for id, turns in answers.items() if turns and None not in turns}
    return json_lines(
        [model_answer_line(id, name, [{"index": 0, "turns": list(turns)}]) for id, turns in whole.items()]
    )


def model_judgment(judgments: pa.Table, judge: str, kind: Kind) -> bytes:
    """A model_judgment file: a line for each rating, or for both orders of a comparison."""
    rows = judgments.to_pylist()
    if kind == "single":
        return json_lines([_single(row, judge) for row in rows])
    by_place: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["question_id"], row["turn"], "\0".join(sorted((row["model"], row["other"]))))
        by_place.setdefault(key, []).append(row)
    return json_lines([_pair(games, judge) for games in by_place.values() if len(games) == 2])


def read_judgments(location: str, dialogues: Sequence[Dialogue], models: Set[str], kind: Kind) -> pa.Table:
    """MT_BENCH_JUDGMENTS out of a model_judgment file: those of these models and questions.

    Raises UsageError where there are none, or where one of them is there twice.
    """
    found: dict[tuple[str, int, str, str | None], dict[str, Any]] = {}
    known = {one.id for one in dialogues}
    for row in read_rows(location):
        for one in _singles(row) if kind == "single" else _games(row):
            names = {one["model"], one["other"]} - {None}
            if one["question_id"] not in known or not names <= models:
                continue
            key = (one["question_id"], one["turn"], one["model"], one["other"])
            if found.setdefault(key, one) != one:
                raise UsageError(f"{redact_url(location)} judges question {key[0]}, turn {key[1]} twice: keep one")
    if not found:
        raise UsageError(f"{redact_url(location)} has no judgment of these models and questions, by --judging {kind}")
    return pa.Table.from_pylist(list(found.values()), schema=MT_BENCH_JUDGMENTS)


def _number(id: str) -> int | str:
    return int(id) if id.isascii() and id.isdecimal() else id


def _single(row: Mapping[str, Any], judge: str) -> dict[str, Any]:
    about = {"question_id": _number(row["question_id"]), "model": row["model"], "judge": [judge, row["prompt"]]}
    score = -1 if row["score"] is None else row["score"]
    said = {"user_prompt": "", "judgment": row["judgment"] or "", "score": score}
    return about | said | {"turn": row["turn"], "tstamp": 0.0}


def _pair(games: Rows, judge: str) -> dict[str, Any]:
    first, second = games
    about = {"question_id": _number(first["question_id"]), "model_1": first["model"], "model_2": first["other"]}
    swapped = None if second["score"] is None else 1 - second["score"]
    winners = {"g1_winner": _winner(first["score"]), "g2_winner": _winner(swapped)}
    said = {"judge": [judge, first["prompt"]], "g1_user_prompt": "", "g1_judgment": first["judgment"] or ""}
    said |= {"g2_user_prompt": "", "g2_judgment": second["judgment"] or ""}
    return about | winners | said | {"turn": first["turn"], "tstamp": 0.0}


def _winner(score: float | None) -> str:
    return next((name for name, wins in WINNERS.items() if wins == score), "error")


def _singles(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    score = row.get("score")
    is_rating = isinstance(score, (int, float)) and not isinstance(score, bool) and 1 <= score <= 10
    if not isinstance(row.get("model"), str):
        return []
    return [_row(row, (row["model"], None), float(score) if is_rating and score is not None else None, "judgment")]


def _games(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    first, second = row.get("model_1"), row.get("model_2")
    if not isinstance(first, str) or not isinstance(second, str):
        return []
    one, two = (WINNERS.get(str(row.get(name))) for name in ("g1_winner", "g2_winner"))
    swapped = None if two is None else 1 - two
    return [_row(row, (first, second), one, "g1_judgment"), _row(row, (second, first), swapped, "g2_judgment")]


def _row(row: Mapping[str, Any], models: tuple[str, str | None], score: float | None, said: str) -> dict[str, Any]:
    judge, turn = row.get("judge"), row.get("turn")
    prompt = str(judge[1]) if isinstance(judge, list) and len(judge) > 1 else ""
    about = {"question_id": number_of(row.get("question_id")), "turn": int(turn) if turn in (1, 2) else 1}
    words = row.get(said) if isinstance(row.get(said), str) else None
    about |= {"model": models[0], "other": models[1], "prompt": prompt}
    return about | {"score": score, "judgment": words, "reply": None}
