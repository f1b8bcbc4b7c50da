"""The library's door on the command line: works without Prefect, on the same store."""

import io
import json as json_module
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from selectllm import cancellation
from selectllm.cli.options import command, settings_from
from selectllm.cli.store_commands import artifacts, explain
from selectllm.errors import SelectLLMError, UsageError
from selectllm.settings import RunSettings
from selectllm.text import sanitize

if TYPE_CHECKING:  # pyarrow, scikit-learn and the rest take a second that `--help` does not need
    from selectllm.report.result import Result
    from selectllm.steps import Progress

Json = Annotated[bool, Parameter(negative=(), help="Print the summary as JSON on stdout, and nothing else there.")]


def select(run: RunSettings, *, json: Json = False) -> int:
    """Choose the N instructions of a pool that are most worth annotating.

    Each step keeps its result in the store: what an earlier run made is not made, asked or paid for again.
    """
    from selectllm.pipeline import select

    with progress() as tell:
        result = select(run, tell)
    show(result, run, json=json)
    return 0


def plan(run: RunSettings, *, json: Json = False) -> int:
    """Tell what a run would do and take: rows, queries, rounds, calls and tokens. Calls no model."""
    from selectllm.plan import plan_run
    from selectllm.report.format import planned

    found = plan_run(run)
    print(json_module.dumps(found, indent=1) if json else planned(found))
    return 0


def doctor(
    *,
    selector: Annotated[str, Parameter(help="The selector to look at, as for `select`.")] = "embedded",
    host: Annotated[tuple[str, ...], Parameter(help="URL of its server; may be repeated.", negative=())] = (),
    mode: Annotated[
        Literal["auto", "listwise", "pointwise"], Parameter(help="How it will be asked, as for `select`.")
    ] = "auto",
    timeout: Annotated[float, Parameter(help="Seconds that one request may take.")] = 120,
    json: Json = False,
) -> int:
    """Look whether a selector can do what a run will ask of it: server, model, context, answers, parallelism.

    Asks it a handful of tiny questions. Exit code 1 where something is not well, with what to do about it.
    """
    from selectllm.pipeline import wait_for

    return wait_for(
        _doctor(
            settings_from(
                {
                    ("selector",): selector,
                    ("ranking", "hosts"): host,
                    ("ranking", "mode"): mode,
                    ("ranking", "timeout"): timeout,
                    ("pool",): "-",
                    ("budget",): 1,
                }
            ),
            json,
        )
    )


async def _doctor(run: RunSettings, json: bool) -> int:
    from dataclasses import asdict

    from selectllm.ranking.diagnosis import examine

    findings = []
    async for finding in examine(run.selector, run.ranking):
        findings.append(finding)
        if not json:
            print(f"{'ok ' if finding.ok else 'NOT'}  {finding.name:<18} {sanitize(finding.seen)}", flush=True)
            if finding.advice and not finding.ok:
                print(f"     {'':<18} {finding.advice}", flush=True)
    if json:
        print(json_module.dumps([asdict(finding) for finding in findings], indent=1))
    return 0 if all(finding.ok for finding in findings) else 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the run failed, 2 bad usage or bad input."""
    app = App(
        name="selectllm",
        help="Picks, from a pool of instructions, the N that are most worth paying people to annotate.",
        help_epilogue="Exit codes: 0 done, 1 the run failed, 2 bad usage or bad input.",
        version=version("selectllm"),
    )
    app.command(command(select))
    app.command(command(plan))
    app.command(doctor)
    app.command(explain)
    app.command(artifacts)
    return run_app(app, arguments)


def run_app(app: App, arguments: list[str] | None = None) -> int:
    """Run a command line; every error is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every script that a pool is in
    try:
        with _stopped_by_signals(), _heard_warnings():
            app.suppress_keyboard_interrupt = False  # it would leave without a word
            code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
            return code if isinstance(code, int) else 0
    except SelectLLMError as error:
        return _failed(str(error), error.exit_code)
    except CycloptsError as error:
        return _failed(f"{error}. See --help", UsageError.exit_code)
    except KeyboardInterrupt:
        return _failed("stopped. What was made and paid for is kept: run the same again to go on from here", 1)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does: not a failure of the run
        sys.stderr.close()
        return 0
    except OSError as error:
        return _failed(f"the result cannot be printed: {error.strerror}. It is kept in the store", 1)


@contextmanager
def progress() -> Iterator["Progress"]:
    """Bars on stderr while a run works, when stderr is a terminal; nothing otherwise."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bars:  # FORCE_COLOR makes no terminal
        tasks: dict[str, Any] = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield tell


def show(result: "Result", run: RunSettings, *, json: bool) -> None:
    """Print what a run chose and why, and where it lies; or the summary alone, as JSON."""
    from selectllm.report.format import chosen, notes

    for said in notes(result.summary):
        print(f"selectllm: {said}", file=sys.stderr)
    if json:
        print(json_module.dumps(result.summary, indent=1, ensure_ascii=False))
    else:
        width = max(get_terminal_size().columns, 80) if sys.stdout.isatty() else 120
        print(chosen(result, run.out, width))


class _OneLine(logging.Formatter):
    """What is logged, fit for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return sanitize(super().format(record))


@contextmanager
def _heard_warnings() -> Iterator[None]:
    """What the library warns of, as a line on stderr: that a file was damaged, that more will be asked than was."""
    handler, log = logging.StreamHandler(), logging.getLogger("selectllm")
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_OneLine("selectllm: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does: soon, cleanly, and saying how to go on.

    With a handler of our own the event loop installs none, which would only be heard between two steps.
    """

    def interrupted(*_: object) -> None:
        cancellation.interrupt()

    cancellation.reset()
    try:
        before = {number: signal.signal(number, interrupted) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are someone else's there
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _failed(message: str, code: int) -> int:
    print(f"selectllm: {sanitize(' '.join(message.split()))}", file=sys.stderr)  # a server may have echoed a candidate
    return code
