"""Runs a command line in this process, counts the moments at which it writes, and kills it at one of them.

The functions of the operating system that write files are wrapped. Between two moments there is at most one change of
the files, or half of one write. So a test of every moment covers every state of the files.
"""

import builtins
import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from selectllm import pipeline  # noqa: F401 - imported here once, for all processes forked from this one
from selectllm.cli import main as cli
from selectllm.embedding import models
from selectllm.evaluation import row_bootstrap
from tests.conftest import HashEmbedder

Blow = Literal[
    "kill",  # SIGKILL
    "terminate",  # SIGTERM
    "interrupt",  # SIGINT
    "lose space",  # every later write fails, as on a full disk
    "lose rights",  # every later write fails, as on a read-only disk
    "fill",  # the file `filler` takes all remaining space
    "remount",  # the file system at `filler` is made read-only
]
SIGNALS: Final = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
REFUSED: Final = {
    "lose space": (errno.ENOSPC, {"making folder", "half written", "not synced"}),
    "lose rights": (errno.EROFS, {"making folder", "opening", "half written", "not renamed", "not removed"}),
}
"""The error of such a disk, and the moments at which it is raised. A full disk still allows renames."""

WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Order:
    """What to run, and which blow hits it when a moment comes for the n-th time. Without a moment there is no blow."""

    entry: Literal["library", "flow"]
    arguments: Sequence[str]
    inside: Sequence[str]  # folders to watch
    log: str  # a file that lists every moment in order, one per line
    moment: str = ""
    nth: int = 1
    blow: Blow = "kill"
    filler: str = ""
    stdout: str = ""  # files for the output; if empty, the output of this process
    stderr: str = ""
    command: Sequence[str] = ("select",)
    fsync_seconds: float = 0.0  # added to each fsync: a slow disk


def run(order: Order) -> None:
    """Run the command line to its end, and exit with its code."""
    for name, number in ((order.stdout, 1), (order.stderr, 2)):
        if name:
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    watch = Watch(order)
    models.open_embedder = lambda _: WatchedEmbedder(watch)  # type: ignore[assignment,return-value]
    if order.entry == "flow":
        from flows.commands import selection_app
        from flows.selection import select_instructions

        sys.argv = ["flow", *order.arguments]
        watch.begin()
        sys.exit(cli.run_app(selection_app(select_instructions)))
    row_bootstrap.RESAMPLES = 99  # type: ignore[misc]
    watch.begin()
    sys.exit(cli.main([*order.command, *order.arguments]))


class Watch:
    """Counts moments, and applies the blow at one of them."""

    def __init__(self, order: Order) -> None:
        self._order, self._came, self._struck = order, 0, False
        self._lock = threading.Lock()
        self._log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write = os.write

    def begin(self) -> None:
        """Wrap the functions of the operating system that write."""
        for name in ("replace", "rename", "link"):
            self._around(name, "not renamed", "renamed")
        for name in ("unlink", "remove"):
            self._around(name, "not removed", "removed")
        self._around("mkdir", "making folder", "folder made")
        os.fsync = lambda fd: None  # a killed process loses no written data, so only the call is recorded
        self._around("fsync", "not synced", "synced", self._order.fsync_seconds)
        self._halve_files()
        self._halve_handles()

    def pass_by(self, what: str, path: Any) -> None:
        """Record a moment: `what` happened to the file at `path` or of a handle. None is the embedder."""
        if (place := self._place(path)) is None:
            return
        moment = f"{what} {place}"
        with self._lock:
            self._write(self._log, f"{moment}\n".encode())
            self._came += moment == self._order.moment
            strikes = moment == self._order.moment and self._came == self._order.nth
        if strikes:
            self._strike()
        number, moments = REFUSED.get(self._order.blow, (0, set()))
        if self._struck and what in moments:
            raise OSError(number, os.strerror(number), str(path))

    def _strike(self) -> None:
        blow = self._order.blow
        if number := SIGNALS.get(blow):
            os.kill(os.getpid(), number)
        elif blow == "fill":
            fill(self._order.filler, self._write)
        elif blow == "remount":
            subprocess.run(["mount", "-o", "remount,ro", self._order.filler], check=True)
        self._struck = True

    def _place(self, path: Any) -> str | None:
        """The place of a file, such as `pool.json` or `replies`; None for other files."""
        if path is None:
            return "embedder"
        name = os.path.abspath(os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path))
        for folder in self._order.inside:
            if name == folder or name.startswith(f"{folder}/"):
                parts = Path(name).relative_to(folder).parts
                if parts and parts[-1] == ".lock":  # contains no data
                    return None
                if parts[:2] == ("v1", "artifacts"):
                    ending = "json" if ".json" in parts[-1] else "parquet"
                    return f"{parts[2]}.{ending}" if len(parts) > 3 else "artifacts"
                return parts[1] if parts[:1] == ("v1",) and len(parts) > 1 else Path(folder).name
        return None

    def _around(self, name: str, before: str, after: str, seconds: float = 0.0) -> None:
        """Record a moment before and after a function of the operating system, and delay it."""
        does = getattr(os, name)

        def watched(path: Any, *args: Any, **options: Any) -> Any:
            self.pass_by(before, path)
            time.sleep(seconds)
            result = does(path, *args, **options)
            self.pass_by(after, path)
            return result

        setattr(os, name, watched)

    def _halve_files(self) -> None:
        """Make every file write in two halves, so that a run can be killed between them."""
        opened = io.open

        def watched(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or self._place(file) is None:
                return opened(file, mode, *args, **options)
            self.pass_by("opening", file)
            handle = opened(file, mode, *args, **options)
            self.pass_by("opened", file)
            return HalvingFile(self, handle, file)

        io.open = builtins.open = watched

    def _halve_handles(self) -> None:
        opened = os.open

        def watched(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & WRITING:
                self.pass_by("opening", path)
            return opened(path, flags, *args, **options)

        def write(handle: int, data: Any) -> int:
            if self._place(handle) is None:
                return self._write(handle, data)
            done = self._write(handle, data[: len(data) // 2])
            self.pass_by("half written", handle)
            return done + self._write(handle, data[done:])

        os.open, os.write = watched, write


class HalvingFile:
    """A file open for writing that writes each piece in two halves."""

    def __init__(self, watch: Watch, file: Any, path: Any) -> None:
        self._watch, self._file, self._path = watch, file, path

    def write(self, data: Any) -> int:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._watch.pass_by("half written", self._path)
        self._file.write(data[half:])
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "HalvingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class WatchedEmbedder(HashEmbedder):
    """An embedder that records a moment before and after its work."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def embed(self, *args: Any, **options: Any) -> Any:
        self._watch.pass_by("before", None)
        vectors = super().embed(*args, **options)
        self._watch.pass_by("after", None)
        return vectors


def fill(path: str, write: Callable[[int, bytes], int] = os.write) -> None:
    """Fill all remaining space of a disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (4096, 1):
            while write(handle, b"\0" * size):
                pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(handle)
