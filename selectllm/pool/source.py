"""The bytes of a pool's file, from a local path or any URL that fsspec knows, with one kind of error for all."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Final

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from selectllm.errors import MissingDependency, PoolError
from selectllm.pool.formats import file_format, shown_name, suffix_of
from selectllm.text import one_line, short_error

_FILES_SHOWN: Final = 5
_ADVICE: Final = {
    401: "Give the key or password that it asks for.",
    403: "Ask for the right to read it, or name a copy.",
    429: "Wait a while, and try again.",
}
"""What to do about a server's refusal, by its status."""


@dataclass(frozen=True)
class PoolFile:
    """A file that was read once: its bytes as they are stored, and their blake2b-128 digest in 32 hex digits."""

    location: str
    data: bytes = field(repr=False)
    digest: str


def fetch(location: str) -> PoolFile:
    """Read the file of a pool; raises as `fetch_bytes` does."""
    data = fetch_bytes(location)
    return PoolFile(location, data, hashlib.blake2b(data, digest_size=16).hexdigest())


def fetch_bytes(location: str, *, is_table: bool = True) -> bytes:
    """All bytes of the file at a path or URL, whose name must end in the name of a format if it `is_table`.

    Raises PoolError where it cannot be read, MissingDependency where an optional package is needed to reach it.
    """
    filesystem, path = _filesystem(location)
    try:
        with filesystem.open(path, "rb") as file:
            if is_table:  # after a directory was refused as one, and before anything is fetched in vain
                file_format(location)
            return bytes(file.read())
    except PoolError:
        raise
    except Exception as error:  # every file system has its own, and few of them are OSErrors
        raise PoolError(_message(location, filesystem, path, error)) from error


def _filesystem(location: str) -> tuple[Any, str]:
    if "://" not in location:  # so that a file may be called a::b.jsonl, which fsspec would take for a chain
        return LocalFileSystem(), os.path.expanduser(location)
    name = shown_name(location)
    try:
        filesystem, path = url_to_fs(location)
    except ImportError as error:
        if location.startswith("hf://"):
            raise MissingDependency("huggingface_hub", extra="embed", purpose="reading hf:// pools") from error
        raise PoolError(f"{name} needs a package that is not installed: {short_error(error)}.") from error
    except Exception as error:  # an unknown protocol, or credentials that a file system asks for at once
        raise PoolError(f"{name} cannot be opened: {short_error(error)}. Check the URL.") from error
    return filesystem, path


def _message(location: str, filesystem: Any, path: str, error: Exception) -> str:
    name = shown_name(location)
    if status := _http_status(error):
        words = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
        advice = _ADVICE.get(status, "Try again later." if status >= 500 else "Check the URL.")
        return f"{name} cannot be read: the server answers {words}. {advice}"
    if isinstance(error, (FileNotFoundError, IsADirectoryError)):
        with suppress(Exception):  # this only looks for a hint: the error at hand is the one to report
            if filesystem.isdir(path):
                names = sorted(PurePosixPath(entry).name for entry in filesystem.ls(path, detail=False))
                files = [one_line(name, 80) for name in names if suffix_of(name)][:_FILES_SHOWN]
                hint = f" in it, such as {', '.join(files)}." if files else "; none in it can be read."
                return f"{name} is a directory. Name one file{hint}"
        return f"{name} does not exist. Check the path."
    if isinstance(error, PermissionError):
        return f"{name} cannot be read: permission denied. Ask for the right to read it, or name a copy."
    return f"{name} cannot be read: {type(error).__name__}: {short_error(error)}. Check the path and the access."


def _http_status(error: BaseException | None) -> int | None:
    """The status with which a server refused a request, of an error or of one that it came from; not 404."""
    while error is not None:
        response = getattr(error, "response", None)
        status = getattr(error, "status", None) or getattr(response, "status_code", None)
        if isinstance(status, int) and status >= 400 and status != HTTPStatus.NOT_FOUND:
            return int(status)
        error = error.__cause__ or error.__context__
    return None
