"""The ledger of replies: every reply is durable before it counts, and none is paid for twice.

One folder a model in the store, one file a writer, one JSON line a reply. Only the writer that began a file adds to it,
so a crash can tear no more than its last line, which readers pass over. Where the store cannot append (object stores),
each group of replies becomes a small file of its own, and small files become larger ones: see `ledger_parts`.
"""

import asyncio
import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from selectllm.errors import ModelChanged, StoreError
from selectllm.llm.ledger_lines import Entry, Retraction, ended
from selectllm.llm.ledger_parts import LEFT_SECONDS, MOST_LISTINGS, Part, are_many, is_held, merge, parts_of
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.llm.spool import Spool
from selectllm.store import Store
from selectllm.store.files import sync_folder

log = logging.getLogger(__name__)

LATEST: Final = 200  # replies: enough to know how fast a model is now


class _Place(NamedTuple):
    """Where an entry stands: its file, and its bytes there. On a local disk it is read again when it is asked for.

    Elsewhere that would take a request for each reply: there the bytes are those of the ledger's spool.
    """

    at: int
    name: str
    start: int
    size: int


class Ledger:
    """The replies of one model in one store: reads all that there are, and adds to a file of its own.

    Replies that arrive together are made durable by one fsync. What other runs add is read whenever this one adds: of
    two that ask the same, both go on with the reply that was durable first. For that, writers take turns on a local
    disk; on an object store two that write in the same moment may each go on with their own, and the artifact that is
    whole first then counts for both.
    """

    def __init__(self, store: Store, info: ModelInfo, *, reask: bool = False) -> None:
        self._store = store
        self._folder = f"replies/{info.key}"
        self._writer = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._sequence = 0
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._read: dict[str, int] = {}  # how much of each file has been read
        self._entries: dict[str, _Place] = {}  # by key
        self._last_end = 0  # when the last run ended that left questions without a usable answer
        self._retracted: dict[str, list[Retraction]] = {}  # by key
        self._spool = None if store.is_local else Spool()
        self._parts: dict[str, list[Part]] = {}  # by writer, as they were last listed; none on a local disk
        self._added: dict[str, int] = {}  # when each writer last added something, as far as this has read it
        self._may_merge, self._has_merged_left = not store.is_local, False
        self._refreshing = threading.Lock()  # batches look for replies while others are kept
        self._refresh()
        self._open_until = time.time_ns() if reask else self._last_end  # what other runs end meanwhile changes nothing

    def refresh(self) -> None:
        """Read what other writers have added since the last look. Raises StoreError."""
        self._refresh()

    def get(self, key: str) -> Entry | None:
        """The reply that was given to this question, if one was. Raises StoreError when its file is gone or altered."""
        place = self._entries.get(key)
        return self._entry(key, place) if place else None

    def may_ask_again(self, entry: Entry) -> bool:
        """Whether a run that has ended got this reply: if it cannot be used, its question may be asked once more.

        A reply of this run, or of one that was killed and that this run goes on with, stands. With `reask`, all replies
        of before this ledger was opened may be asked for again.
        """
        return entry.at <= self._open_until

    def latest_replies(self) -> list[Reply]:
        """Some of the replies that there are, the last ones read."""
        return [self._entry(key, place).reply for key, place in islice(reversed(self._entries.items()), LATEST)]

    async def add(self, request: Request, info: ModelInfo, reply: Reply) -> Entry:
        """Keep a reply; returns the entry that counts once it is durable, which may be another writer's.

        Raises StoreError when it cannot be written, ModelChanged when another run has taken it back at once.
        """
        entry = Entry(
            key=request.key(info),
            at=0,
            prompt=request.text_digest,
            model=info.digest,
            shown=request.shown,
            attempt=request.attempt,
            seed=request.seed,
            outcome=request.describe(reply) if request.describe else "",
            reply=reply,
            question=request.question,
        )
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, durable))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await durable
        counted = self.get(entry.key)
        if counted is None:
            raise ModelChanged(f"{info.name} is another model by now, as another run has found")
        return counted

    async def retract(self, keys: Sequence[str], since: int) -> None:
        """Have the replies to these questions count no more, as far as they were kept since then (ns since 1970).

        Raises StoreError when that cannot be written.
        """
        await self._drain()
        await asyncio.to_thread(self._append_and_refresh, [Retraction(tuple(keys), since)])

    async def close(self) -> None:
        """Make durable what has arrived, also when whatever waited for it was cancelled; then merge small files."""
        await self._drain()
        await asyncio.to_thread(self._merge, self._parts.get(self._writer, ()))

    async def _drain(self) -> None:
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait([self._flushing])

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._append_and_refresh, [entry for entry, _ in group])
                failure = None
            except Exception as error:  # whatever it is, whatever waits must get it
                failure = error
            for durable in (durable for _, durable in group if not durable.done()):
                if failure:
                    durable.set_exception(failure)
                else:
                    durable.set_result(None)
            if failure is None:
                await asyncio.to_thread(self._merge_many)

    def _append_and_refresh(self, entries: Sequence[Entry | Retraction]) -> None:
        self._append(entries)
        self._refresh()

    def _append(self, entries: Sequence[Entry | Retraction]) -> None:
        name = f"{self._folder}/{self._writer}-{self._sequence:06d}.jsonl"
        if not self._store.is_local:
            self._sequence += 1  # also where this fails: it may have arrived, and no file is written twice
            self._store.write_bytes(name, b"".join(entry.line() for entry in entries))
            return
        with self._store.lock(self._folder, cancellable=False):  # cancelling must not lose what was paid for
            self._append_to(Path(self._store.address(name)), b"".join(entry.line() for entry in entries))

    def _append_to(self, path: Path, lines: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            with path.open("ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(path.parent)
        except OSError as error:
            self._sequence += 1  # the file may end in a torn line: what follows goes to another
            raise StoreError(
                f"a reply cannot be kept in {path.parent}: {error.strerror}. Free space or mend permissions, "
                "then run again: replies kept so far are not asked for again"
            ) from error

    def _merge_many(self) -> None:
        """Merge this writer's files when they are many; and, once, those that writers left which may have died."""
        if are_many(own := self._parts.get(self._writer, [])):
            self._merge(own)
        if self._may_merge and not self._has_merged_left:
            self._has_merged_left = True
            before = time.time_ns() - int(LEFT_SECONDS * 1e9)
            for writer, parts in self._parts.items():
                if len(parts) > 1 and max(parts[0].began, self._added.get(writer, 0)) < before:
                    self._merge(parts)

    def _merge(self, parts: Sequence[Part]) -> None:
        if self._may_merge and len(parts) > 1:
            try:
                merge(self._store, self._folder, parts)
            except Exception as error:  # whatever it is, replies are kept: without a right to remove files, say
                self._may_merge = False
                log.warning("small files of replies are not merged, so that each look at them takes longer: %s", error)

    def _refresh(self) -> None:
        """Read what any writer has added since the last look; of two replies to one question the earlier counts."""
        with self._refreshing:
            for _ in range(MOST_LISTINGS):
                try:
                    return self._read_listed()
                except FileNotFoundError:  # merged by another run since it was listed: what holds it is listed by now
                    continue
        raise StoreError(f"{self._store.address(self._folder)} names files that are gone: run again")

    def _read_listed(self) -> None:
        # On a local disk files grow, and are read on from where the last whole line ended; elsewhere they never do.
        sizes = self._store.sizes(self._folder)
        self._read, before = {name: self._read.get(name, 0) for name in sizes}, self._read
        if not self._store.is_local:
            self._parts = parts_of(sizes)
            self._pass_over_merged(parts_of({name: done for name, done in before.items() if done}))
        for name, size in sorted(sizes.items()):
            done = self._read[name]
            if size > done and not (done and not self._store.is_local):
                self._read_file(name, done)

    def _pass_over_merged(self, read: dict[str, list[Part]]) -> None:
        """Take the merged files as read of which all that they hold was read."""
        for writer, parts in self._parts.items():
            for part in parts:
                if part.count > 1 and not self._read[part.name] and is_held(part, read.get(writer, ())):
                    self._read[part.name] = part.size

    def _read_file(self, name: str, done: int) -> None:
        path, writer, added = f"{self._folder}/{name}", name.rpartition("-")[0], 0
        for line in self._store.lines(path, done):
            entry = Entry.parse(line)
            if not entry and not line.endswith(b"\n"):  # torn, or still being written
                break  # unlike a reply that is whole but for its line's end: the disk was full just then
            start, done = done, done + len(line)
            if entry:
                if self._counts(entry):
                    start = self._spool.add(line) if self._spool else start
                    self._entries[entry.key] = _Place(entry.at, path, start, len(line))
                added = max(added, entry.at)
            elif retraction := Retraction.parse(line):
                self._drop(retraction)
            else:
                self._last_end = max(self._last_end, ended(line))
        self._read[name] = done
        self._added[writer] = max(added, self._added.get(writer, 0))

    def _entry(self, key: str, place: _Place) -> Entry:
        try:
            read = self._spool.read if self._spool else partial(self._store.read_bytes, place.name)
            entry = Entry.parse(read(place.start, place.size))
        except FileNotFoundError:
            raise StoreError(f"{self._store.address(place.name)} is gone while a run uses it: run again") from None
        if entry is None or (entry.key, entry.at) != (key, place.at):
            raise StoreError(f"{self._store.address(place.name)} was altered while a run uses it: run again")
        return entry

    def _counts(self, entry: Entry) -> bool:
        """Whether an entry was not retracted, and is the earliest of its key."""
        if any(retraction.holds_for(entry.at) for retraction in self._retracted.get(entry.key, ())):
            return False
        earlier = self._entries.get(entry.key)
        return earlier is None or entry.at < earlier.at

    def _drop(self, retraction: Retraction) -> None:
        for key in retraction.keys:
            if retraction not in (known := self._retracted.setdefault(key, [])):  # else it is read again, merged
                known.append(retraction)
            place = self._entries.get(key)
            if place and retraction.holds_for(place.at):
                self._entries.pop(key, None)  # another thread may read the same file just now
