"""Local files, written durably, and whole or not at all."""

import os
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_RANDOM_DIGITS: Final = 8  # of the name of a temporary file

STALE_SECONDS: Final = 3600.0
"""Older temporary files are stale: their writer has died."""


def temporary_pattern(name: str = "*") -> str:
    """What a file is called while it is written, as a pattern; by default, any file."""
    return f".{name}.{'[0-9a-f]' * _RANDOM_DIGITS}.tmp"


def remove_stale_temp_files(temporary: Iterable[Path]) -> None:
    """Remove those of these temporary files, and folders, whose writer has died."""
    oldest = time.time() - STALE_SECONDS
    for path in list(temporary):  # all of them first: a folder that goes may not be listed meanwhile
        with suppress(OSError):  # another run removed it, or it cannot be removed: it does no harm
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def temporary_path(path: Path) -> Path:
    """What a file is called while it is written; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_DIGITS // 2)}.tmp")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a local file under a temporary name, make it durable, and rename it into place."""
    temporary = temporary_path(path)
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
