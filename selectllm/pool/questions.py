"""What one row asks: its texts, out of the columns of its layout."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from selectllm.pool.chats import Turn, is_blank, is_chat, question_of, read_turns, transcript
from selectllm.pool.layouts import Columns, Layout
from selectllm.pool.rows import InvalidRow, is_missing

Cells = Mapping[str, Any]


class Question(NamedTuple):
    """A row's texts, not yet checked; and the columns whose whole values are stored as these texts."""

    instruction: Any
    input: Any
    output: Any
    stored: frozenset[str | None]


def layout_of(cells: Cells, layouts: Sequence[Layout]) -> Layout:
    """The first layout that a row has a value for, else the first of the file."""
    if len(layouts) == 1:
        return layouts[0]
    return next((layout for layout in layouts if not is_missing(cells[layout.instruction])), layouts[0])


def read_question(cells: Cells, layout: Layout, columns: Columns) -> Question:
    """What a row asks; of a conversation the turn to be answered, with a transcript of what stood before as its input.

    A question that stands in the input of an empty instruction is the instruction. Raises InvalidRow.
    """
    asked = cells[layout.instruction]
    input_ = cells[layout.input] if layout.input else None
    output = cells[layout.output] if layout.output else None
    stored = layout.texts
    before = _before(cells, layout, columns) if layout.system or layout.history else []
    if layout.is_chat or is_chat(asked) or (layout.name == "columns" and isinstance(asked, (list, dict))):
        stored = _without(stored, layout.instruction)
        asked, context = question_of([*before, *read_turns(asked, columns.roles)], columns.turn)
    else:
        context = transcript(before) if before else None
        if is_blank(asked) and isinstance(input_, str) and input_.strip():
            asked, input_ = input_, None
    if context:
        if is_blank(input_):
            input_ = context
        elif isinstance(input_, str):
            input_, stored = f"{context}\n\n{input_}", _without(stored, layout.input)
    return Question(asked, input_, output, stored)


@cache
def _without(columns: frozenset[str | None], column: str | None) -> frozenset[str | None]:
    return columns - {column}


def _before(cells: Cells, layout: Layout, columns: Columns) -> list[Turn]:
    """The system prompt and the earlier turns that stand in columns of their own."""
    system, history = (cells[name] if name else None for name in (layout.system, layout.history))
    turns = [] if is_blank(system) else _system(system)
    if isinstance(history, list) or is_chat(history):
        turns += read_turns(history, columns.roles)
    return turns


def _system(system: Any) -> list[Turn]:
    if isinstance(system, str):
        return [Turn("system", "system", system)]
    try:
        return [Turn("system", "system", turn.content) for turn in read_turns({"role": "system", **system})]
    except (InvalidRow, TypeError):
        return []
