"""The one cache: Parquet files named by what they were made from, each with a JSON manifest beside it.

The manifest is written last and carries the digest of each Parquet file, so an artifact is intact when its manifest
says what the files are. A large table may be many files in one folder, some of them taken over from an earlier
artifact.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from selectllm.store.artifacts import Artifact, Manifest, Origin, Part, parse_manifest, versions
from selectllm.store.files import sync_folder, temporary_path
from selectllm.store.root import last_part
from selectllm.store.table_files import EarlierPart, TableFiles, file_name, manifest_name, stamp_of, table_name
from selectllm.store.tables import NO_NOTES, from_parquet_files, mapped_from_parquet, to_parquet, write_parquet

STAMPED_BYTES: Final = 1 << 20
"""From this size on a file is not hashed as long as nobody has written to it; a smaller one is hashed in no time."""


@dataclass(frozen=True)
class Staged:
    """A table that was written beside the artifacts, and is none yet: one file without a name, or a folder of parts.

    `copied` are parts, by name, that an object store is to copy from earlier artifacts by itself.
    """

    path: Path
    files: tuple[Part, ...]
    copied: Mapping[str, EarlierPart] = field(default_factory=dict)


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

    def read_part(self, earlier: EarlierPart) -> pa.Table:
        """The table of one part; raises StoreError as `read` does."""
        with self._failures("read"), self._verified(earlier.manifest, earlier.part, skip_hash=False) as file:
            return from_parquet_files([file], earlier.part.rows)

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
        self, artifact: Artifact, schema: pa.Schema, parts: Iterable[NewPart | EarlierPart]
    ) -> Iterator[Staged]:
        """Write a table as a folder of parts, of which one is in memory at a time, where `stage` writes.

        Raises StoreError where a part that is to be taken over is damaged.
        """
        folder, written, copied = self._temporary(artifact), list[Part](), dict[str, EarlierPart]()
        try:
            with self._failures("written"):
                folder.mkdir()
            for number, part in enumerate(parts):
                path = folder / f"part-{number:06}.parquet"
                if isinstance(part, NewPart):
                    file = self._write_part(part, path, schema)
                elif self.is_local:
                    file = self._take_over(part, path)
                else:
                    file, copied[path.name] = part.part, part
                written.append(file.model_copy(update={"name": path.name}))
            yield Staged(folder, tuple(written), copied)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what is left is removed when it is stale

    def _take_over(self, earlier: EarlierPart, path: Path) -> Part:
        """Give the file of a part a second name, `path`; or copy it, where it is small or can have one name alone."""
        if earlier.part.stamp is None or not self._try_to_link(earlier, path):
            verified = self._verified(earlier.manifest, earlier.part, skip_hash=False)
            with verified as file, self._failures("written"), path.open("wb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
        return earlier.part

    def _try_to_link(self, earlier: EarlierPart, path: Path) -> bool:
        """Give a part's file the second name `path`; False where it can have none, or was written to meanwhile."""
        with suppress(OSError):
            os.link(self._at(file_name(earlier.manifest.artifact, earlier.part)), path)
            if stamp_of(path) == earlier.part.stamp:
                return True
            path.unlink()
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
        is_folder = bool(staged.files[0].name)
        if not self.is_local:
            self._upload(artifact, staged)
            return self._write_manifest(artifact, staged.files, origin, facts)
        path = Path(self._at(table_name(artifact)))
        if is_folder or path.is_dir():
            self.remove(artifact)  # nothing can be put in the place of a folder at once
        with self._failures("written"):
            if is_folder:
                sync_folder(staged.path)
            staged.path.replace(path)
            sync_folder(path.parent)
        return self._write_manifest(artifact, staged.files, origin, facts)

    def _upload(self, artifact: Artifact, staged: Staged) -> None:
        """Put the files of a staged table on an object store. Until its manifest is written, none of them counts."""
        whole, names = table_name(artifact), [file_name(artifact, part) for part in staged.files]
        is_folder = names != [whole]
        if is_folder:
            self.remove_file(manifest_name(artifact))
        with self._failures("written"):
            if is_folder and not self.files.isdir(self._at(whole)):
                self.remove_file(whole)
            for part, name in zip(staged.files, names, strict=True):
                earlier = staged.copied.get(part.name)
                source = file_name(earlier.manifest.artifact, earlier.part) if earlier else None
                self._make_folder(self._at(name))
                if source is None:
                    self.files.put_file(str(staged.path / part.name), self._at(name))
                elif source != name:  # else the artifact itself has it: another part was damaged
                    self.files.cp_file(self._at(source), self._at(name))
        for name in set(self.list(whole)).difference(names) if is_folder else ():
            self.remove_file(name)  # of a table of more parts that was here before

    def _write_manifest(
        self, artifact: Artifact, files: tuple[Part, ...], origin: Origin, facts: Mapping[str, Any]
    ) -> Manifest:
        files = tuple(file.model_copy(update={"stamp": self._new_stamp(artifact, file)}) for file in files)
        is_one, all_digests = not files[0].name, "".join(file.sha256 for file in files)
        manifest = Manifest(
            kind=artifact.kind,
            key=artifact.key,
            **origin.model_dump(include=set(Origin.model_fields)),
            facts=dict(facts),
            rows=sum(file.rows for file in files),
            bytes=sum(file.bytes for file in files),
            sha256=all_digests if is_one else hashlib.sha256(all_digests.encode()).hexdigest(),
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
            stamp=files[0].stamp if is_one else None,
            parts=() if is_one else files,
        )
        self.write_bytes(manifest_name(artifact), manifest.model_dump_json(indent=1).encode())
        return manifest

    def _new_stamp(self, artifact: Artifact, file: Part) -> str | None:
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
