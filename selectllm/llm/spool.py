"""Lines that are kept beside memory: what a remote store holds, where reading it again would take a request each."""

import tempfile
import threading
import weakref
from contextlib import suppress
from typing import IO, Final

from selectllm.errors import StoreError

IN_MEMORY: Final = 32 << 20
"""Bytes of lines that stay in memory. With more, all go to a temporary file that nobody else sees."""


class Spool:
    """Lines by where they start; several threads may add and read."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - it is open as long as we are
        self._end = 0
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._file)

    def add(self, line: bytes) -> int:
        """Keep a line; returns where it starts. Raises StoreError where there is no room for it."""
        with self._lock:
            try:
                self._file.seek(self._end)
                self._file.write(line)
                self._file.flush()  # else a full disk would be found by whoever reads next
            except OSError as error:
                raise StoreError(
                    f"replies cannot be held in a temporary file: {error.strerror or error}. Free space, or have the "
                    "environment variable TMPDIR name a folder with more of it, then run again"
                ) from error
            start, self._end = self._end, self._end + len(line)
            return start

    def read(self, start: int, size: int) -> bytes:
        """So many bytes from there on."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(size)


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # what a full disk did not take was reported when it was added
        file.close()
