"""Writes new files only: what is there already stays, whoever wrote it."""

import os
from collections.abc import Mapping
from glob import escape
from pathlib import Path

from selectllm.errors import StoreError, UsageError
from selectllm.paths import local_path
from selectllm.store.files import remove_stale_temp_files, temporary_pattern, write_atomically
from selectllm.store.root import LAYOUT


def write_new(path: Path, files: Mapping[str, bytes], store: str) -> tuple[Path, ...]:
    """Write files into the folder `path`, or the one file "" to `path` itself; returns where they are.

    A file that is there with the same content is done. So the same export can be run again, and goes on where it was
    stopped. Each file is written whole or not at all. Raises UsageError, before anything is written, where a file with
    other content is there or the path cannot be written; StoreError where writing fails.
    """
    places = {path / name if name else path: content for name, content in files.items()}
    for place in places:
        _check_place(place, store)
    missing = {place: content for place, content in places.items() if not _is_written(place, content)}
    try:
        for place, content in missing.items():
            remove_stale_temp_files(place.parent.glob(temporary_pattern(escape(place.name))))
            write_atomically(place, content)
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error.strerror}. Mend that, then run again") from error
    return tuple(places)


def _is_written(place: Path, content: bytes) -> bool:
    """Whether a file is there with this content; raises UsageError for one with another content."""
    if not os.path.lexists(place):
        return False
    try:
        is_same = place.is_file() and place.stat().st_size == len(content) and place.read_bytes() == content
    except OSError as error:
        raise UsageError(f"{str(place)!r} cannot be read: {error.strerror}. Name another path") from error
    if not is_same:
        what = "is a folder" if place.is_dir() else "is there already, with other content"
        raise UsageError(f"{str(place)!r} {what}, and nothing is written over: name another path, or remove it")
    return True


def _check_place(path: Path, store: str) -> None:
    kept, real = local_path(store), Path(os.path.realpath(path))
    if kept is not None and real.is_relative_to(os.path.realpath(kept / LAYOUT)):
        raise UsageError(f"{str(path)!r} is in the store, which is for runs alone: name another path")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        fault = "may not be written to" if folder.is_dir() else "is a file"
        raise UsageError(f"{str(path)!r} cannot be written: {str(folder)!r} {fault}")
