"""The command line: works without Prefect, on the same store as the flow."""

import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App, CycloptsError, Parameter

from selectllm import cancellation
from selectllm.cli.printing import printing
from selectllm.errors import SelectLLMError, UsageError
from selectllm.text import sanitize

if TYPE_CHECKING:
    from cyclopts.argument import ArgumentCollection

COMMANDS: Final = {
    "select": ("select", "Choose the N instructions of a pool that are most worth annotating."),
    "plan": ("select", "Show what a run would do and take: rows, queries, rounds, calls and tokens. Calls no model."),
    "compare": ("compare", "Compare strategies on your own pool: does any of them beat random draws, and by how much?"),
    "doctor": (
        "doctor",
        "Check whether a selector can do what a run will ask of it: server, model, context, answers, speed, "
        "parallelism.",
    ),
    "evaluate": ("evaluate", "Evaluate tuned models by their answers, and the judges that compare them."),
    "explain": (
        "explain",
        "Show a row's whole way through a run: its query, what the model answered, and why it was chosen or not.",
    ),
    "report": (
        "report",
        "Write the report of a run: one page of HTML with what was chosen, from what, and why. It needs no network.",
    ),
    "export": (
        "export",
        "Write the rows that a run chose for annotators, for a spreadsheet, for a hub or for a batch.",
    ),
    "annotations": (
        "annotations",
        "Read annotations, and say which chosen rows are answered, skipped, missing or in dispute.",
    ),
    "tune": (
        "tune",
        "Fine-tune a model on annotated rows, measure the loss of held-out answers before and after, and export it.",
    ),
    "artifacts": (
        "artifacts",
        "List the artifacts of a store, the newest of each kind first, with what each was made from.",
    ),
}
"""The commands: the module of `selectllm.cli` that each is in, and how its help begins."""

EXPORT_USAGE: Final = "Usage: selectllm export [RUN] --to CHOICE [OPTIONS] PATH"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the run failed, 2 bad usage or bad input."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_app(build_app(is_list=all(word.startswith("-") for word in words)), arguments)


def build_app(*, is_list: bool = False) -> App:
    """The application with all its commands, each of which is imported when it is called.

    As a list of commands, which is all that `selectllm --help` shows, it imports none: it has only how they begin.
    """
    app = new_app(
        "selectllm", "Picks, from a pool of instructions, the N that are most worth paying people to annotate."
    )
    for name, (module, help) in COMMANDS.items():
        usage = {"usage": EXPORT_USAGE} if name == "export" else {}
        app.command(f"selectllm.cli.{module}:{name}", help=help if is_list else None, **usage)
    return app


def new_app(name: str, help: str | None = None) -> App:
    """An application whose flags have no negative forms, and whose help says what exit codes mean."""
    return App(
        name=name,
        help=help,
        help_epilogue="Exit codes: 0 done, 1 the run failed, 2 bad usage or bad input.",
        version=_version,
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        config=(_fill_from_file, _fill_from_environment),  # what is filled first counts
    )


def _version() -> str:
    from importlib.metadata import version

    return version("selectllm")


def _shown_default(value: Any) -> str | None:
    """A default as `--help` shows it: none where there is none, a flag is not set or a list is empty."""
    return None if value in (None, ()) or value is False else str(value)


def _fill_from_file(app: App, commands: tuple[str, ...], arguments: "ArgumentCollection") -> None:
    if any(argument.field_info.name == "config" and argument.tokens for argument in arguments):
        from selectllm.cli.config import fill

        fill(arguments)


def _fill_from_environment(app: App, commands: tuple[str, ...], arguments: "ArgumentCollection") -> None:
    # Only a run's settings have variables, and doctor reads those that it needs; `--help` gets by without.
    of_a_run = (("budget",), ("budgets",), ("questions",), ("both_orders",))
    if not any(argument.keys in of_a_run for argument in arguments):
        return
    is_named = any(name.upper().startswith("SELECTLLM_") for name in os.environ)
    if is_named or os.path.lexists(".env"):  # reading variables takes as long to import as all other reading of options
        from selectllm.cli.environment import fill

        fill(arguments)


def run_app(app: App, arguments: list[str] | None = None) -> int:
    """Run a command line; every error is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every script that a pool is in
    try:
        with _interrupted_by_signals(), _warnings_on_stderr():
            app.suppress_keyboard_interrupt = False  # it would leave without a word
            tokens = sys.argv[1:] if arguments is None else arguments
            tokens = ["/dev/stdin" if token == "-" else token for token in tokens]  # else it would be an option
            code = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
            with printing():
                sys.stdout.flush()
            return code if isinstance(code, int) else 0
    except SelectLLMError as error:
        return _fail(str(error), error.exit_code)
    except CycloptsError as error:
        from selectllm.cli.messages import usage_error

        return _fail(f"{usage_error(error)}. See --help", UsageError.exit_code)
    except KeyboardInterrupt:
        return _fail("stopped. What was made and paid for is kept: run the same again to go on from here", 1)
    except BrokenPipeError:  # the reader of our output is gone, as with `| head`: not a failure of the run
        sys.stderr.close()
        return 0
    except Exception as error:
        from selectllm.cli.unexpected import store_of, unexpected_error

        return _fail(unexpected_error(error, store_of(app, arguments)), 1)


class _OneLine(logging.Formatter):
    """What is logged, fit for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return sanitize(super().format(record))


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Print what the library warns of: that a file was damaged, that more will be asked than was planned."""
    handler, log = logging.StreamHandler(), logging.getLogger("selectllm")
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_OneLine("selectllm: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does; the event loop's own handler would only act between two steps."""

    def on_signal(*_: object) -> None:
        cancellation.interrupt()

    cancellation.reset()
    before: dict[int, Any] = {}
    with suppress(ValueError):  # not the main thread: signals are someone else's there
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(message: str, code: int) -> int:
    print(f"selectllm: {sanitize(' '.join(message.split()))}", file=sys.stderr)  # a server may repeat a candidate
    return code
