"""The library's steps as Prefect tasks, and the runners of their pieces; no arithmetic here."""

import logging
from contextlib import suppress

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger


class _RunLog(logging.Handler):
    """Passes the library's messages on to the log of the task run or flow run that they come from."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(MissingContextError):  # not in a run
            get_run_logger().log(record.levelno, record.getMessage())


logging.getLogger("selectllm").addHandler(_RunLog(logging.INFO))
logging.getLogger("selectllm").setLevel(logging.INFO)
