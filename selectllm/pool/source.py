"""The bytes of a pool's file, from a local path or any URL that fsspec knows, with one kind of error for all."""

import hashlib
import logging
import os
import re
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Final

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from selectllm.errors import MissingDependency, PoolError
from selectllm.paths import redact_url
from selectllm.pool.formats import file_format, format_of_content, shown_name, suffix_of
from selectllm.text import join_names, one_line, short_error

log = logging.getLogger(__name__)

_FILES_SHOWN: Final = 5
_STDIN: Final = ("-", "/dev/stdin")
_PATTERN: Final = re.compile(r"[*?\[]")
_ADVICE: Final = {
    401: "Give the key or password that it asks for.",
    403: "Ask for the right to read it, or name a copy.",
    429: "Wait a while, and try again.",
}
"""What to do about a server's refusal, by its status."""


@dataclass(frozen=True)
class PoolFile:
    """A file that was read once: its bytes as they are stored, their blake2b-128 digest in 32 hex digits, its format.

    A pool of several files has no bytes of its own but `parts`, and its digest is of theirs and their names. A file of
    a folder or a pattern, which was not named itself, `may_be_empty`: programs that write in parts leave such files.
    """

    location: str
    data: bytes = field(repr=False)
    digest: str
    form: str
    parts: tuple["PoolFile", ...] = ()
    may_be_empty: bool = False

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return one_line(PurePosixPath(redact_url(self.location)).name)


def fetch(*locations: str) -> PoolFile:
    """Read the files of a pool in order; a folder or a pattern is its files in the order of their names.

    "-" and "/dev/stdin" are standard input, whose format is that of its content. Files of several formats are read
    together only where each is named. Raises as `fetch_bytes` does.
    """
    files = [_fetch(location) for location in locations]
    if len(files) == 1:
        return files[0]
    return _joined(name_of(locations), tuple(part for file in files for part in file.parts or (file,)))


def is_standard_input(location: str) -> bool:
    """Whether a location is standard input, which can be read once."""
    return location in _STDIN


def name_of(locations: Sequence[str]) -> str:
    """A pool as it stands in messages."""
    return f"{locations[0]} and {len(locations) - 1} more" if len(locations) > 1 else locations[0]


def _joined(location: str, parts: tuple[PoolFile, ...]) -> PoolFile:
    names = [f"{part.name} {part.digest}" for part in parts]
    forms = "+".join(sorted({part.form for part in parts}))
    return PoolFile(location, b"", _digest("\n".join(names).encode()), forms, parts)


def _fetch(location: str) -> PoolFile:
    if location in _STDIN:
        data = sys.stdin.buffer.read()
        return PoolFile("standard input", data, _digest(data), format_of_content(data))
    filesystem, path = _filesystem(location)
    files = _files(location, filesystem, path)
    if not files:
        data = fetch_bytes(location)
        return PoolFile(location, data, _digest(data), file_format(location))
    if len({file_format(file) for file in files}) > 1:
        shown = join_names((PurePosixPath(file).name for file in files), _FILES_SHOWN)
        raise PoolError(
            f"{shown_name(location)} holds files of several formats: {shown}. "
            "Name one of them, or those of one format by a pattern such as *.jsonl"
        )
    parts = tuple(part for part in (_part(filesystem, file) for file in files) if part.data)
    if not parts:
        raise PoolError(f"{shown_name(location)} holds only empty files. Check how they were written or fetched.")
    return _joined(location, parts)


def _part(filesystem: Any, path: str) -> PoolFile:
    data = _read(filesystem, path, path)
    return PoolFile(path, data, _digest(data), file_format(path), may_be_empty=True)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _files(location: str, filesystem: Any, path: str) -> list[str]:
    """The files of a folder whose names say their format, or those that fit a pattern; none for a single file."""
    try:
        is_pattern = _is_pattern(location, path) and not filesystem.exists(path)
        if is_pattern:
            entries = filesystem.glob(path, detail=True).values()
        elif filesystem.isdir(path):
            entries = filesystem.ls(path, detail=True)
        else:
            return []
        found = sorted(str(entry["name"]) for entry in entries if entry["type"] != "directory")
    except Exception:  # the file at hand is opened next, and that error is the one to report
        return []
    found = [file for file in found if not PurePosixPath(file).name.startswith((".", "_"))]
    files = [file for file in found if suffix_of(file)]
    if is_pattern and 0 < len(files) < len(found):  # a folder may hold anything, but a pattern was meant as it stands
        left_out = (PurePosixPath(file).name for file in found if not suffix_of(file))
        log.warning(
            "%s fits files that are not read: %s. Their names do not end in a format, such as .jsonl",
            shown_name(location),
            join_names(left_out, _FILES_SHOWN),
        )
    return files


def _is_pattern(location: str, path: str) -> bool:
    return bool(_PATTERN.search(path)) and not location.startswith(("http://", "https://"))


def fetch_bytes(location: str, *, is_table: bool = True) -> bytes:
    """All bytes of the file at a path or URL, whose name must end in the name of a format if it `is_table`.

    Raises PoolError where it cannot be read, MissingDependency where an optional package is needed to reach it.
    """
    filesystem, path = _filesystem(location)
    return _read(filesystem, path, location, is_table=is_table)


def _read(filesystem: Any, path: str, location: str, *, is_table: bool = True) -> bytes:
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
    if unreached := _unreached(error):
        return f"{name} cannot be read: {unreached}. Check the URL, and try again later."
    if isinstance(error, (FileNotFoundError, IsADirectoryError)):
        with suppress(Exception):  # this only looks for a hint: the error at hand is the one to report
            if filesystem.isdir(path):
                return f"{name} is a folder without a file that can be read. Check the path."
        if _PATTERN.search(path):
            return f"{name} fits no file that can be read. Check the path."
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


def _unreached(error: BaseException | None) -> str:
    """Why no server was reached, of an error or one that it came from; to fsspec each is a file not found."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return "no server listens there (connection refused)"
        if isinstance(error, socket.gaierror):
            return "no address is known for the host that it names"
        if isinstance(error, (ConnectionError, ssl.SSLError)):
            return f"the connection failed ({short_error(error)})"
        error = error.__cause__ or error.__context__
    return ""
