"""What all commands print in the same way."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Group, Parameter

from selectllm.errors import RunError
from selectllm.execution import Progress
from selectllm.text import escape_unprintable

if TYPE_CHECKING:
    from rich.progress import TaskID

OUTPUT: Final = Group("Output", sort_key=8)
"""The options of a command that say how its result is printed."""

Json = Annotated[
    bool,
    Parameter(group=OUTPUT, help="Print the result as JSON on stdout, and nothing else there."),
]


@contextmanager
def printing() -> Iterator[None]:
    """Turn errors of stdout into RunError; one whose reader is gone stays a BrokenPipeError, which is no failure."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunError(f"the result cannot be printed: {error.strerror}. It is kept in the store") from error


def print_text(text: str) -> None:
    """Print lines of text at once."""
    with printing():
        print(text, flush=True)


def print_either(record: object, text: str, *, json: bool) -> None:
    """Print a result as JSON, or as a text for people."""
    if json:
        print_json(record)
    else:
        print_text(text)


def print_json(value: object) -> None:
    """Print a value as JSON that people can read; characters that could move a terminal are written as escapes."""
    print_text(escape_unprintable(dumps(value, indent=1, ensure_ascii=False)))


def output_width() -> int:
    """The columns of the terminal, at least 80; 120 where the output goes elsewhere."""
    return max(get_terminal_size().columns, 80) if sys.stdout.isatty() else 120


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show bars on stderr while a run works, when stderr is a terminal; nothing otherwise."""
    from rich import progress
    from rich.console import Console

    columns = (
        *(progress.TextColumn("{task.description:>12}"), progress.BarColumn()),
        *(progress.MofNCompleteColumn(), progress.TimeRemainingColumn()),
    )
    is_terminal = sys.stderr.isatty()  # FORCE_COLOR makes no terminal
    with progress.Progress(*columns, console=Console(stderr=True), disable=not is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield on_progress
