"""What one row asks: its texts, out of the columns of its layout."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from selectllm.pool.chats import Turn, is_chat, question_of, read_turns, transcript
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
    return next((layout for layout in layouts if not is_missing(cells[layout.instruction])), layouts[0])


def read_question(cells: Cells, layout: Layout, columns: Columns) -> Question:
    """What a row asks; of a conversation the turn to be answered, with a transcript of what stood before as its input.

    A question that stands in the input of an empty instruction is the instruction. Raises InvalidRow.
    """
    asked, input_, output = (
        cells[name] if name else None for name in (layout.instruction, layout.input, layout.output)
    )
    input_ = None if is_missing(input_) else input_
    stored: set[str | None] = {layout.instruction, layout.input, layout.output}
    before = _before(cells, layout, columns)
    if layout.is_chat or is_chat(asked) or (layout.name == "columns" and isinstance(asked, (list, dict))):
        stored.remove(layout.instruction)
        asked, context = question_of([*before, *read_turns(asked, columns.roles)], columns.turn)
    else:
        context = transcript(before)
        if _is_blank(asked) and isinstance(input_, str) and input_.strip():
            asked, input_ = input_, None
    if context and (input_ is None or isinstance(input_, str)):
        input_ = f"{context}\n\n{input_}" if input_ and input_.strip() else context
        stored.discard(layout.input)
    return Question(asked, input_, output, frozenset(stored))


def _before(cells: Cells, layout: Layout, columns: Columns) -> list[Turn]:
    """The system prompt and the earlier turns that stand in columns of their own."""
    system, history = (cells[name] if name else None for name in (layout.system, layout.history))
    turns = [] if _is_blank(system) else _system(system)
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


def _is_blank(value: object) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())
