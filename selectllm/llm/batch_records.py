"""Batches that were sent to a server, remembered in the store until their replies are kept.

A record is written before its batch is created, and says then that the batch may be there: whoever finds such a record
alone asks the server. So no batch is paid for and forgotten, whenever a run is killed.
"""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from selectllm.llm.model import ModelInfo
from selectllm.store import Store

log = logging.getLogger(__name__)

KEPT_SECONDS: Final = 32 * 86_400.0
"""How long a batch is remembered whose replies nobody asks for: a server keeps their file for 30 days."""


@dataclass(frozen=True)
class BatchRecord:
    """A batch: where it is, and which questions it asks. Without an `id` it may have been created, or not."""

    host: str  # the server's base URL, without secrets
    model: str  # the digest of the model
    keys: tuple[str, ...]  # of its requests; they are the ids of its lines, too
    endpoint: str
    input_file: str
    refused: tuple[str, ...]  # fields of a request that the server was known not to take, and that were left out
    token: str = field(default_factory=lambda: secrets.token_hex(16))  # by which the server's list shows whose it is
    at: float = field(default_factory=time.time)  # when it was written, seconds since 1970
    id: str = ""

    @classmethod
    def parse(cls, content: bytes) -> "BatchRecord | None":
        """The record in a file; None where it holds none."""
        try:
            fields: dict[str, Any] = json.loads(content)
            return cls(**fields | {name: tuple(fields[name]) for name in ("keys", "refused")})
        except (ValueError, TypeError, KeyError):
            return None


class BatchRecords:
    """The records of one model's batches at one host, in one store."""

    def __init__(self, store: Store, info: ModelInfo, host: str) -> None:
        self.host, self.model = host, info.digest
        self._store, self._folder = store, f"batches/{info.key}"

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold the records alone while the block runs, which must be short: other runs wait before they send."""
        lock = self._store.lock(self._folder)
        entering = asyncio.ensure_future(asyncio.to_thread(lock.__enter__))
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(lambda done: done.exception() or lock.__exit__(None, None, None))
            raise
        try:
            yield
        finally:
            await asyncio.to_thread(lock.__exit__, None, None, None)

    async def load(self) -> list[BatchRecord]:
        """All records of this host, the oldest first; those that are too old are removed. Raises StoreError."""
        return await asyncio.to_thread(self._load)

    async def save(self, record: BatchRecord) -> None:
        """Write a record, durably. Raises StoreError."""
        content = json.dumps(asdict(record), separators=(",", ":")).encode()
        await asyncio.to_thread(self._store.write_bytes, self._name(record), content)

    def remove(self, record: BatchRecord) -> None:
        """Forget a batch."""
        self._store.remove_file(self._name(record))

    def path(self, record: BatchRecord) -> str:
        """Where the record is, for messages."""
        return self._store.address(self._name(record))

    def _name(self, record: BatchRecord) -> str:
        return f"{self._folder}/{record.token}.json"

    def _load(self) -> list[BatchRecord]:
        records = list(self._read(self._store.list(self._folder)))
        old = [record for record in records if time.time() - record.at > KEPT_SECONDS]
        for record in old:
            self.remove(record)
        mine = [record for record in records if record not in old and record.host == self.host]
        return sorted(mine, key=lambda record: (record.at, record.token))

    def _read(self, names: Iterable[str]) -> Iterable[BatchRecord]:
        for name in names:
            try:
                content = self._store.read_bytes(name)
            except FileNotFoundError:  # another run has just kept its replies
                continue
            record = BatchRecord.parse(content)
            if record is None:
                log.warning("%s is no record of a batch, and is passed over", self._store.address(name))
            else:
                yield record
