"""Who runs the pieces of a step: this process, or whatever the caller brings along (Prefect's threads, Dask, Ray)."""

import threading
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from selectllm import cancellation

Item = TypeVar("Item")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

Progress = Callable[[str, int, int], None]
"""Takes note of progress: the step's name, how much of it is done, and how much there is."""


def no_progress(step: str, done: int, total: int) -> None:
    """Ignore progress."""


@runtime_checkable
class SpendingProgress(Protocol):
    """A Progress that also takes note of what the run has paid for, as those that are shown to people do."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take note of progress, as a Progress does."""

    def spent(self, prompt_tokens: int, output_tokens: int) -> None:
        """Take note of the tokens of prompts and of answers that the whole run has paid for so far."""


def note_spent(progress: Progress, before: tuple[int, int], prompt_tokens: int, output_tokens: int) -> None:
    """Tell a progress that takes note of it what the run has paid for: what steps before did, and what this one did."""
    if isinstance(progress, SpendingProgress):
        progress.spent(before[0] + prompt_tokens, before[1] + output_tokens)


class WorkItem(Generic[Item]):
    """A piece of work, and its share of what all pieces under way share, such as questions at once.

    It is no collection, so that nobody looks through the thousand texts of a piece on its way to a worker.
    """

    def __init__(self, value: Item, share: int = 1) -> None:
        self.value, self.share = value, share


class Executor(Protocol):
    """Runs a function over pieces of work; other processes open files and connections of their own."""

    @property
    def workers(self) -> int:
        """How many processes work."""

    @property
    def is_remote(self) -> bool:
        """Whether they are others than this one."""

    def map(
        self, function: Callable[[WorkItem[Item]], Result], items: Iterable[Item], shares: Sequence[int]
    ) -> Generator[Result, None, None]:
        """Yield the results as they come; no more pieces are begun once the generator is closed.

        Each piece under way has one of the `shares` alone, so no more pieces are under way than there are shares. Items
        are taken from the iterable when there is room for them. `function` can be sent to another process.
        """


class Inline:
    """Runs one piece after the other in the calling thread."""

    workers, is_remote = 1, False

    def map(
        self, function: Callable[[WorkItem[Item]], Result], items: Iterable[Item], shares: Sequence[int]
    ) -> Generator[Result, None, None]:
        """Yield the result of each item in turn."""
        for item in items:
            yield function(WorkItem(item, shares[0]))


def equal_shares(total: int, workers: int) -> list[int]:
    """`total` divided among at most so many workers: shares that differ by at most one, none of them 0."""
    each, more = divmod(total, min(workers, total))
    return [each + 1] * more + [each] * (min(workers, total) - more)


class Started(Protocol[Result_co]):
    """Work that was started, whose result can be waited for."""

    def result(self) -> Result_co:
        """The result; raises what the work raised."""


def in_background(function: Callable[[], Result]) -> "Future[Result]":
    """Run a function in a thread that does not keep the process alive, and return its future result."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="selectllm-background", daemon=True).start()
    return future


def run_coroutine(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, also where an event loop is running already, as in a notebook."""
    import asyncio  # only who asks a model needs it, and `--help` does not

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(asyncio.run, work)
        with cancellation.propagate_interrupt():
            return future.result()
