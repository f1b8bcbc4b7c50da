"""Runs a flow from the command line, with the options, the output and the exit codes of the library's command line."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import httpx
from cyclopts import App
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from pydantic import BaseModel

from selectllm.cli.config import ConfigFile
from selectllm.cli.main import new_app
from selectllm.cli.printing import Json
from selectllm.errors import UsageError
from selectllm.paths import redact_users
from tasks.logs import hide_all_tracebacks
from tasks.server import is_unreachable, server_problem
from tasks.settings import FlowSettings

S = TypeVar("S", bound=BaseModel)
Record = dict[str, Any]

DEFAULT_FLOW: Final = FlowSettings()
SERVER: Final = "Runs on the Prefect server that PREFECT_API_URL names, else on one that lasts as long as the run."


@dataclass(frozen=True)
class Command(Generic[S]):
    """A flow as a command: the settings that are its options, the flow, what prints its record, and what it does.

    `show` takes the record, the settings, and whether to print JSON.
    """

    settings: type[S]
    flow: Callable[..., Record]
    show: Callable[[Record, S, bool], None]
    about: str
    has_workers: bool = True


def build_app(name: str, **commands: Command[Any]) -> App:
    """The application `python -m NAME`. Of several commands each has its name, and the first is also meant by none."""
    app = new_app(f"python -m {name}")
    for number, (word, command) in enumerate(commands.items()):
        function = _with_workers(command) if command.has_workers else _alone(command)
        function.__doc__ = f"{command.about}\n\n{SERVER}"
        function.__annotations__["settings"] = command.settings
        if not any(field.is_required() for field in command.settings.model_fields.values()):
            function.__defaults__ = (command.settings(),)  # Cyclopts wants one where every option may be left out
        if number == 0:
            app.default(function)
        if len(commands) > 1:
            app.command(function, name=word.replace("_", "-"))
    return app


def _with_workers(command: Command[S]) -> Any:
    def run(
        settings: S, *, flow_settings: FlowSettings = DEFAULT_FLOW, config: ConfigFile = None, json: Json = False
    ) -> int:
        return _run(command, settings, flow_settings, json=json)

    return run


def _alone(command: Command[S]) -> Any:
    def run(settings: S, *, json: Json = False) -> int:
        return _run(command, settings, json=json)

    return run


def _run(command: Command[S], settings: S, *workers: FlowSettings, json: bool) -> int:
    # A deployed automation takes a run without heartbeats for killed, and Prefect's default is too seldom for it.
    with _server_errors(), temporary_settings(set_defaults={PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}):
        record = command.flow(settings, *workers)
    command.show(record, settings, json)
    return 0


@contextmanager
def _server_errors() -> Iterator[None]:
    """Say in one sentence what to do where no Prefect server answers, or it refuses to."""
    hide_all_tracebacks()
    try:
        yield
    except (RuntimeError, httpx.HTTPError) as error:
        url = os.environ.get("PREFECT_API_URL") or PREFECT_API_URL.value() or ""
        if problem := server_problem(error, url):
            raise UsageError(problem) from None
        if not isinstance(error, RuntimeError) or not is_unreachable(error):
            raise
        raise UsageError(
            f"no Prefect server answers at {redact_users(url) or 'its URL'}. Start it with `prefect server start`, "
            "or unset PREFECT_API_URL: then the run starts one that lasts as long as it does"
        ) from None
