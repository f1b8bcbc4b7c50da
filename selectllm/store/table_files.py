"""The Parquet files of artifacts: whether they are as they were written, reading and removing them.

The table of an artifact is one file, or a folder of that name with its parts. Other programs read either by its path.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from selectllm.errors import StoreError
from selectllm.store.artifacts import Artifact, Manifest, Part, parse_manifest
from selectllm.store.files import temporary_path
from selectllm.store.root import Root
from selectllm.store.tables import in_batches, notes_of

OpenFile = io.BufferedReader | io.BytesIO


@dataclass(frozen=True)
class EarlierPart:
    """A part of an artifact that is in the store, which a new artifact may take over as it is."""

    manifest: Manifest
    part: Part


class TableFiles(Root):
    """The files of the artifacts under one root. Raises UsageError and StoreError as `Root` does."""

    def path(self, artifact: Artifact) -> str:
        """Where the artifact's Parquet lies, a file or a folder: a path, or a URL, that pandas and pyarrow read."""
        return self.address(table_name(artifact))

    def manifest(self, artifact: Artifact) -> Manifest | None:
        """The artifact's manifest, or None where there is none that can be read."""
        try:
            return parse_manifest(self.read_bytes(manifest_name(artifact)))
        except FileNotFoundError:
            return None

    def is_intact(self, artifact: Artifact) -> bool:
        """Whether the artifact is there, and its files are those that its manifest describes."""
        manifest = self.manifest(artifact)
        return manifest is not None and self.integrity_error(manifest) is None

    def integrity_error(self, manifest: Manifest) -> str | None:
        """What is wrong with an artifact's files, as the end of a sentence; None where they are as they were written.

        A large file on a local disk is known by its stamp, and hashed only where that is another: after it was copied,
        or altered. What a failing disk has done to it shows when it is read.
        """
        errors = (self.part_error(manifest.artifact, part) for part in manifest.files)
        return next((error for error in errors if error), None)

    def part_error(self, artifact: Artifact, part: Part) -> str | None:
        """What is wrong with one file of an artifact, as `integrity_error` says it."""
        path = self._at(file_name(artifact, part))
        try:
            with self._failures("read"):
                if self.files.size(path) != part.bytes:
                    return "was cut short or added to since it was written"
                if self.is_local and part.stamp is not None and part.stamp == self._stamp(artifact, part):
                    return None
                with self.files.open(path, "rb") as file:
                    is_same = hashlib.file_digest(file, "sha256").hexdigest() == part.sha256
        except FileNotFoundError:
            return "is gone"
        return None if is_same else "was altered since it was written"

    def is_sound(self, earlier: EarlierPart) -> bool:
        """Whether a part is, byte for byte, as it was written; it is hashed whatever its stamp says."""
        with suppress(StoreError):
            if self.part_error(earlier.manifest.artifact, earlier.part):
                return False
            if earlier.part.stamp is not None:
                with self._verified(earlier.manifest, earlier.part, skip_hash=False):
                    pass
            return True
        return False

    def require(self, verified: Manifest) -> None:
        """Hash those files that were trusted by their stamps; raises StoreError where one is damaged."""
        for part in verified.files:
            if part.stamp is not None:
                with self._verified(verified, part, skip_hash=False):
                    pass

    def schema(self, artifact: Artifact) -> pa.Schema:
        """The artifact's columns and their types, without reading the rest of it, and without a look at its digest.

        Raises FileNotFoundError when it is not there, StoreError when it is no Parquet file.
        """
        with self._failures("read"), self.files.open(self._at(self._file_names(artifact)[0]), "rb") as file:
            return pq.read_schema(file).remove_metadata()

    def scan(self, artifact: Artifact, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some of the artifact's columns, a few thousand rows at a time, so that a large one needs little memory.

        The files' digests are not looked at: `integrity_error` does that. Raises as `schema` does.
        """
        for name in self._file_names(artifact):
            with self._failures("read"), self.files.open(self._at(name), "rb") as file:
                yield from in_batches(file, columns)

    def notes(self, artifact: Artifact, part: Part) -> dict[str, str]:
        """What was noted at the end of a part when it was written; raises as `schema` does."""
        with self._failures("read"), self.files.open(self._at(file_name(artifact, part)), "rb") as file:
            return notes_of(file)

    def remove(self, artifact: Artifact) -> None:
        """Take an artifact out of the store: its manifest first, so that what is left is never taken for intact."""
        self.remove_file(manifest_name(artifact))
        if not self.is_local:
            self._remove_objects(table_name(artifact))
            return
        path = Path(self._at(table_name(artifact)))
        if not path.is_dir():
            self.remove_file(table_name(artifact))
            return
        with self._failures("written"), suppress(FileNotFoundError):
            aside = temporary_path(path)
            path.rename(aside)  # it is gone at once; what may be left of it is removed when it is stale
            shutil.rmtree(aside, ignore_errors=True)

    def _remove_objects(self, name: str) -> None:
        """Remove a file of an object store, or the folder of that name; one by one: brackets would be a pattern."""
        with self._failures("written"):
            self.files.invalidate_cache(self._at(name))
            is_folder = self.files.isdir(self._at(name))
        for part in self.list(name) if is_folder else ():
            self.remove_file(part)
        if is_folder and self.has_folders:
            with suppress(Exception):  # another run has put a part there, or it has gone
                self.files.rmdir(self._at(name))
        else:
            self.remove_file(name)

    def _readable_manifest(self, artifact: Artifact) -> Manifest:
        if manifest := self.manifest(artifact):
            return manifest
        raise self._damaged(artifact)

    def _verified_files(self, manifest: Manifest, *, is_new: bool) -> Generator[OpenFile]:
        """The open files of an artifact, one after the other; raises StoreError where one is not what it was.

        Those that this process has verified without their stamp are not hashed, unless the manifest `is_new` to it.
        """
        for part in manifest.files:
            with self._verified(manifest, part, skip_hash=not is_new and part.stamp is None) as file:
                yield file

    @contextmanager
    def _verified(self, manifest: Manifest, part: Part, *, skip_hash: bool) -> Iterator[OpenFile]:
        """An open file of an artifact, which is what its manifest says; with `skip_hash`, as far as its size tells."""
        artifact = manifest.artifact
        with suppress(FileNotFoundError), self._failures("read"), self.open_file(file_name(artifact, part)) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = part.sha256 if skip_hash else hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            if (size, digest) == (part.bytes, part.sha256):
                yield file
                return
            if part.stamp is not None:  # the next run would trust the stamp again
                now = self.manifest(artifact)
                if now and (now.files, now.created) == (manifest.files, manifest.created):  # nobody has made it anew
                    self.remove_file(manifest_name(artifact))
        raise self._damaged(artifact)

    def _damaged(self, artifact: Artifact) -> StoreError:
        return StoreError(f"{self.path(artifact)} is missing or damaged: run again, and it is made again")

    def _file_names(self, artifact: Artifact) -> list[str]:
        if manifest := self.manifest(artifact):
            return [file_name(artifact, part) for part in manifest.files]
        if self.files.isdir(self._at(table_name(artifact))):  # which of its files count is not known
            raise self._damaged(artifact)
        return [table_name(artifact)]

    def _stamp(self, artifact: Artifact, part: Part) -> str:
        """Which local file it is, and when it was last written to; of one that is no part, or touched otherwise."""
        path = Path(self._at(file_name(artifact, part)))
        return stamp_of(path) if part.name else f"{stamp_of(path)}-{path.stat().st_ctime_ns}"


def stamp_of(path: Path) -> str:
    """Which local file it is, and when it was last written to. A second name for it changes neither."""
    status = path.stat()
    return f"{status.st_ino}-{status.st_mtime_ns}"


def table_name(artifact: Artifact) -> str:
    """The name, under the root, of an artifact's file, or of the folder of its parts."""
    return f"artifacts/{artifact.kind}/{artifact.key}.parquet"


def manifest_name(artifact: Artifact) -> str:
    """The name, under the root, of an artifact's manifest."""
    return f"artifacts/{artifact.kind}/{artifact.key}.json"


def file_name(artifact: Artifact, part: Part) -> str:
    """The name, under the root, of one of an artifact's files."""
    return f"{table_name(artifact)}/{part.name}" if part.name else table_name(artifact)
