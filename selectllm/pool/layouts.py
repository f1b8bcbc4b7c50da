"""Which columns of a file mean what: names from the caller first, then the layouts that are in common use."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from selectllm.errors import PoolError
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
    """The columns that hold each row's texts; `name` is "instruction", "prompt", "messages" or "columns"."""

    name: str
    instruction: str
    input: str | None
    output: str | None

    @property
    def mapped(self) -> set[str]:
        """The columns that are wholly stored as texts; of a conversation, the first user turn is only a part."""
        whole = (self.instruction if self.name != "messages" else None, self.input, self.output)
        return {column for column in whole if column is not None}


class ColumnsMissing(PoolError):
    """Columns that texts are to come from are not there; `fault` is the message without the file's name."""

    def __init__(self, location: str, fault: str, columns: tuple[str, ...]) -> None:
        super().__init__(f"{location} {fault}")
        self.fault, self.columns = fault, columns


@dataclass(frozen=True)
class _Known:
    """A layout in common use: candidates for the input's and the output's column stand in order of preference."""

    name: str
    instruction: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


_KNOWN: Final = (
    _Known("instruction", "instruction", ("input", "context"), ("output", "response")),
    _Known("prompt", "prompt", (), ("completion", "response", "output")),
    _Known("messages", "messages"),
    _Known("messages", "conversations"),
)


def recognise(names: Collection[str], columns: Columns, location: str) -> Layout:
    """The layout of a file whose rows have `names` for keys.

    Raises ColumnsMissing where none fits, PoolError where the caller names one column twice.
    """
    named = [name for name in (columns.instruction, columns.input, columns.output) if name is not None]
    if missing := tuple(name for name in named if name not in names):
        raise ColumnsMissing(location, f"has no column {one_line(missing[0])!r}. {_existing(names)}", missing)
    if len(set(named)) < len(named):
        raise PoolError(
            f"One column of {location} cannot be two of instruction, input and output. Name different ones."
        )
    if columns.instruction is not None:
        known = _Known("columns", columns.instruction, ("input", "context"), ("output", "response", "completion"))
    else:
        known = _recognised(names, location)
    free = set(names) - {known.instruction, *named}
    input_ = columns.input or next((name for name in known.inputs if name in free), None)
    output = columns.output or next((name for name in known.outputs if name in free - {input_}), None)
    return Layout(known.name, known.instruction, input_, output)


def _recognised(names: Collection[str], location: str) -> _Known:
    for known in _KNOWN:
        if known.instruction in names:
            return known
    expected = join_names(known.instruction for known in _KNOWN)
    raise ColumnsMissing(
        location,
        f"has none of the columns {expected}. {_existing(names)} "
        "Name the one that holds the instructions with --instruction-column.",
        ("instruction",),
    )


def _existing(names: Collection[str]) -> str:
    return f"Its columns are {join_names(names)}." if names else "Its rows have no columns at all."


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
            return _joined(content) if isinstance(content, list) else content
    raise InvalidRow("no user turn", PRESENT)


def _joined(parts: list[Any]) -> str:
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "\n".join(text for text in texts if isinstance(text, str))
