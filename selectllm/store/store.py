"""The one cache: Parquet files named by what they were made from, each with a JSON manifest beside it.

The manifest is written last and carries the Parquet's digest, so an artifact is intact when its manifest says what the
file is.
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

import pyarrow as pa
import pyarrow.parquet as pq

from selectllm.errors import StoreError
from selectllm.store.artifacts import Artifact, Manifest, Origin, parse_manifest, versions
from selectllm.store.files import sync_folder, temporary_path
from selectllm.store.root import Root, last_part
from selectllm.store.tables import from_parquet_file, in_batches, mapped_from_parquet, to_parquet, write_parquet

STAMPED_BYTES: Final = 1 << 20
"""From this size on a file is not hashed as long as nobody has written to it; a smaller one is hashed in no time."""


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


class Store(Root):
    """Artifacts under one root. Raises UsageError and StoreError as `Root` does."""

    def path(self, artifact: Artifact) -> str:
        """Where the artifact's Parquet lies: a path, or a URL that pandas and pyarrow read."""
        return self.address(_table_name(artifact))

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

    def map(self, artifact: Artifact, verified: Manifest | None = None) -> pa.Table:
        """The same table, out of a temporary file of its size: for one that need not be in memory as a whole.

        Raises StoreError as `read` does, and where there is no room for the file.
        """
        with self._verified(artifact, verified) as file, self._failures("written"):
            return mapped_from_parquet(file, self._temporary(artifact))

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

    def write(self, artifact: Artifact, table: pa.Table, origin: Origin, facts: Mapping[str, Any]) -> Manifest:
        """Write a table and then its manifest, each whole or not at all."""
        if not self.is_local:
            content = to_parquet(table)
            whole = Content(table.num_rows, len(content), hashlib.sha256(content).hexdigest())
            self.write_bytes(_table_name(artifact), content)
            return self._write_manifest(artifact, whole, origin, facts)
        with self.stage(artifact, table.schema, [table]) as staged:
            return self.put(artifact, staged, origin, facts)

    @contextmanager
    def stage(self, artifact: Artifact, schema: pa.Schema, parts: Iterable[pa.Table]) -> Iterator[Staged]:
        """Write a table that comes in parts, of which one is in memory at a time, for `put` to make it the artifact.

        It lies on the store's own disk, or where temporary files do if the store is elsewhere.
        """
        path = self._temporary(artifact)
        try:
            yield Staged(path, self._write_local(path, schema, parts))
        finally:
            with suppress(OSError):  # the disk may have become read-only; what is left is removed when it is stale
                path.unlink(missing_ok=True)

    def _write_local(self, path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> Content:
        try:
            with path.open("wb") as file:
                content = Content(*write_parquet(file, schema, parts))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # nothing else: what is wrong with the parts is no fault of the disk
            raise self._failed("written", error) from error
        return content

    def _temporary(self, artifact: Artifact) -> Path:
        """A name for a temporary file: on the store's own disk, or where temporary files lie if it is elsewhere."""
        path = Path(self._at(_table_name(artifact)))
        with self._failures("written"):
            return temporary_path(path if self.is_local else Path(tempfile.gettempdir(), path.name))

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
        return [last_part(name) for name in self.list("artifacts")]

    def remove(self, artifact: Artifact) -> None:
        """Take an artifact out of the store: its manifest first, so that what is left is never taken for intact."""
        self.remove_file(_manifest_name(artifact))
        self.remove_file(_table_name(artifact))

    def _stamp(self, path: str) -> str:
        """Which file lies at a local path, and when it was last written to or touched in any other way."""
        status = os.stat(path)
        return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _table_name(artifact: Artifact) -> str:
    return f"artifacts/{artifact.kind}/{artifact.key}.parquet"


def _manifest_name(artifact: Artifact) -> str:
    return f"artifacts/{artifact.kind}/{artifact.key}.json"
