"""The files under one root, which is a folder or any fsspec URL: names below it, bytes, listings and locks.

Everything is written under a temporary name, made durable, then renamed: a reader never sees half a file.
"""

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import fsspec
from fsspec.implementations.local import LocalFileSystem

from selectllm.errors import SelectLLMError, StoreError, UsageError
from selectllm.paths import redact_url
from selectllm.store.files import remove_stale_temp_files, temporary_pattern, write_atomically
from selectllm.store.locks import Lease, try_kernel_lock

LAYOUT: Final = "v1"

BUCKET_PROTOCOLS: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss"})
"""Protocols of stores that hold objects in buckets, and know no folders."""


class Root:
    """The files of one store.

    Raises UsageError when the location's protocol is unknown, and StoreError when it cannot be read or written.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        try:
            self.files, self.root = fsspec.url_to_fs(os.path.expanduser(location))
        except Exception as error:  # each protocol has errors of its own
            raise UsageError(f"the store {redact_url(location)!r} cannot be opened: {error}") from None
        # Whether files can be renamed and made durable one by one; object stores put a file whole or not at all.
        self.is_local = isinstance(self.files, LocalFileSystem)
        if self.is_local and os.path.exists(self.root) and not os.path.isdir(self.root):
            raise UsageError(f"the store {location!r} is a file: name a folder")

    def address(self, name: str) -> str:
        """The full path or URL of a name under the store's root."""
        path = self._at(name)
        return path if self.is_local else str(self.files.unstrip_protocol(path))

    def lines(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The lines of a file under the root, one after the other, from its byte `start` on; raises as `read_bytes`."""
        with self._failures("read"), self.open_file(name) as file:
            file.seek(start)
            yield from file

    @property
    def has_folders(self) -> bool:
        """Whether folders are there by themselves; in a bucket they are but the beginnings of names."""
        protocol = self.files.protocol
        return BUCKET_PROTOCOLS.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)

    @property
    def scratch(self) -> str | None:
        """Where large files may lie for a while: on the store's own disk; None if it is elsewhere."""
        if not self.is_local:
            return None
        folder = self._at("")
        with self._failures("written"):
            os.makedirs(folder, exist_ok=True)
        return folder

    def remove_file(self, name: str) -> None:
        """Remove a file under the root, if it is there."""
        with self._failures("written"), suppress(FileNotFoundError):
            self.files.rm_file(self._at(name))

    def list(self, folder: str) -> list[str]:
        """The names of the files in a folder under the root, sorted; none where there is no such folder.

        Files that are still being written, or were when their writer died, are not among them.
        """
        return [f"{folder}/{name}" for name in sorted(map(last_part, self._entries(folder, detail=False)))]

    def sizes(self, folder: str) -> dict[str, int]:
        """The sizes of the files that `list` names, by their names within the folder."""
        entries = self._entries(folder, detail=True)
        return {last_part(entry["name"]): entry["size"] for entry in entries if entry["type"] != "directory"}

    def _entries(self, folder: str, *, detail: bool) -> Sequence[Any]:
        try:
            with self._failures("read"):
                self.files.invalidate_cache(self._at(folder))
                entries = self.files.ls(self._at(folder), detail=detail)
        except FileNotFoundError:
            return []
        return [entry for entry in entries if not last_part(entry["name"] if detail else entry).startswith(".")]

    @contextmanager
    def lock(self, folder: str, *, cancellable: bool = True) -> Iterator[None]:
        """Hold a folder alone while the block runs, which must be short; others wait for their turn.

        Waiting for a lease ends with Stopped when the run is cancelled, unless it is not `cancellable`.
        A holder that dies lets go: at once on a local disk, after `locks.LEASE_SECONDS` elsewhere.
        """
        path = self._at(f"{folder}/.lock")
        if self.is_local:
            with self._failures("written"):
                file = try_kernel_lock(path)
            if file is not None:
                with file:
                    yield
                return
            path = self._at(f"{folder}/.lease")  # a local `.lock` is the kernel's
        lease = Lease(self.files, path)
        with self._failures("written"):
            self._make_folder(path)
            lease.acquire(cancellable=cancellable)
        try:
            yield
        finally:
            with self._failures("written"):
                lease.release()

    def remove_stale_temp_files(self) -> None:
        """Remove the temporary files of writers that died; those for object stores lie where temporary files do."""
        if self.is_local:
            remove_stale_temp_files(Path(self.root, LAYOUT).rglob(temporary_pattern()))
        else:
            remove_stale_temp_files(Path(tempfile.gettempdir()).glob(temporary_pattern("*.parquet")))

    def read_bytes(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """The content of a file under the root, from its byte `start` on, or `size` bytes of it.

        Raises FileNotFoundError when there is none, StoreError when it cannot be read.
        """
        with self._failures("read"):
            if self.is_local:
                with Path(self._at(name)).open("rb") as file:
                    file.seek(start)
                    return file.read(size)
            end = None if size is None else start + size
            return bytes(self.files.cat_file(self._at(name), start=start or None, end=end))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Put a file under the root, durably, whole or not at all."""
        path = self._at(name)
        with self._failures("written"):
            if self.is_local:
                write_atomically(Path(path), content)
            else:
                self._make_folder(path)
                self.files.pipe_file(path, content)

    def open_file(self, name: str) -> io.BufferedReader | io.BytesIO:
        """A file under the root, to be read from anywhere in it; a remote one is fetched at once, and not in parts."""
        return Path(self._at(name)).open("rb") if self.is_local else io.BytesIO(self.read_bytes(name))

    def _make_folder(self, path: str) -> None:
        """Make the folder of a file, where there are any: object stores have none, and would make a bucket of it."""
        if self.has_folders:
            self.files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{LAYOUT}/{name}"

    @contextmanager
    def _failures(self, verb: str) -> Iterator[None]:
        """Turn what a file system raises, each its own kinds, into StoreError, but for a file that is not there."""
        try:
            yield
        except SelectLLMError:
            raise
        except Exception as error:
            if verb == "read" and isinstance(error, FileNotFoundError):
                raise
            raise self._failed(verb, error) from error

    def _failed(self, verb: str, error: Exception) -> StoreError:
        return StoreError(
            f"the store {redact_url(self.location)!r} cannot be {verb}: {getattr(error, 'strerror', None) or error}. "
            "Free space or mend permissions, then run again: it goes on from what is stored"
        )


def last_part(path: str) -> str:
    """The name of a file or folder without what it lies in."""
    return path.rstrip("/").rsplit("/", 1)[-1]
