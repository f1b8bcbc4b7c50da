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

UPDATE_SECONDS: Final = 2.0
"""Seconds between two updates: each is a request to the server."""


@contextmanager
def progress(key: str, description: str) -> Iterator[Progress]:
    """Report the progress of a step. A separate thread sends it, so that a slow server delays nothing."""
    artifact: UUID | None = None
    percent = 0.0
    ended = threading.Event()

    def send() -> None:
        nonlocal artifact
        try:
            if artifact:
                update_progress_artifact(artifact, progress=percent)
            else:
                artifact = cast(UUID, create_progress_artifact(percent, key=key, description=description))
        except Exception as error:  # failed progress updates must not fail the step
            get_run_logger().warning("Progress could not be shown: %s", error)

    def send_now_and_then() -> None:
        while not ended.wait(UPDATE_SECONDS):
            send()

    def on_progress(_step: str, done: int, total: int) -> None:
        nonlocal percent
        percent = 100 * done / max(total, 1)

    send()
    sender = threading.Thread(target=copy_context().run, args=(send_now_and_then,), daemon=True)
    sender.start()
    try:
        yield on_progress
        percent = 100.0
    finally:
        ended.set()
        sender.join()
    send()
