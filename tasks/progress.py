"""Shows the progress of a step as an artifact on the page of the run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final, cast
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
        self.begun = threading.Event()  # never set by a step whose result is found in the store

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take note of progress."""
        self.percent = 100 * done / max(total, 1)
        self.begun.set()

    def spent(self, prompt_tokens: int, output_tokens: int) -> None:
        """Take note of what the run has paid for."""
        if self._settings is not None:
            self.paid_for = spent_text(self._settings, prompt_tokens, output_tokens)


@contextmanager
def progress(key: str, description: str, settings: RunSettings | None = None) -> Iterator[Progress]:
    """Report the progress of a step, and with the run's settings also what the run has paid for.

    A separate thread sends it, so that a slow server delays nothing. Of a step that is done at once, because its result
    is in the store, nothing is sent.
    """
    artifact: UUID | None = None
    shown = Shown(settings)
    ended = threading.Event()

    def send() -> None:
        nonlocal artifact
        about = f"{description}; paid for {shown.paid_for}" if shown.paid_for else description
        try:
            if artifact:
                update_progress_artifact(artifact, progress=shown.percent, description=about)
            else:
                artifact = cast(UUID, create_progress_artifact(shown.percent, key=key, description=about))
        except Exception as error:  # failed progress updates must not fail the step
            get_run_logger().warning("Progress could not be shown: %s", error)

    def send_now_and_then() -> None:
        shown.begun.wait(UPDATE_SECONDS)
        while not ended.is_set():
            send()
            ended.wait(UPDATE_SECONDS)

    sender = threading.Thread(target=copy_context().run, args=(send_now_and_then,), daemon=True)
    sender.start()
    try:
        yield shown
        shown.percent = 100.0
    finally:
        has_begun = shown.begun.is_set()
        ended.set()
        shown.begun.set()  # or the sender would wait on
        sender.join()
    if artifact or has_begun:
        send()
