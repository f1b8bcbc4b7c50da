"""Shows the progress of a step as an artifact on the page of the run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Final, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from selectllm.execution import Progress
from selectllm.report.spent import spent_text
from selectllm.settings import RunSettings

UPDATE_SECONDS: Final = 2.0
"""Seconds between two updates: each is a request to the server."""


class Shown:
    """What is shown of a step: how far it is, and what the run has paid for so far."""

    def __init__(self, settings: RunSettings | None) -> None:
        self.percent, self.paid_for, self._settings = 0.0, "", settings

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take note of progress."""
        self.percent = 100 * done / max(total, 1)

    def spent(self, prompt_tokens: int, output_tokens: int) -> None:
        """Take note of what the run has paid for."""
        if self._settings is not None:
            self.paid_for = spent_text(self._settings, prompt_tokens, output_tokens)


@contextmanager
def progress(key: str, description: str, settings: RunSettings | None = None) -> Iterator[Progress]:
    """Report the progress of a step, and with the run's settings also what the run has paid for.

    A separate thread sends it, so that a slow server delays nothing.
    """
    artifact: UUID | None = None
    shown = Shown(settings)
    ended = threading.Event()

    def send() -> None:
        nonlocal artifact
        try:
            if artifact:
                about: dict[str, Any] = {}
                if shown.paid_for:
                    about["description"] = f"{description}; paid for {shown.paid_for}"
                update_progress_artifact(artifact, progress=shown.percent, **about)
            else:
                artifact = cast(UUID, create_progress_artifact(shown.percent, key=key, description=description))
        except Exception as error:  # failed progress updates must not fail the step
            get_run_logger().warning("Progress could not be shown: %s", error)

    def send_now_and_then() -> None:
        while not ended.wait(UPDATE_SECONDS):
            send()

    send()
    sender = threading.Thread(target=copy_context().run, args=(send_now_and_then,), daemon=True)
    sender.start()
    try:
        yield shown
        shown.percent = 100.0
    finally:
        ended.set()
        sender.join()
    send()
