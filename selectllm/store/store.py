"""The one cache: Parquet files named by what they were made from, each with a JSON manifest beside it.

The manifest is written last and carries the Parquet's digest, so an artifact is intact when its manifest says what the
file is. Everything is written under a temporary name, made durable, then renamed: a reader never sees half a file.
"""

import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from selectllm.errors import SelectLLMError, StoreError, UsageError
from selectllm.paths import redact_url
from selectllm.store.artifacts import Artifact, Manifest, Origin, parse_manifest, versions
from selectllm.store.files import (
    remove_stale_temp_files,
    sync_folder,
    temporary_path,
    temporary_pattern,
    write_atomically,
)
from selectllm.store.locks import Lease, try_kernel_lock
from selectllm.store.tables import from_parquet_file, in_batches, to_parquet, write_parquet

LAYOUT: Final = "v1"

STAMPED_BYTES: Final = 1 << 20
"""From this size on a file is not hashed as long as nobody has written to it; a smaller one is hashed in no time."""

BUCKET_PROTOCOLS: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss"})
"""Protocols of stores that hold objects in buckets, and know no folders."""


@dataclass(frozen=True)
class Content:
    """What the file of a table holds: its rows, its bytes, and the SHA-256 of these."""

    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Staged:
    """A table that was written to a local file beside the artifacts, and is none of them yet."""

    path: Path
    content: Content


class Store:
    """Artifacts under one root, which is a folder or any fsspec URL.

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

    def path(self, artifact: Artifact) -> str:
        """Where the artifact's Parquet lies: a path, or a URL that pandas and pyarrow read."""
        return self.address(_table_name(artifact))

    def address(self, name: str) -> str:
        """The full path or URL of a name under the store's root."""
        path = self._at(name)
        return path if self.is_local else str(self.files.unstrip_protocol(path))

    def manifest(self, artifact: Artifact) -> Manifest | None:
        """The artifact's manifest, or None where there is none that can be read."""
        try:
            return parse_manifest(self.read_bytes(_manifest_name(artifact)))
        except FileNotFoundError:
            return None

    def is_intact(self, artifact: Artifact) -> bool:
        """Whether the artifact is there, and its file is the one that its manifest describes."""
        manifest = self.manifest(artifact)
        return manifest is not None and self.integrity_error(manifest) is None

    def integrity_error(self, manifest: Manifest) -> str | None:
        """What is wrong with the file of an artifact, as the end of a sentence; None where it is as it was written.

        A large file on a local disk is known by its stamp, and hashed only where that is another: after it was copied,
        or altered. What a failing disk has done to it shows when it is read.
        """
        path = self._at(_table_name(manifest.artifact))
        try:
            with self._failures("read"):
                if self.files.size(path) != manifest.bytes:
                    return "was cut short or added to since it was written"
                if self.is_local and manifest.stamp is not None and manifest.stamp == self._stamp(path):
                    return None
                with self.files.open(path, "rb") as file:
                    is_same = hashlib.file_digest(file, "sha256").hexdigest() == manifest.sha256
        except FileNotFoundError:
            return "is gone"
        return None if is_same else "was altered since it was written"

    def read(self, artifact: Artifact, verified: Manifest | None = None) -> pa.Table:
        """The artifact's table; with the manifest that this process has just `verified`, its file is not hashed again.

        A file that was verified by its stamp is hashed now. Raises StoreError when it is not there, or is not what its
        manifest says.
        """
        with self._verified(artifact, verified) as file:
            return from_parquet_file(file)

    def require(self, verified: Manifest) -> None:
        """Hash a file that this process has verified by its stamp alone; raises StoreError as `read` does."""
        if verified.stamp is not None:
            with self._verified(verified.artifact, verified):
                pass

    @contextmanager
    def _verified(self, artifact: Artifact, verified: Manifest | None) -> Iterator[io.BufferedReader | io.BytesIO]:
        """The open file of an artifact, which is what its manifest says; raises StoreError as `read` does."""
        manifest = verified or self.manifest(artifact)
        with suppress(FileNotFoundError), self._failures("read"), self._open(_table_name(artifact)) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            is_hashed = verified is not None and verified.stamp is None
            digest = verified.sha256 if verified and is_hashed else hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            if manifest and (size, digest) == (manifest.bytes, manifest.sha256):
                yield file
                return
            if manifest and manifest.stamp is not None:  # the next run would trust the stamp again
                now = self.manifest(artifact)
                if now and (now.stamp, now.created) == (manifest.stamp, manifest.created):  # nobody has made it anew
                    self.remove_file(_manifest_name(artifact))
        raise StoreError(f"{self.path(artifact)} is missing or damaged: run again, and it is made again")

    def schema(self, artifact: Artifact) -> pa.Schema:
        """The artifact's columns and their types, without reading the rest of it, and without a look at its digest.

        Raises FileNotFoundError when it is not there, StoreError when it is no Parquet file.
        """
        with self._failures("read"), self.files.open(self._at(_table_name(artifact)), "rb") as file:
            return pq.read_schema(file)

    def scan(self, artifact: Artifact, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some of the artifact's columns, a few thousand rows at a time, so that a large one needs little memory.

        The file's digest is not looked at: `integrity_error` does that. Raises as `schema` does.
        """
        with self._failures("read"), self.files.open(self._at(_table_name(artifact)), "rb") as file:
            yield from in_batches(file, columns)

    def lines(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The lines of a file under the root, one after the other, from its byte `start` on; raises as `read_bytes`."""
        with self._failures("read"), self._open(name) as file:
            file.seek(start)
            yield from file

    def write(self, artifact: Artifact, table: pa.Table, origin: Origin, facts: Mapping[str, Any]) -> Manifest:
        """Write a table and then its manifest, each whole or not at all."""
        content = to_parquet(table)
        whole = Content(table.num_rows, len(content), hashlib.sha256(content).hexdigest())
        self.write_bytes(_table_name(artifact), content)
        return self._write_manifest(artifact, whole, origin, facts)

    @contextmanager
    def stage(self, artifact: Artifact, schema: pa.Schema, parts: Iterable[pa.Table]) -> Iterator[Staged]:
        """Write a table that comes in parts, of which one is in memory at a time, for `put` to make it the artifact.

        It lies on the store's own disk, or where temporary files do if the store is elsewhere.
        """
        path = Path(self._at(_table_name(artifact)))
        path = temporary_path(path if self.is_local else Path(tempfile.gettempdir(), path.name))
        try:
            with self._failures("written"), path.open("wb") as file:
                content = Content(*write_parquet(file, schema, parts))
                file.flush()
                os.fsync(file.fileno())
            yield Staged(path, content)
        finally:
            path.unlink(missing_ok=True)

    def put(self, artifact: Artifact, staged: Staged, origin: Origin, facts: Mapping[str, Any]) -> Manifest:
        """Make a staged table the artifact, and then write its manifest, each whole or not at all."""
        path = self._at(_table_name(artifact))
        with self._failures("written"):
            if self.is_local:
                staged.path.replace(path)
                sync_folder(Path(path).parent)
            else:
                self._make_folder(path)
                self.files.put_file(str(staged.path), path)
        return self._write_manifest(artifact, staged.content, origin, facts)

    def _write_manifest(
        self, artifact: Artifact, content: Content, origin: Origin, facts: Mapping[str, Any]
    ) -> Manifest:
        manifest = Manifest(
            kind=artifact.kind,
            key=artifact.key,
            **origin.model_dump(include=set(Origin.model_fields)),
            facts=dict(facts),
            rows=content.rows,
            bytes=content.bytes,
            sha256=content.sha256,
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        if self.is_local and content.bytes >= STAMPED_BYTES:
            manifest = manifest.model_copy(update={"stamp": self._stamp(self._at(_table_name(artifact)))})
        self.write_bytes(_manifest_name(artifact), manifest.model_dump_json(indent=1).encode())
        return manifest

    @property
    def scratch(self) -> str | None:
        """Where large files may lie for a while: on the store's own disk; None if it is elsewhere."""
        if not self.is_local:
            return None
        folder = self._at("")
        with self._failures("written"):
            os.makedirs(folder, exist_ok=True)
        return folder

    def manifests(self, kind: str) -> list[Manifest]:
        """The manifests of all artifacts of a kind, the oldest first; those that cannot be read are passed over."""
        names = [name for name in self.list(f"artifacts/{kind}") if name.endswith(".json")]
        # Together: an object store answers many requests at once. Not `cat`, to which brackets in a path are a pattern.
        contents = self.files.cat_ranges([self._at(name) for name in names], None, None, on_error="return")
        for content in contents:
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise self._failed("read", content) from content
        manifests = [parse_manifest(content) for content in contents if isinstance(content, bytes)]
        return sorted((manifest for manifest in manifests if manifest), key=lambda m: (m.created, m.key))

    def kinds(self) -> list[str]:
        """The kinds of which there are artifacts, sorted."""
        return [_last_part(name) for name in self.list("artifacts")]

    def remove(self, artifact: Artifact) -> None:
        """Take an artifact out of the store: its manifest first, so that what is left is never taken for intact."""
        self.remove_file(_manifest_name(artifact))
        self.remove_file(_table_name(artifact))

    def remove_file(self, name: str) -> None:
        """Remove a file under the root, if it is there."""
        with self._failures("written"), suppress(FileNotFoundError):
            self.files.rm_file(self._at(name))

    def list(self, folder: str) -> list[str]:
        """The names of the files in a folder under the root, sorted; none where there is no such folder.

        Files that are still being written, or were when their writer died, are not among them.
        """
        return [f"{folder}/{name}" for name in sorted(map(_last_part, self._entries(folder, detail=False)))]

    def sizes(self, folder: str) -> dict[str, int]:
        """The sizes of the files that `list` names, by their names within the folder."""
        entries = self._entries(folder, detail=True)
        return {_last_part(entry["name"]): entry["size"] for entry in entries if entry["type"] != "directory"}

    def _entries(self, folder: str, *, detail: bool) -> Sequence[Any]:
        try:
            with self._failures("read"):
                self.files.invalidate_cache(self._at(folder))
                entries = self.files.ls(self._at(folder), detail=detail)
        except FileNotFoundError:
            return []
        return [entry for entry in entries if not _last_part(entry["name"] if detail else entry).startswith(".")]

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
        """Remove the temporary files of writers that died; object stores put a file whole, and have none."""
        if self.is_local:
            remove_stale_temp_files(Path(self.root, LAYOUT).rglob(temporary_pattern()))

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

    def _stamp(self, path: str) -> str:
        """Which file lies at a local path, and when it was last written to or touched in any other way."""
        status = os.stat(path)
        return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"

    def _open(self, name: str) -> io.BufferedReader | io.BytesIO:
        """A file under the root, to be read from anywhere in it; a remote one is fetched at once, and not in parts."""
        return Path(self._at(name)).open("rb") if self.is_local else io.BytesIO(self.read_bytes(name))

    def _make_folder(self, path: str) -> None:
        """Make the folder of a file, where there are any: object stores have none, and would make a bucket of it."""
        protocol = self.files.protocol
        if BUCKET_PROTOCOLS.isdisjoint((protocol,) if isinstance(protocol, str) else protocol):
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


def _last_part(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _table_name(artifact: Artifact) -> str:
    return f"artifacts/{artifact.kind}/{artifact.key}.parquet"


def _manifest_name(artifact: Artifact) -> str:
    return f"artifacts/{artifact.kind}/{artifact.key}.json"
