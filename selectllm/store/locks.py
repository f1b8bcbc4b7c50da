"""Locks on a folder of the store: the kernel's on a local disk, a lease wherever a file system has none.

The lock file is opened for reading only. An open file that is written to would keep its file system from being made
read-only, which the `filelock` package does: so the kernel's lock is taken here.
"""

import errno
import os
import secrets
import time
from contextlib import suppress
from io import FileIO
from typing import Any, Final

from fsspec.implementations.local import LocalFileSystem

from selectllm import cancellation

LEASE_SECONDS: Final = 60.0
"""How long a lease lasts after its holder died; a block that holds one takes a second or so."""

POLL_SECONDS: Final = 0.2
"""Seconds between two looks at a lease that another holds."""

NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})
"""How a file system says that it has no locks. The last is NFS, which locks only files that are open for writing."""


def try_kernel_lock(path: str) -> FileIO | None:
    """Wait for the kernel's lock on a local file, created if needed; returns the open file, which closing unlocks.

    Returns None where the file system or the platform has no locks. Raises OSError.
    """
    if os.name == "nt":
        return None
    import fcntl

    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = FileIO(os.open(path, os.O_RDONLY | os.O_CREAT, 0o666))
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        file.close()
        if error.errno in NO_LOCKS:
            return None
        raise
    return file


class Lease:
    """A file that only one caller can create, and that is removed at the end.

    Its content names the holder. A lease that has not changed hands for `LEASE_SECONDS` is taken for a dead holder's.
    """

    def __init__(self, files: Any, path: str) -> None:
        self._files, self._path, self._mine = files, path, secrets.token_bytes(8)

    def acquire(self, *, cancellable: bool) -> None:
        """Wait until the lease is ours; raises Stopped when the run is cancelled, if the wait is `cancellable`."""
        seen, since = b"", time.monotonic()
        while not self._create():
            if cancellable:
                cancellation.raise_if_cancelled()
            holder = self._content()
            if holder != seen:  # another holder since the last look: our own clock tells how long it holds
                seen, since = holder, time.monotonic()
            elif time.monotonic() - since > LEASE_SECONDS and self._content() == seen:
                self._remove()
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Give the lease up, unless it was taken for a dead holder's and is another's now."""
        if self._content() == self._mine:
            self._remove()

    def _create(self) -> bool:
        with suppress(FileExistsError):
            if isinstance(self._files, LocalFileSystem):  # whose own `create` looks first and writes later
                with open(self._path, "xb") as file:
                    file.write(self._mine)
            else:
                self._files.pipe_file(self._path, self._mine, mode="create")
            return True
        return False

    def _content(self) -> bytes:
        try:
            return bytes(self._files.cat_file(self._path))
        except FileNotFoundError:
            return b""

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(self._path)
