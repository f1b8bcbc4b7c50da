"""The one cache: Parquet files named by what they were made from, each with a JSON manifest beside it.

The manifest is written last and carries the Parquet's digest, so an artifact is whole when its manifest says what the
file is. Everything is written under a temporary name, made durable, then renamed: a reader never sees half a file.
"""

import errno
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, ValidationError

from selectllm import stopping
from selectllm.errors import StoreError, UsageError
from selectllm.locations import bare
from selectllm.tables import from_parquet, to_parquet

LAYOUT: Final = "v1"
TEMPORARY: Final = ".*.tmp"
"""What a file is called while it is written."""

TEMPORARY_SECONDS: Final = 3600.0
"""A temporary file as old as this belongs to nobody any more."""

LEASE_SECONDS: Final = 60.0
"""How long a lock on an object store holds when its holder died.

Blocks that need one take a second or so. Only tables of vectors may take longer to write, and those are the same
whoever writes them."""

NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF})
"""How a file system says that it has no locks; the last is NFS, which has them for files that are written to."""

BUCKETS: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss"})
"""Protocols of stores that hold objects in buckets, and know no folders."""

RECORDED: Final = (
    *("selectllm", "numpy", "pyarrow", "scikit-learn", "scipy"),
    *("sentence-transformers", "transformers", "tokenizers", "torch", "ollama", "openai", "xllamacpp"),
)
"""Packages whose versions are recorded with every artifact."""


class Artifact(BaseModel):
    """The name of a table in the store: its kind, and the digest of all that it was made from."""

    model_config = ConfigDict(frozen=True)

    kind: str
    key: str


class Manifest(BaseModel):
    """What is known of an artifact: where it came from, and what its file must be."""

    model_config = ConfigDict(frozen=True)

    kind: str
    key: str
    recipe: int
    made_from: dict[str, str]  # keys of the inputs
    inputs: dict[str, str]  # and the digests of their files, of those that lie in the store
    settings: dict[str, Any]
    facts: dict[str, Any]
    rows: int
    bytes: int
    sha256: str
    versions: dict[str, str]
    created: str


def content_key(kind: str, recipe: int, made_from: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The digest, 32 hex digits, of what an artifact is made from; never of times, hosts or secrets."""
    return digest(kind, recipe, dict(made_from), dict(settings))


def digest(*parts: Any) -> str:
    """blake2b-128 in hex of the canonical JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def versions() -> dict[str, str]:
    """The versions of the packages that decide results, as far as they are installed."""
    found = {}
    for package in RECORDED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class Store:
    """Artifacts under one root, which is a folder or any fsspec URL.

    Raises UsageError when the location's protocol is unknown, and StoreError when it cannot be read or written.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        try:
            self.files, self.root = fsspec.url_to_fs(os.path.expanduser(location))
        except Exception as error:  # each protocol fails in its own way when it is not given what it needs
            raise UsageError(f"the store {bare(location)!r} cannot be opened: {error}") from None
        if self.is_local and os.path.exists(self.root) and not os.path.isdir(self.root):
            raise UsageError(f"the store {location!r} is a file: name a folder")

    @cached_property
    def is_local(self) -> bool:
        """Whether files can be renamed and made durable one by one; object stores put a file whole or not at all."""
        return isinstance(self.files, LocalFileSystem)

    @cached_property
    def _protocols(self) -> tuple[str, ...]:
        protocol = self.files.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def path(self, artifact: Artifact) -> str:
        """Where the artifact's Parquet lies: a path, or a URL that pandas and pyarrow read."""
        return self.address(f"artifacts/{artifact.kind}/{artifact.key}.parquet")

    def address(self, name: str) -> str:
        """The full path or URL of a name under the store's root."""
        path = self._at(name)
        return path if self.is_local else str(self.files.unstrip_protocol(path))

    def manifest(self, artifact: Artifact) -> Manifest | None:
        """The artifact's manifest, or None where there is none that can be read."""
        try:
            return _manifest(self.read_bytes(f"artifacts/{artifact.kind}/{artifact.key}.json"))
        except FileNotFoundError:
            return None

    def whole(self, artifact: Artifact) -> bool:
        """Whether the artifact is there, and its file is the one that its manifest describes."""
        manifest = self.manifest(artifact)
        return manifest is not None and self.fault(manifest) is None

    def fault(self, manifest: Manifest) -> str | None:
        """What is wrong with the file of an artifact, as the end of a sentence; None where it is as it was written."""
        path = self._at(f"artifacts/{manifest.kind}/{manifest.key}.parquet")
        try:
            if self.files.size(path) != manifest.bytes:
                return "was cut short or added to since it was written"
            with self.files.open(path, "rb") as file:
                is_same = hashlib.file_digest(file, "sha256").hexdigest() == manifest.sha256
        except FileNotFoundError:
            return "is gone"
        except Exception as error:  # object stores have errors of their own
            raise self._failed("read", error) from error
        return None if is_same else "was altered since it was written"

    def read(self, artifact: Artifact) -> pa.Table:
        """The artifact's table.

        Raises StoreError when it is not there, or is not what its manifest says.
        """
        try:
            content = self.read_bytes(f"artifacts/{artifact.kind}/{artifact.key}.parquet")
        except FileNotFoundError:
            content = b""
        manifest = self.manifest(artifact)
        if manifest is None or hashlib.sha256(content).hexdigest() != manifest.sha256:
            raise StoreError(f"{self.path(artifact)} is missing or damaged: run again, and it is made again")
        return from_parquet(content)

    def write(
        self,
        artifact: Artifact,
        table: pa.Table,
        *,
        recipe: int,
        made_from: Mapping[str, str],
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Write a table and then its manifest, each whole or not at all."""
        content = to_parquet(table)
        manifest = Manifest(
            kind=artifact.kind,
            key=artifact.key,
            recipe=recipe,
            made_from=dict(made_from),
            inputs=dict(inputs or {}),
            settings=dict(settings),
            facts=dict(facts),
            rows=table.num_rows,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        self.write_bytes(f"artifacts/{artifact.kind}/{artifact.key}.parquet", content)
        self.write_bytes(f"artifacts/{artifact.kind}/{artifact.key}.json", manifest.model_dump_json(indent=1).encode())
        return manifest

    def manifests(self, kind: str) -> list[Manifest]:
        """The manifests of all artifacts of a kind, the oldest first; those that cannot be read are passed over."""
        names = [name for name in self.list(f"artifacts/{kind}") if name.endswith(".json")]
        # Together: an object store answers many requests at once. Not `cat`, to which brackets in a path are a pattern.
        contents = self.files.cat_ranges([self._at(name) for name in names], None, None, on_error="return")
        for content in contents:
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise self._failed("read", content) from content
        found = [_manifest(content) for content in contents if isinstance(content, bytes)]
        return sorted((one for one in found if one), key=lambda one: (one.created, one.key))

    def kinds(self) -> list[str]:
        """The kinds of which there are artifacts, sorted."""
        return [name.rsplit("/", 1)[-1] for name in self.list("artifacts")]

    def remove(self, artifact: Artifact) -> None:
        """Take an artifact out of the store: its manifest first, so that what is left is never taken for whole."""
        for end in ("json", "parquet"):
            self.remove_file(f"artifacts/{artifact.kind}/{artifact.key}.{end}")

    def remove_file(self, name: str) -> None:
        """Remove a file under the root, if it is there."""
        try:
            self.files.rm_file(self._at(name))
        except FileNotFoundError:
            pass
        except Exception as error:  # object stores have errors of their own
            raise self._failed("written", error) from error

    def list(self, folder: str) -> list[str]:
        """The names of the files in a folder under the root, sorted; none where there is no such folder.

        Files that are still being written, or were when their writer died, are not among them.
        """
        try:
            self.files.invalidate_cache(self._at(folder))
            found = self.files.ls(self._at(folder), detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:  # object stores have errors of their own
            raise self._failed("read", error) from error
        names = (path.rstrip("/").rsplit("/", 1)[-1] for path in found)
        return sorted(f"{folder}/{name}" for name in names if not name.startswith("."))

    @contextmanager
    def exclusive(self, folder: str, *, stoppable: bool = True) -> Iterator[None]:
        """Hold a folder for oneself while the block runs, which must be short; others wait for their turn.

        Waiting ends with Stopped when the run is to stop, unless it is not `stoppable`.

        A holder that dies lets go: at once on a local disk, after `LEASE_SECONDS` on an object store, and on a disk
        whose file system knows no locks.
        """
        name = f"{folder}/.lock"
        if self.is_local and os.name != "nt":
            try:
                os.makedirs(os.path.dirname(self._at(name)), exist_ok=True)
                handle = os.open(self._at(name), os.O_RDONLY | os.O_CREAT, 0o666)  # nothing is ever written to it
            except OSError as error:
                raise self._failed("written", error) from error
            try:
                if self._locked(handle):
                    yield
                    return
            finally:
                os.close(handle)
            name = f"{folder}/.lease"
        with self._leased(name, stoppable):
            yield

    def _locked(self, handle: int) -> bool:
        """Wait for the kernel's lock on an open file; False where its file system has none."""
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return False
            raise self._failed("written", error) from error
        return True

    @contextmanager
    def _leased(self, name: str, stoppable: bool) -> Iterator[None]:
        """Hold a file that nobody else could make at the same time, and that goes away at the end."""
        lock = self._at(name)
        self._make_folder(lock)
        mine, seen, since = secrets.token_bytes(8), b"", time.monotonic()
        while not self._created(lock, mine):
            if stoppable:
                stopping.check()
            held = self._content(lock)
            if held != seen:  # someone else holds it now; how long, our own clock tells
                seen, since = held, time.monotonic()
            elif time.monotonic() - since > LEASE_SECONDS and self._content(lock) == seen:
                self.remove_file(name)
            time.sleep(0.2)
        try:
            yield
        finally:
            if self._content(lock) == mine:
                self.remove_file(name)

    def _created(self, path: str, content: bytes) -> bool:
        """Whether this caller, and nobody else, has just made the file."""
        try:
            self.files.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:  # object stores have errors of their own
            raise self._failed("written", error) from error
        return True

    def _content(self, path: str) -> bytes:
        try:
            content: bytes = self.files.cat_file(path)
        except FileNotFoundError:
            return b""
        except Exception as error:  # object stores have errors of their own
            raise self._failed("read", error) from error
        return content

    def sweep(self) -> None:
        """Remove the temporary files of writers that died: no writer takes `TEMPORARY_SECONDS` over one file."""
        if not self.is_local:
            return  # object stores put a file whole, and have no temporary ones
        sweep(Path(self.root, LAYOUT).rglob(TEMPORARY))

    def read_bytes(self, name: str, start: int = 0) -> bytes:
        """The content of a file under the root, from its byte `start` on.

        Raises FileNotFoundError when there is none, StoreError when it cannot be read.
        """
        try:
            content: bytes = self.files.cat_file(self._at(name), start=start or None)
            return content
        except FileNotFoundError:
            raise
        except Exception as error:  # object stores have errors of their own
            raise self._failed("read", error) from error

    def write_bytes(self, name: str, content: bytes) -> None:
        """Put a file under the root, durably, whole or not at all."""
        path = self._at(name)
        try:
            if self.is_local:
                write_atomically(Path(path), content)
            else:
                self._make_folder(path)
                self.files.pipe_file(path, content)
        except Exception as error:  # object stores have errors of their own
            raise self._failed("written", error) from error

    def _make_folder(self, path: str) -> None:
        """Make the folder of a file, where there are any: object stores have none, and would make a bucket of it."""
        if not BUCKETS.intersection(self._protocols):
            self.files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)

    def _at(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{LAYOUT}/{name}"

    def _failed(self, verb: str, error: Exception) -> StoreError:
        return StoreError(
            f"the store {bare(self.location)!r} cannot be {verb}: {getattr(error, 'strerror', None) or error}. "
            "Free space or mend permissions, then run again: it goes on from what is stored"
        )


def _manifest(content: bytes) -> Manifest | None:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        return None


def sweep(temporary: Iterable[Path]) -> None:
    """Remove those of these temporary files that belong to nobody any more."""
    oldest = time.time() - TEMPORARY_SECONDS
    for path in temporary:
        with suppress(OSError):  # another run swept it, or it cannot be removed: it is in nobody's way
            if path.stat().st_mtime < oldest:
                path.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a local file under a temporary name, make it durable, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable: without it a rename can be lost with the power. Windows has no way to."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
