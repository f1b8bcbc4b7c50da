"""Which columns of a file mean what: names from the caller first, then the layouts that are in common use."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from selectllm.errors import PoolError
from selectllm.pool.formats import shown_name
from selectllm.pool.rows import INSTRUCTION_IS_TEXT, PRESENT, InvalidRow
from selectllm.text import join_names, one_line, type_name


@dataclass(frozen=True)
class Columns:
    """The columns that a caller names; None leaves one to be recognised."""

    instruction: str | None = None
    input: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Layout:
    """The columns of each row's instruction, input and output, and the name of the layout, as in Pool.layout."""

    name: str
    texts: tuple[str, str | None, str | None]

    @property
    def mapped(self) -> set[str | None]:
        """The columns that are wholly stored as texts; of a conversation, the first user turn is only a part."""
        return set(self.texts[1:] if self.name == "messages" else self.texts)


class ColumnsMissing(Exception):
    """Columns that texts come from are not there; its arguments: what is wrong with the file, and the columns."""


_Known: TypeAlias = tuple[str, tuple[str, ...], tuple[str, ...]]
_KNOWN: Final[dict[str, _Known]] = {
    "instruction": ("instruction", ("input", "context"), ("output", "response")),
    "prompt": ("prompt", (), ("completion", "response", "output")),
    "messages": ("messages", (), ()),
    "conversations": ("messages", (), ()),
}
"""By the instructions' column: a layout's name, and candidates for the input's and the output's column, best first."""

_NAMED: Final[_Known] = ("columns", ("input", "context"), ("output", "response", "completion"))


def recognise(names: Collection[str], columns: Columns, location: str) -> Layout:
    """The layout of a file whose rows have `names` for keys.

    Raises ColumnsMissing where none fits, PoolError where the caller names one column twice.
    """
    existing = f"Its columns are {join_names(names)}." if names else "Its rows have no columns at all."
    named = [name for name in (columns.instruction, columns.input, columns.output) if name is not None]
    if missing := [name for name in named if name not in names]:
        raise ColumnsMissing(f"has no column {one_line(missing[0])!r}. {existing}", tuple(missing))
    if len(set(named)) < len(named):
        raise PoolError(
            f"One column of {shown_name(location)} cannot be two of instruction, input and output. Name different ones."
        )
    instruction = columns.instruction
    layout, inputs, outputs = _NAMED
    if instruction is None:
        instruction = next((name for name in _KNOWN if name in names), None)
        if instruction is None:
            raise ColumnsMissing(
                f"has none of the columns {join_names(_KNOWN)}. {existing} "
                "Name the one that holds the instructions with --instruction-column.",
                ("instruction",),
            )
        layout, inputs, outputs = _KNOWN[instruction]
    free = set(names) - {instruction, *named}
    input_ = columns.input or next((name for name in inputs if name in free), None)
    output = columns.output or next((name for name in outputs if name in free - {input_}), None)
    return Layout(layout, (instruction, input_, output))


def first_user_turn(conversation: object) -> Any:
    """The content of the first user turn in a list of {role, content} or {from, value}, not yet checked to be text.

    Content in parts is the text of its text parts, joined by newlines. Raises InvalidRow where there is no user turn.
    """
    if conversation is None:
        raise InvalidRow("no messages", PRESENT)
    if not isinstance(conversation, list):
        raise InvalidRow(f"the messages are not a list but {type_name(conversation)}", INSTRUCTION_IS_TEXT)
    for turn in conversation:
        if isinstance(turn, dict) and (turn.get("role") or turn.get("from")) in ("user", "human"):
            content = turn.get("content")
            content = turn.get("value") if content is None else content
            if not isinstance(content, list):
                return content
            texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
            return "\n".join(text for text in texts if isinstance(text, str))
    raise InvalidRow("no user turn", PRESENT)
