"""The Parquet files of artifacts: whether they are as they were written, reading and removing them.

The table of an artifact is one file, or a folder of that name with its parts. Other programs read either by its path.
"""

import hashlib
import io
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress

import pyarrow as pa
import pyarrow.parquet as pq

from selectllm.errors import StoreError
from selectllm.store.artifacts import Artifact, Manifest, Part, parse_manifest
from selectllm.store.root import Root
from selectllm.store.tables import in_batches, notes_of

OpenFile = io.BufferedReader | io.BytesIO


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

    def require(self, verified: Manifest) -> None:
        """Hash files that this process has verified by their stamp alone; raises StoreError where one is damaged."""
        for part in verified.files:
            if part.stamp is not None:
                with self._verified(verified, part, is_hashed=False):
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
        path = self._at(table_name(artifact))
        with self._failures("written"), suppress(FileNotFoundError):
            self.files.invalidate_cache(path)
            if self.files.isdir(path):
                self.files.rm(path, recursive=True)
            else:
                self.files.rm_file(path)

    def _readable_manifest(self, artifact: Artifact) -> Manifest:
        if manifest := self.manifest(artifact):
            return manifest
        raise self._damaged(artifact)

    def _verified_files(self, manifest: Manifest, *, is_new: bool) -> Generator[OpenFile]:
        """The open files of an artifact, one after the other; raises StoreError where one is not what it was.

        Those that this process has verified without their stamp are not hashed, unless the manifest `is_new` to it.
        """
        for part in manifest.files:
            with self._verified(manifest, part, is_hashed=not is_new and part.stamp is None) as file:
                yield file

    @contextmanager
    def _verified(self, manifest: Manifest, part: Part, *, is_hashed: bool) -> Iterator[OpenFile]:
        """An open file of an artifact, which is what its manifest says: hashed now, unless it `is_hashed` already."""
        artifact = manifest.artifact
        with suppress(FileNotFoundError), self._failures("read"), self.open_file(file_name(artifact, part)) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = part.sha256 if is_hashed else hashlib.file_digest(file, "sha256").hexdigest()
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
        manifest = self.manifest(artifact)
        return [file_name(artifact, part) for part in manifest.files] if manifest else [table_name(artifact)]

    def _stamp(self, artifact: Artifact, part: Part) -> str:
        """Which local file it is, and when it was last written to.

        Of a file that is no part, also when it was touched in any other way: a part is when another artifact takes it
        over, which gives the same file a second name.
        """
        status = os.stat(self._at(file_name(artifact, part)))
        stamp = f"{status.st_ino}-{status.st_mtime_ns}"
        return stamp if part.name else f"{stamp}-{status.st_ctime_ns}"


def table_name(artifact: Artifact) -> str:
    """The name, under the root, of an artifact's file, or of the folder of its parts."""
    return f"artifacts/{artifact.kind}/{artifact.key}.parquet"


def manifest_name(artifact: Artifact) -> str:
    """The name, under the root, of an artifact's manifest."""
    return f"artifacts/{artifact.kind}/{artifact.key}.json"


def file_name(artifact: Artifact, part: Part) -> str:
    """The name, under the root, of one of an artifact's files."""
    return f"{table_name(artifact)}/{part.name}" if part.name else table_name(artifact)
