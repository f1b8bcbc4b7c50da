"""The command line: works without Prefect, on the same store as the flow."""

import io
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, Final, get_args

from cyclopts import App, CycloptsError, Parameter
from pydantic import BaseModel, ValidationError

from selectllm import cancellation
from selectllm.cli.artifacts import artifacts
from selectllm.cli.doctor import doctor
from selectllm.cli.environment import fill_from_environment
from selectllm.cli.explain import explain
from selectllm.cli.plan import plan
from selectllm.cli.select import select
from selectllm.errors import SelectLLMError, UsageError
from selectllm.paths import redact_url
from selectllm.settings import RunSettings
from selectllm.text import sanitize

EXIT_CODES: Final = "Exit codes: 0 done, 1 the run failed, 2 bad usage or bad input."


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the run failed, 2 bad usage or bad input."""
    return run_app(build_app(), arguments)


def build_app() -> App:
    """The application with all its commands."""
    app = new_app(
        "selectllm", "Picks, from a pool of instructions, the N that are most worth paying people to annotate."
    )
    for command in (select, plan, doctor, explain, artifacts):
        app.command(command)
    return app


def new_app(name: str, help: str | None = None) -> App:
    """An application whose flags have no negative forms, and whose help says what exit codes mean."""
    return App(
        name=name,
        help=help,
        help_epilogue=EXIT_CODES,
        version=version("selectllm"),
        default_parameter=Parameter(negative=()),
        config=fill_from_environment,
    )


def run_app(app: App, arguments: list[str] | None = None) -> int:
    """Run a command line; every error is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every script that a pool is in
    try:
        with _interrupted_by_signals(), _warnings_on_stderr():
            app.suppress_keyboard_interrupt = False  # it would leave without a word
            code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
            return code if isinstance(code, int) else 0
    except SelectLLMError as error:
        return _fail(str(error), error.exit_code)
    except CycloptsError as error:
        return _fail(f"{_usage_message(error)}. See --help", UsageError.exit_code)
    except KeyboardInterrupt:
        return _fail("stopped. What was made and paid for is kept: run the same again to go on from here", 1)
    except BrokenPipeError:  # the reader of our output is gone, as with `| head`: not a failure of the run
        sys.stderr.close()
        return 0
    except OSError as error:
        return _fail(f"the result cannot be printed: {error.strerror}. It is kept in the store", 1)


def flag_of(place: Sequence[int | str], settings: type[BaseModel] = RunSettings) -> str:
    """What the command line calls a field of the settings, such as `--query-size` for ("queries", "size")."""
    name, *rest = place
    field = settings.model_fields.get(str(name))
    if field is None:
        return f"--{'.'.join(map(str, place))}"
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and rest:
        return flag_of(rest, field.annotation)
    if name == "pool":
        return "POOL"
    named = [flag for extra in field.metadata if isinstance(extra, Parameter) for flag in extra.name or ()]
    return named[0] if named else f"--{str(name).replace('_', '-')}"


def setting_errors(error: ValidationError, settings: type[BaseModel] = RunSettings) -> str:
    """What is wrong with values of the settings, on one line and in the command line's names."""
    return "; ".join(_setting_error(fault, settings) for fault in error.errors())


def _setting_error(fault: Any, settings: type[BaseModel]) -> str:
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if not message.startswith("should"):
        return redact_url(message)
    return redact_url(f"{flag_of(fault['loc'], settings)} {message}, not {fault['input']!r}")  # it may be a host's URL


def _usage_message(error: CycloptsError) -> str:
    cause = error.__cause__
    if isinstance(cause, ValidationError) and not str(error).startswith("Command"):
        owner = error.argument.hint if error.argument else RunSettings
        owner = next((kind for kind in (*get_args(owner), owner) if _is_settings(kind)), RunSettings)
        return setting_errors(cause, owner)
    return str(error)


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


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
    """Let SIGTERM end a run as Ctrl-C does: soon, cleanly, and saying how to go on.

    With a handler of our own the event loop installs none, which would only act between two steps.
    """

    def on_signal(*_: object) -> None:
        cancellation.interrupt()

    cancellation.reset()
    try:
        before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are someone else's there
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(message: str, code: int) -> int:
    print(f"selectllm: {sanitize(' '.join(message.split()))}", file=sys.stderr)  # a server may repeat a candidate
    return code
