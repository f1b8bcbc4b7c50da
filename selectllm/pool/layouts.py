"""Which columns of a file mean what: names from the caller first, then the layouts that are in common use."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from selectllm.errors import PoolError
from selectllm.pool.chats import ROLES
from selectllm.pool.formats import shown_name
from selectllm.text import join_names, one_line


@dataclass(frozen=True)
class Columns:
    """The columns that a caller names; None leaves one to be recognised.

    Of a conversation, `turn` says which user turn is to be answered, "first" or "last", and `role_map` what the tags of
    its turns mean, such as "user=human,assistant=bot".
    """

    instruction: str | None = None
    input: str | None = None
    output: str | None = None
    turn: str = "last"
    role_map: str | None = None

    @cached_property
    def roles(self) -> Mapping[str, str]:
        """What each tag of a turn means."""
        pairs = [pair.partition("=") for pair in (self.role_map or "").split(",") if pair]
        return {**ROLES, **{tag.strip().casefold(): role.strip() for role, _, tag in pairs}}


@dataclass(frozen=True)
class Layout:
    """The columns of a row's instruction, input and output, and of what stood before: a system prompt and a history.

    Of a layout that `is_chat`, the instruction's column holds conversations; else it may, where its values say so.
    """

    name: str
    instruction: str
    input: str | None = None
    output: str | None = None
    system: str | None = None
    history: str | None = None
    is_chat: bool = False

    @cached_property
    def texts(self) -> frozenset[str | None]:
        """The columns of the texts."""
        return frozenset({self.instruction, self.input, self.output})

    @property
    def columns(self) -> list[str]:
        """All columns that the layout reads."""
        named = (self.instruction, self.input, self.output, self.system, self.history)
        return [name for name in named if name is not None]


class ColumnsMissing(Exception):
    """Columns that texts come from are not there; its arguments: what is wrong with the file, and the columns."""


@dataclass(frozen=True)
class _Known:
    """A layout's name, and candidates for the columns of its input and its output, best first."""

    name: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    is_chat: bool = False


_MESSAGES: Final = _Known("messages", is_chat=True)
_KNOWN: Final[dict[str, _Known]] = {
    "instruction": _Known("instruction", ("input", "context", "query"), ("output", "response")),
    "prompt": _Known("prompt", (), ("completion", "response", "output")),
    "messages": _MESSAGES,
    "conversations": _MESSAGES,
    "conversation": _MESSAGES,
    "dialogs": _MESSAGES,
    "dialog": _MESSAGES,
    "dialogue": _MESSAGES,
    "contents": _MESSAGES,
    "body": _MESSAGES,  # a file of OpenAI's batches
    "request": _MESSAGES,  # a file of Gemini's batches
    "query": _Known("query", (), ("response",)),
    "question": _Known("question", ("context",), ("answer",)),
}
"""The layouts by the column of their instructions, best first."""

_SHOWN: Final = ("instruction", "prompt", "messages", "conversations", "query", "question")
_NAMED: Final = _Known("columns", ("input", "context"), ("output", "response", "completion"))
_SYSTEMS: Final = ("system", "system_prompt", "systemInstruction", "system_instruction")


def recognise(names: Collection[str], columns: Columns, location: str) -> tuple[Layout, ...]:
    """The layouts of a file whose rows have `names` for keys, best first: each row is read by the first that fits it.

    Names are compared as they are. Those that are known only without capitals and spaces around them come behind: files
    that are read together, or rows of one file, may spell one name in several ways.
    Raises ColumnsMissing where none fits, PoolError where the caller names one column twice.
    """
    existing = _existing(names)
    named = [name for name in (columns.instruction, columns.input, columns.output) if name is not None]
    if missing := [name for name in named if name not in names]:
        raise ColumnsMissing(f"has no column {one_line(missing[0])!r}. {existing}", tuple(missing))
    if len(set(named)) < len(named):
        raise PoolError(
            f"One column of {shown_name(location)} cannot be two of instruction, input and output. Name different ones."
        )
    exact = {name: name for name in names}
    if columns.instruction is not None:
        return (_layout(_NAMED, columns.instruction, exact, columns),)
    layouts = [_layout(known, name, exact, columns) for name, known in _KNOWN.items() if name in exact]
    if not layouts:
        folded = {_folded(name): name for name in names}
        layouts = [_layout(known, folded[key], folded, columns) for key, known in _KNOWN.items() if key in folded]
    found = {*named, *(layout.instruction for layout in layouts)}
    for key, known in _KNOWN.items():
        for name in names:
            if _folded(name) == key and name not in found:
                layouts.append(_layout(known, name, _spelled_like(name, names), columns))
    if layouts:
        return tuple(layouts)
    raise ColumnsMissing(
        f"has none of the columns {join_names(_SHOWN)}. {existing} "
        "Name the one that holds the instructions or the conversations with --instruction-column.",
        ("instruction",),
    )


def refuse_strangers(files: Iterable[tuple[str, Collection[str]]], columns: Columns, location: str) -> None:
    """Raise PoolError for the first of the files of a pool, each with its columns, that has none that rows are read by.

    Where none of the files has any, the pool is refused as a whole, and not here.
    """
    named = list(files)
    try:
        layouts = recognise(list(dict.fromkeys(name for _, own in named for name in own)), columns, location)
    except ColumnsMissing:
        return
    read = {layout.instruction for layout in layouts} | {*layouts[0].columns} - {layouts[0].output}
    for name, own in named:
        if read.isdisjoint(own):
            wanted = columns.instruction
            lack = f"has no column {one_line(wanted)!r}" if wanted else f"has none of the columns {join_names(_SHOWN)}"
            raise PoolError(
                f"{name} {lack}, though other files of {shown_name(location)} can be read. {_existing(own)} "
                "Leave this file out, or rename its columns."
            )


def chat_columns(names: Collection[str]) -> list[str]:
    """The columns of a file that hold conversations by their names."""
    return [name for name, known in _KNOWN.items() if known.is_chat and name in names]


def _existing(names: Collection[str]) -> str:
    shown = [repr(name) if name != name.strip() else name for name in names]
    return f"Its columns are {join_names(shown)}." if names else "Its rows have no columns at all."


def _folded(name: str) -> str:
    return name.strip().casefold()


def _spelled_like(name: str, names: Collection[str]) -> dict[str, str]:
    """The names by their words in small letters; of several spellings that of `name`, else one other than the words."""

    def likeness(other: str) -> tuple[bool, bool]:
        return _spelling(other) == _spelling(name), other != _folded(other)

    return {_folded(other): other for other in sorted(names, key=likeness)}


def _spelling(name: str) -> tuple[bool, bool, bool]:
    return name.isupper(), name.istitle(), name != name.strip()


def _layout(known: _Known, instruction: str, by_key: Mapping[str, str], columns: Columns) -> Layout:
    taken = {instruction, columns.input, columns.output}

    def first(candidates: tuple[str, ...]) -> str | None:
        name = next((by_key[name] for name in candidates if name in by_key and by_key[name] not in taken), None)
        taken.add(name)
        return name

    input_ = columns.input or first(known.inputs)
    output = columns.output or first(known.outputs)
    return Layout(known.name, instruction, input_, output, first(_SYSTEMS), first(("history",)), known.is_chat)
