"""What all commands print in the same way."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Group, Parameter

from selectllm.errors import RunError
from selectllm.execution import Progress, no_progress
from selectllm.text import escape_unprintable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from selectllm.settings import RunSettings

OUTPUT: Final = Group("Output", sort_key=8)
"""The options of a command that say how its result is printed."""

SPEED_SECONDS: Final = 600.0
"""The time that the speed is taken from: a question can take minutes."""

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


class Bars:
    """A bar for each step of a run: how far it is, the time that is left, and what the run has paid for so far."""

    def __init__(self, bars: "RichProgress", settings: "RunSettings | None") -> None:
        self._bars, self._settings = bars, settings
        self._tasks: dict[str, TaskID] = {}
        self._latest: TaskID | None = None

    def __call__(self, step: str, done: int, total: int) -> None:
        """Move the bar of a step."""
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total, spent="")
        self._latest = self._tasks[step]
        self._bars.update(self._latest, completed=done, total=total)

    def spent(self, prompt_tokens: int, output_tokens: int) -> None:
        """Show what the run has paid for, beside the bar that moved last."""
        from selectllm.report.spent import spent_text

        if self._latest is not None and self._settings is not None:
            self._bars.update(self._latest, spent=spent_text(self._settings, prompt_tokens, output_tokens))


@contextmanager
def progress_bars(settings: "RunSettings | None" = None) -> Iterator[Progress]:
    """Show bars on stderr while a run works, when stderr is a terminal; nothing otherwise.

    With the run's settings, they also show what it has paid for.
    """
    if not sys.stderr.isatty():  # FORCE_COLOR makes no terminal
        yield no_progress
        return
    from rich import progress
    from rich.console import Console

    columns = (
        *(progress.TextColumn("{task.description:>12}"), progress.BarColumn(bar_width=20)),
        *(progress.MofNCompleteColumn(), progress.TimeRemainingColumn(), progress.TextColumn("{task.fields[spent]}")),
    )
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, speed_estimate_period=SPEED_SECONDS) as bars:
        yield Bars(bars, settings)
