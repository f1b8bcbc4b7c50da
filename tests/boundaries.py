"""Runs a command line in this process, counts the moments at which it makes something durable, and has it die there.

Whatever is written is watched at the operating system's door, whoever knocks. Between two moments there is no more than
one change of the files, and half of one where it is a write: to die at each of them is to die everywhere.
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
from tests.conftest import HashEmbedder

Blow = Literal[
    "kill",  # SIGKILL
    "terminate",  # SIGTERM
    "interrupt",  # SIGINT
    "lose space",  # whatever is written from here on fails, as on a full disk
    "lose rights",  # as on one that has become read-only
    "fill",  # a file takes all space that is left, where `filler` says
    "remount",  # the file system at `filler` is made read-only
]
SIGNALS: Final = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
REFUSED: Final = {
    "lose space": (errno.ENOSPC, {"making folder", "half written", "not synced"}),
    "lose rights": (errno.EROFS, {"making folder", "opening", "half written", "not renamed", "not removed"}),
}
"""What such a disk answers from then on, and at which moments. On a full one names can still be changed."""

WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Order:
    """What to run, and what befalls it when a moment comes for the n-th time; without a moment nothing ever does."""

    door: Literal["library", "flow"]
    arguments: Sequence[str]
    inside: Sequence[str]  # folders to watch
    log: str  # a file that names every moment, one a line, as they come
    moment: str = ""
    nth: int = 1
    blow: Blow = "kill"
    filler: str = ""
    stdout: str = ""  # files for what is printed; none, and it goes where this process prints
    stderr: str = ""
    fsync_seconds: float = 0.0  # that each fsync takes longer: a slow disk


def run(order: Order) -> None:
    """Run the command line to its end, and exit with its code."""
    for name, number in ((order.stdout, 1), (order.stderr, 2)):
        if name:
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    watch = Watch(order)
    models.open_embedder = lambda _: WatchedEmbedder(watch)  # type: ignore[assignment,return-value]
    if order.door == "flow":
        from flows.command_line import main
        from flows.selection import select_instructions

        sys.argv = ["flow", *order.arguments]
        watch.begin()
        sys.exit(main(select_instructions))
    watch.begin()
    sys.exit(cli.main(["select", *order.arguments]))


class Watch:
    """Counts moments, and strikes at one of them."""

    def __init__(self, order: Order) -> None:
        self._order, self._came, self._struck = order, 0, False
        self._lock = threading.Lock()
        self._log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write = os.write

    def begin(self) -> None:
        """Stand at the operating system's door."""
        for name in ("replace", "rename", "link"):
            self._around(name, "not renamed", "renamed")
        for name in ("unlink", "remove"):
            self._around(name, "not removed", "removed")
        self._around("mkdir", "making folder", "folder made")
        os.fsync = lambda fd: None  # a process that dies loses nothing that it wrote: that it would sync is what counts
        self._around("fsync", "not synced", "synced", self._order.fsync_seconds)
        self._halve_files()
        self._halve_handles()

    def pass_by(self, what: str, path: Any) -> None:
        """A moment has come: `what`, of the file at `path` or behind a handle; None is the embedder."""
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
        """A file's part in the whole, as `pool.json` or `replies`; None where it is none of ours."""
        if path is None:
            return "embedder"
        name = os.path.abspath(os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path))
        for folder in self._order.inside:
            if name == folder or name.startswith(f"{folder}/"):
                parts = Path(name).relative_to(folder).parts
                if parts and parts[-1] == ".lock":  # holds nothing that could be lost
                    return None
                if parts[:2] == ("v1", "artifacts"):
                    ending = "json" if ".json" in parts[-1] else "parquet"
                    return f"{parts[2]}.{ending}" if len(parts) > 3 else "artifacts"
                return parts[1] if len(parts) > 1 else Path(folder).name
        return None

    def _around(self, name: str, before: str, after: str, seconds: float = 0.0) -> None:
        """Have a function of the operating system pass by before and after its work, which takes so much longer."""
        does = getattr(os, name)

        def watched(path: Any, *args: Any, **options: Any) -> Any:
            self.pass_by(before, path)
            time.sleep(seconds)
            found = does(path, *args, **options)
            self.pass_by(after, path)
            return found

        setattr(os, name, watched)

    def _halve_files(self) -> None:
        """Have every file write its halves apart, so that one can die between them."""
        opened = io.open

        def watched(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or self._place(file) is None:
                return opened(file, mode, *args, **options)
            self.pass_by("opening", file)
            found = opened(file, mode, *args, **options)
            self.pass_by("opened", file)
            return HalvingFile(self, found, file)

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
    """An embedder whose work has a beginning and an end at which to die."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def embed(self, *args: Any, **options: Any) -> Any:
        self._watch.pass_by("before", None)
        found = super().embed(*args, **options)
        self._watch.pass_by("after", None)
        return found


def fill(path: str, write: Callable[[int, bytes], int] = os.write) -> None:
    """Take all the space that is left on a disk."""
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
