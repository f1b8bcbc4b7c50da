"""Progress bars on the terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from selectllm.execution import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Show bars on stderr while a run works, when stderr is a terminal; nothing otherwise."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description:>12}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
    )
    is_terminal = sys.stderr.isatty()  # FORCE_COLOR makes no terminal
    with progress.Progress(*columns, console=Console(stderr=True), disable=not is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield on_progress
