"""The library's steps as Prefect tasks, and the runners of their pieces; no arithmetic here."""

import logging
from contextlib import suppress

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger


class _RunLog(logging.Handler):
    """Forwards log messages of the library to the log of their task run or flow run."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(MissingContextError):  # outside a run
            get_run_logger().log(record.levelno, record.getMessage())


logging.getLogger("selectllm").addHandler(_RunLog(logging.INFO))
logging.getLogger("selectllm").setLevel(logging.INFO)
