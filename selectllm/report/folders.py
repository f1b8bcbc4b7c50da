"""The folders that a run fills: whether they can be written, and whether that would destroy a file of others."""

import json
import os
from collections.abc import Collection
from glob import glob
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from selectllm.errors import UsageError
from selectllm.paths import local_path, redact_url
from selectllm.settings import RunSettings
from selectllm.steps.criteria import criteria_file
from selectllm.steps.given_vectors import is_file
from selectllm.store.root import LAYOUT

OUTPUTS: Final = {
    "selection.parquet": {"order", "id", "instruction"},
    "selection.jsonl": {"order", "id", "instruction"},
    "quarantine.parquet": {"row", "reason", "text"},
    "summary.json": {"artifacts", "selection"},
}
"""The files of an output folder, and names that each of them holds in any version."""

PAGES: Final = ("index.html", "expectations", "validations", "static")
"""What Great Expectations writes into a folder of Data Docs."""


def check_folders(settings: RunSettings) -> None:
    """Check the folders that the run is to fill, while nothing has been paid for yet.

    Raises UsageError when one cannot be written, when a file that the run reads would be written over, or when a file
    of the same name is there that SelectLLM has not written.
    """
    folders = {"--out": settings.out, "--data-docs": settings.quality.data_docs}
    places = {option: _writable(option, folder) for option, folder in folders.items() if folder is not None}
    for option, location in _inputs(settings):
        path = local_path(location)
        writer = None if path is None else _writer(path, places, local_path(settings.store))
        if writer:
            fault = f"{option} {redact_url(location)} would be written over by {writer}"
            raise UsageError(f"{fault}: name another folder, or move the file")
    if foreign := _foreign(places):
        option, path = foreign
        raise UsageError(
            f"{option} would write over {path}, which is not its own: name another folder, or move the file"
        )


def _inputs(settings: RunSettings) -> list[tuple[str, str]]:
    """The files that a run reads, each with its option."""
    pool = [file for location in settings.pools for file in _files(location)]
    inputs = [*(("POOL", file) for file in pool), *(("--exclude", file) for file in settings.exclude)]
    inputs += [("--away-from", file) for file in settings.aim.away_from]
    single = {"--criteria": criteria_file(settings), "--expectations": settings.quality.expectations}
    single |= {"--target": settings.aim.target}
    given = settings.embedding.given
    inputs += [("--embeddings", file) for file in (_files(given) if given and is_file(given) else ())]
    return inputs + [(option, file) for option, file in single.items() if file is not None]


def _files(location: str) -> list[str]:
    """The files that a location names: one, those of a folder, or those that fit a pattern."""
    path = local_path(location)
    if path is None or path.is_file():
        return [location]
    return [str(file) for file in path.iterdir()] if path.is_dir() else glob(str(path)) or [location]


def _writable(option: str, folder: str) -> Path:
    if "://" in folder:
        raise UsageError(f"{option} {folder} is a URL: name a folder of this machine; the store (--store) may be a URL")
    path = Path(folder).expanduser()
    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        fault = "may not be written to" if existing.is_dir() else "is a file"
        raise UsageError(f"{option} {folder} cannot be written: {existing} {fault}")
    return path


def _writer(path: Path, places: dict[str, Path], store: Path | None) -> str | None:
    """The option by which the run would write over a file; None where none would."""
    for option, names in (("--out", OUTPUTS), ("--data-docs", PAGES)):
        folder = places.get(option)
        if folder and any(_is_same(part, folder / name) for name in names for part in _with_parents(path)):
            return option
    if store and any(_is_same(part, store / LAYOUT) for part in _with_parents(path)):
        # Artifacts are there to be read, and one that is intact is never written again.
        is_artifact = any(_is_same(part, store / LAYOUT / "artifacts") for part in _with_parents(path))
        return None if is_artifact else "--store"
    return None


def _with_parents(path: Path) -> list[Path]:
    real = Path(os.path.realpath(path))
    return [real, *real.parents]


def _is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file: through links too, and on disks that take no notice of case."""
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them does not exist
        return False


def _foreign(places: dict[str, Path]) -> tuple[str, Path] | None:
    """A file that would be written over and that SelectLLM has not written, with the option that names its folder."""
    if out := places.get("--out"):
        for name, names in OUTPUTS.items():
            if os.path.lexists(out / name) and not names <= set(_names(out / name)):
                return "--out", out / name
    if docs := places.get("--data-docs"):
        there = [docs / name for name in PAGES if os.path.lexists(docs / name)]
        if there and not _is_data_docs(docs / PAGES[0]):
            return "--data-docs", there[0]
    return None


def _names(path: Path) -> Collection[str]:
    """The columns of a table, or the names in the first object of a JSON file; none where it is neither."""
    try:
        if path.suffix == ".parquet":
            return list(pq.read_schema(path).names)
        with path.open("rb") as file:
            value = json.loads(file.readline() if path.suffix == ".jsonl" else file.read())
    except (pa.ArrowException, OSError, ValueError, RecursionError):
        return ()
    return value.keys() if isinstance(value, dict) else ()


def _is_data_docs(page: Path) -> bool:
    try:
        return b"Great Expectations" in page.read_bytes()
    except OSError:
        return False
