"""What a row asks, as one text for people and as turns for models."""

import re
from typing import Any, Final

from selectllm.pool import Columns
from selectllm.pool.chats import is_chat, read_turns, transcript
from selectllm.pool.layouts import chat_columns
from selectllm.pool.rows import InvalidRow
from selectllm.settings import ROLES

Message = dict[str, str]

_TRANSCRIPT: Final = re.compile(r"(System|User|Assistant): ")


def prompt_of(instruction: str, input: str | None) -> str:
    """What is to be answered, in one text: the instruction, a blank line and the input.

    An input that begins as the transcript of a conversation does stands before the instruction, which is its last turn.
    """
    if not input:
        return instruction
    is_transcript = _TRANSCRIPT.match(input)
    return f"{input}\n\nUser: {instruction}" if is_transcript else f"{instruction}\n\n{input}"


def messages_of(row: dict[str, Any], columns: Columns) -> list[Message]:
    """What a row asks as turns with a role and a content, the last one the user's.

    A row of a conversation has the turns that it had, where the column that holds them was carried along whole.
    Any other row is one turn of the user.
    """
    for name in chat_columns(row):
        if turns := _turns(row, row[name], columns):
            return turns
    return [{"role": "user", "content": prompt_of(row["instruction"], row["input"])}]


def _turns(row: dict[str, Any], conversation: Any, columns: Columns) -> list[Message]:
    """A conversation up to the row's instruction; none where it does not say exactly what the row's texts say."""
    if not is_chat(conversation):
        return []
    try:
        turns = read_turns(conversation, columns.roles)
    except InvalidRow:
        return []
    places = [place for place, turn in enumerate(turns) if turn.content == row["instruction"] and turn.role == "user"]
    for place in places:
        before = turns[: place + 1]
        is_plain = all(turn.role in ROLES and isinstance(turn.content, str) for turn in before)
        if is_plain and transcript(turns[:place]) == row["input"]:
            return [{"role": turn.role, "content": turn.content} for turn in before]
    return []
