"""The files of a ledger where no file can be added to: what they are called, and how many become one.

There each group of replies that arrive together is a part of its own, `<writer>-<number>.jsonl`. So that a listing does
not grow with the groups, parts of one writer are merged: `<writer>-<last>_<count>.jsonl` holds the `count` groups up to
the number `last`, byte by byte. It is whole before what it holds is removed. So whoever dies on the way, or lists and
reads meanwhile, finds every group at least once; reading it twice changes nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from selectllm.errors import StoreError
from selectllm.store import Store

MOST_PARTS: Final = 100
"""Groups of a writer that stand by themselves; when there are so many, they are merged."""

MERGED_BYTES: Final = 32 << 20
"""Groups that are this large together are merged, and a merged part gets no larger than about twice this."""

LEFT_SECONDS: Final = 3600.0
"""A writer that has added nothing for so long may have died: others merge what it left. One that lives goes on."""

MOST_LISTINGS: Final = 10
"""How often a folder is listed anew because a file that it named was gone: each time, another run had merged it."""

_NAME: Final = re.compile(r"(\d{20}-[0-9a-f]{8})-(\d{6,})(?:_(\d+))?\.jsonl")


@dataclass(frozen=True)
class Part:
    """A file of a writer's replies: the number of its last group, how many groups it holds, and its bytes."""

    name: str
    writer: str
    last: int
    count: int
    size: int

    @property
    def first(self) -> int:
        """The number of its first group."""
        return self.last - self.count + 1

    @property
    def began(self) -> int:
        """When its writer began, in nanoseconds since 1970."""
        return int(self.writer[:20])


def read_lines(store: Store, folder: str) -> Iterator[bytes]:
    """The lines of all files of a model's replies; some twice where another run merges files meanwhile.

    Parameters: `folder`, as `replies/<the ModelInfo's key>`. Raises StoreError.
    """
    read = set[str]()
    for _ in range(MOST_LISTINGS):
        listed = [name for name in store.list(folder) if name not in read]
        for name in listed:
            try:
                yield from store.lines(name)
            except FileNotFoundError:
                break
            read.add(name)
        else:
            return
    raise StoreError(f"{store.address(folder)} names files that are gone: run again")


def parts_of(sizes: Mapping[str, int]) -> dict[str, list[Part]]:
    """The parts of each writer among a folder's files, in the order of their groups; other files are left out."""
    parts: dict[str, list[Part]] = {}
    for name, size in sizes.items():
        if match := _NAME.fullmatch(name):
            part = Part(name, match[1], int(match[2]), int(match[3] or 1), size)
            parts.setdefault(part.writer, []).append(part)
    for of_writer in parts.values():
        of_writer.sort(key=lambda part: (part.last, part.count))
    return parts


def merged_name(writer: str, last: int, count: int) -> str:
    """What the merged part is called; in a listing by name it comes after all that it holds.

    So a listing that is taken page by page, while it is written and what it holds is removed, has one or the other.
    """
    return f"{writer}-{last:06d}_{count:09d}.jsonl"


def is_held(part: Part, others: Iterable[Part]) -> bool:
    """Whether other parts of the same writer hold all the groups of this one."""
    end = part.last
    for other in sorted(others, key=lambda other: other.last, reverse=True):
        if other.name != part.name and other.first <= end <= other.last:
            end = other.first - 1
    return end < part.first


def are_many(parts: Sequence[Part]) -> bool:
    """Whether so many groups of a writer stand by themselves, or such large ones, that they are to be merged."""
    alone = [part.size for part in parts if part.count == 1]
    return len(alone) >= MOST_PARTS or (len(alone) > 1 and sum(alone) >= MERGED_BYTES)


def merge(store: Store, folder: str, parts: Sequence[Part]) -> None:
    """Make one of the last parts of a writer, as far as that is worth it, and remove what it holds.

    Parameters: `parts`, all of one writer, in order. Taken are all groups that stand by themselves, and the merged
    parts before them that are no larger: so each byte is written again a few times at most, however many groups come.
    Raises StoreError when the store cannot be read or written; all replies are then there as before.
    """
    parts, held = _without_held(parts)
    taken, size = list[Part](), 0
    for part in reversed(parts):
        if taken and part.last < taken[-1].first - 1:  # a group between them may still arrive: its writing was slow
            break
        if part.count > 1 and (part.size > size or part.size + size > 2 * MERGED_BYTES):
            break
        taken.append(part)
        size += part.size
    if len(taken) > 1:
        try:
            contents = [store.read_bytes(f"{folder}/{part.name}") for part in reversed(taken)]
        except FileNotFoundError:  # another has merged them just now
            return
        count = taken[0].last - taken[-1].first + 1
        lines = (content if content.endswith(b"\n") else content + b"\n" for content in contents)
        store.write_bytes(f"{folder}/{merged_name(taken[0].writer, taken[0].last, count)}", b"".join(lines))
        held += taken
    for part in held:
        store.remove_file(f"{folder}/{part.name}")


def _without_held(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """The parts that no one other part holds, and those that one does: their writer died before it removed them."""
    kept, held = list[Part](), list[Part]()
    for part in parts:
        is_in_one = any(
            other.first <= part.first and part.last <= other.last and other.count > part.count for other in parts
        )
        (held if is_in_one else kept).append(part)
    return kept, held
