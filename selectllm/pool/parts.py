"""A large file in parts, of which one at a time is in memory: the others lie in a temporary file."""

import pickle
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import IO, Any, Final, Generic, TypeVar, overload

import numpy as np

from selectllm.errors import StoreError

PART_ROWS: Final = 65_536
"""Rows of a part. As Python's objects, a million would take half a gigabyte."""

T = TypeVar("T")


class Spill:
    """A temporary file of values of any kind, which is made when the first comes.

    It lies in `folder`, or where temporary files do, and has no name: whatever ends the process removes it, too.
    Raises StoreError where it cannot be written or read.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def put(self, value: object) -> int:
        """Add a value; returns its place."""
        with self._failures():
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".rows-")  # noqa: SIM115 (closed below)
                weakref.finalize(self, _close, self._file)
            place = self._file.seek(0, 2)
            pickle.dump(value, self._file, pickle.HIGHEST_PROTOCOL)
            return place

    def get(self, place: int) -> Any:
        """The value at a place."""
        assert self._file is not None
        with self._failures():
            self._file.seek(place)
            return pickle.load(self._file)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = repr(self._folder) if self._folder else "the folder for temporary files"
            raise StoreError(
                f"the rows of a large file cannot be kept for a while in {where}: {error.strerror}. Free space, "
                "then run again"
            ) from error


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # nothing in it is needed any more, and a full disk has been reported
        file.close()


class Parts(Generic[T]):
    """Values in order, such as the tables of a file's parts; a single one stays in memory, where that is wanted."""

    def __init__(self, spill: Spill, *, holds_one: bool = True) -> None:
        self._spill, self._holds_one = spill, holds_one
        self._held: list[T] = []
        self._places: list[int] = []

    def append(self, part: T) -> None:
        """Add a part behind the others."""
        self._held.append(part)
        if len(self) > 1 or not self._holds_one:
            self._places += map(self._spill.put, self._held)
            self._held = []

    def extend(self, others: "Parts[T]") -> None:
        """Add the parts of others that lie in the same file; neither may hold one in memory."""
        self._places += others._places

    def __len__(self) -> int:
        return len(self._places) + len(self._held)

    def __getitem__(self, number: int) -> T:
        part: T = self._spill.get(self._places[number]) if self._places else self._held[number]
        return part

    def __iter__(self) -> Iterator[T]:
        return map(self.__getitem__, range(len(self)))


class PartedColumn(Sequence[Any]):
    """The values of a column in parts: best read from start to end."""

    def __init__(self, spill: Spill) -> None:
        self._parts: Parts[list[Any]] = Parts(spill, holds_one=False)
        self._starts = [0]
        self._latest: tuple[int, list[Any]] = (-1, [])

    @classmethod
    def of(cls, values: Iterable[Any], spill: Spill) -> "PartedColumn":
        """A column of these values."""
        column = cls(spill)
        column.extend(values)
        return column

    def append(self, part: list[Any]) -> None:
        """Add values behind the others."""
        self._parts.append(part)
        self._starts.append(self._starts[-1] + len(part))

    def extend(self, values: Iterable[Any]) -> None:
        """Add values behind the others, of any number; those of another column in the same file stay where they are."""
        if isinstance(values, PartedColumn):
            self._parts.extend(values._parts)
            self._starts += [self._starts[-1] + start for start in values._starts[1:]]
            return
        remaining = iter(values)
        while part := list(islice(remaining, PART_ROWS)):
            self.append(part)

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Any]:
        return (value for part in self._parts for value in part)

    @overload
    def __getitem__(self, place: int) -> Any: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Any]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(place)
        number = int(np.searchsorted(self._starts, place, "right")) - 1
        if self._latest[0] != number:
            self._latest = number, self._parts[number]
        return self._latest[1][place - self._starts[number]]
