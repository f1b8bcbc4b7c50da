"""The one cache: Parquet files named by what they were made from, each with a JSON manifest beside it.

The manifest is written last and carries the digest of each Parquet file, so an artifact is intact when its manifest
says what the files are. A large table may be many files in one folder, some of them copied from an earlier artifact.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from selectllm.store.artifacts import Artifact, Manifest, Origin, Part, parse_manifest, versions
from selectllm.store.files import sync_folder, temporary_path
from selectllm.store.root import last_part
from selectllm.store.table_files import TableFiles, file_name, manifest_name, table_name
from selectllm.store.tables import NO_NOTES, from_parquet_files, mapped_from_parquet, to_parquet, write_parquet

STAMPED_BYTES: Final = 1 << 20
"""From this size on a file is not hashed as long as nobody has written to it; a smaller one is hashed in no time."""


@dataclass(frozen=True)
class Staged:
    """A table that was written beside the artifacts, and is none yet: one file without a name, or a folder of parts."""

    path: Path
    files: tuple[Part, ...]


@dataclass(frozen=True)
class KeptPart:
    """A part of an artifact, which a new artifact takes over as it is."""

    manifest: Manifest
    part: Part


@dataclass(frozen=True)
class NewPart:
    """A part that is to be written: its table, and what is noted at its end."""

    key: str
    table: pa.Table
    notes: Mapping[str, str]


class Store(TableFiles):
    """Artifacts under one root. Raises UsageError and StoreError as `Root` does."""

    def read(self, artifact: Artifact, verified: Manifest | None = None) -> pa.Table:
        """The artifact's table; with the manifest that this process has just `verified`, no file is hashed again.

        A file that was verified by its stamp is hashed now. Raises StoreError when one is not there, or is not what its
        manifest says.
        """
        manifest = verified or self._readable_manifest(artifact)
        with self._failures("read"), closing(self._verified_files(manifest, is_new=verified is None)) as files:
            return from_parquet_files(files, manifest.rows)

    def read_part(self, kept: KeptPart) -> pa.Table:
        """The table of one part; raises StoreError as `read` does."""
        with self._failures("read"), self._verified(kept.manifest, kept.part, is_hashed=False) as file:
            return from_parquet_files([file], kept.part.rows)

    def map(self, artifact: Artifact, verified: Manifest | None = None) -> pa.Table:
        """The same table, out of a temporary file of its size: for one that need not be in memory as a whole.

        Raises StoreError as `read` does, and where there is no room for the file.
        """
        manifest = verified or self._readable_manifest(artifact)
        with closing(self._verified_files(manifest, is_new=verified is None)) as files, self._failures("written"):
            return mapped_from_parquet(files, self._temporary(artifact))

    def write(self, artifact: Artifact, table: pa.Table, origin: Origin, facts: Mapping[str, Any]) -> Manifest:
        """Write a table and then its manifest, each whole or not at all."""
        if not self.is_local:
            content = to_parquet(table)
            self.write_bytes(table_name(artifact), content)
            digest = hashlib.sha256(content).hexdigest()
            file = Part(name="", key="", rows=table.num_rows, bytes=len(content), sha256=digest)
            return self._write_manifest(artifact, (file,), origin, facts)
        with self.stage(artifact, table.schema, [table]) as staged:
            return self.put(artifact, staged, origin, facts)

    @contextmanager
    def stage(self, artifact: Artifact, schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[Staged]:
        """Write a table that comes in pieces, of which one is in memory at a time, for `put` to make it the artifact.

        It lies on the store's own disk, or where temporary files do if the store is elsewhere.
        """
        path = self._temporary(artifact)
        try:
            yield Staged(path, (self._write_local(path, schema, tables),))
        finally:
            with suppress(OSError):  # the disk may have become read-only; what is left is removed when it is stale
                path.unlink(missing_ok=True)

    @contextmanager
    def stage_parts(
        self, artifact: Artifact, schema: pa.Schema, parts: Iterable[NewPart | KeptPart]
    ) -> Iterator[Staged]:
        """Write a table as a folder of parts, of which one is in memory at a time, where `stage` writes.

        Raises StoreError where a part that is to be taken over is damaged.
        """
        folder = self._temporary(artifact)
        try:
            with self._failures("written"):
                folder.mkdir()
            written = []
            for number, part in enumerate(parts):
                path = folder / f"part-{number:06}.parquet"
                file = (
                    self._take_over(part, path) if isinstance(part, KeptPart) else self._write_part(part, path, schema)
                )
                written.append(file.model_copy(update={"name": path.name}))
            yield Staged(folder, tuple(written))
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what is left is removed when it is stale

    def _take_over(self, kept: KeptPart, path: Path) -> Part:
        """Give the file of a kept part a second name, `path`; or copy it, where a file can have one name alone."""
        verified = self._verified(kept.manifest, kept.part, is_hashed=False)
        with verified as file, self._failures("written"):
            if not self._is_linked(kept, path):
                with path.open("wb") as copied:
                    shutil.copyfileobj(file, copied, 1 << 20)
                    copied.flush()
                    os.fsync(copied.fileno())
        return kept.part

    def _is_linked(self, kept: KeptPart, path: Path) -> bool:
        if self.is_local:
            with suppress(OSError):
                os.link(self._at(file_name(kept.manifest.artifact, kept.part)), path)
                return True
        return False

    def _write_part(self, part: NewPart, path: Path, schema: pa.Schema) -> Part:
        return self._write_local(path, schema, [part.table], part.notes).model_copy(update={"key": part.key})

    def _write_local(
        self, path: Path, schema: pa.Schema, tables: Iterable[pa.Table], notes: Mapping[str, str] = NO_NOTES
    ) -> Part:
        try:
            with path.open("wb") as file:
                rows, size, digest = write_parquet(file, schema, tables, notes)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # nothing else: what is wrong with the tables is no fault of the disk
            raise self._failed("written", error) from error
        return Part(name="", key="", rows=rows, bytes=size, sha256=digest)

    def _temporary(self, artifact: Artifact) -> Path:
        """A name for a temporary file: on the store's own disk, or where temporary files lie if it is elsewhere."""
        path = Path(self._at(table_name(artifact)))
        with self._failures("written"):
            return temporary_path(path if self.is_local else Path(tempfile.gettempdir(), path.name))

    def put(self, artifact: Artifact, staged: Staged, origin: Origin, facts: Mapping[str, Any]) -> Manifest:
        """Make a staged table the artifact, and then write its manifest, each whole or not at all."""
        path = self._at(table_name(artifact))
        with self._failures("written"):
            if staged.files[0].name or (self.is_local and Path(path).is_dir()):
                self.remove(artifact)  # nothing can be put in the place of a folder at once
            if self.is_local:
                if staged.files[0].name:
                    sync_folder(staged.path)
                staged.path.replace(path)
                sync_folder(Path(path).parent)
            else:
                for part in staged.files:
                    target = self._at(file_name(artifact, part))
                    self._make_folder(target)
                    self.files.put_file(str(staged.path / part.name), target)
        return self._write_manifest(artifact, staged.files, origin, facts)

    def _write_manifest(
        self, artifact: Artifact, files: tuple[Part, ...], origin: Origin, facts: Mapping[str, Any]
    ) -> Manifest:
        files = tuple(file.model_copy(update={"stamp": self._stamp_of(artifact, file)}) for file in files)
        is_one = not files[0].name
        digest = (
            files[0].sha256 if is_one else hashlib.sha256("".join(each.sha256 for each in files).encode()).hexdigest()
        )
        manifest = Manifest(
            kind=artifact.kind,
            key=artifact.key,
            **origin.model_dump(include=set(Origin.model_fields)),
            facts=dict(facts),
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            sha256=digest,
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            stamp=files[0].stamp if is_one else None,
            parts=() if is_one else files,
        )
        self.write_bytes(manifest_name(artifact), manifest.model_dump_json(indent=1).encode())
        return manifest

    def _stamp_of(self, artifact: Artifact, file: Part) -> str | None:
        is_stamped = self.is_local and file.bytes >= STAMPED_BYTES
        return self._stamp(artifact, file) if is_stamped else None

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
