"""Reads rows with answers: training files in the layouts of `annotations`, and pools with a column of outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from selectllm.errors import PoolError
from selectllm.export.turns import Message, prompt_of
from selectllm.pool import Columns, fetch, first_reasons, parse
from selectllm.pool.chats import Turn, is_blank, is_chat, read_turns
from selectllm.pool.formats import shown_name
from selectllm.pool.layouts import chat_columns
from selectllm.pool.records import values
from selectllm.pool.rows import InvalidRow
from selectllm.settings import ROLES

NO_ANSWER: Final = "no answer"


@dataclass(frozen=True)
class Example:
    """A row with its answer; `id` is the row's, and `messages` end with the user's turn that is answered."""

    id: str
    messages: tuple[Message, ...]
    answer: str


@dataclass(frozen=True)
class Examples:
    """The rows of a file that have answers, in its order; the others by row number, each with a reason; its digest."""

    rows: tuple[Example, ...]
    left_out: Mapping[int, str]
    digest: str


def read_examples(location: str, columns: Columns) -> Examples:
    """Read rows with answers from a file in any format of a pool.

    The answer is the column of outputs where there is one, else the last turn of the conversation, which must be the
    assistant's. Raises PoolError where the file cannot be read or no row has an answer.
    """
    file = fetch(location)
    parsed = parse(file, columns)
    records = parsed.records
    chats = {name: values(records.columns[name]) for name in chat_columns(records.columns)}
    places = {row: place for place, row in enumerate(records.rows)}
    left_out, rows = dict(parsed.faults), list[Example]()
    for row in parsed.table.to_pylist():
        place = places[row["row"]]
        chat = next((cells[place] for cells in chats.values() if is_chat(cells[place])), None)
        example = _of_texts(row) if row["output"] or chat is None else _of_chat(row["id"], chat, columns.roles)
        if isinstance(example, str):
            left_out[row["row"]] = example
        else:
            rows.append(example)
    left_out = dict(sorted(left_out.items()))
    if not rows:
        raise PoolError(
            f"{shown_name(location)} has no row with an answer: {first_reasons(left_out.items())}. Give a file that "
            "`selectllm annotations --to` wrote, or name the column of answers with --output-column"
        )
    return Examples(tuple(rows), left_out, file.digest)


def _of_texts(row: Mapping[str, Any]) -> Example | str:
    """An example, or the reason why a row is none."""
    if is_blank(row["output"]):
        return NO_ANSWER
    prompt = prompt_of(row["instruction"], row["input"])
    return Example(row["id"], ({"role": "user", "content": prompt},), row["output"])


def _of_chat(id: str, chat: Any, roles: Mapping[str, str]) -> Example | str:
    try:
        turns: Sequence[Turn] = read_turns(chat, roles)
    except InvalidRow as invalid:
        return str(invalid.args[0])
    if not all(turn.role in ROLES and isinstance(turn.content, str) for turn in turns):
        return "a turn that is no text of a user, an assistant or a system"
    *before, last = turns
    if last.role != "assistant" or is_blank(last.content):
        return NO_ANSWER
    if not before or before[-1].role != "user":
        return "the answer follows no turn of the user"
    return Example(id, tuple({"role": turn.role, "content": turn.content} for turn in before), last.content)
