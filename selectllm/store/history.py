"""A named history: which rows earlier runs chose, so that no run of that name chooses a row twice.

A run fills one slot, and the slot's file is its commit: `v1/history/<name>/<slot>.json`, written whole or not at all.
A run that dies before it has chosen nothing; after it, the same run for the same slot returns the same rows.
"""

import secrets
import time
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from selectllm.errors import StoreError
from selectllm.settings import RunSettings
from selectllm.store import Store


class Commit(BaseModel):
    """What a slot holds: the rows chosen, in order, and the slots filled before it, whose rows were excluded."""

    model_config = ConfigDict(frozen=True)

    slot: str
    selection: str  # key of the selection's artifact
    budget: int
    after: tuple[str, ...]
    ids: tuple[str, ...]


class Conflict(Exception):
    """Another run has filled a slot since this one looked, with rows that this one wants too."""


def with_slot(settings: RunSettings, slot: str | None = None) -> RunSettings:
    """The settings with the run's slot: their own, else `slot`, else a new one; unchanged without a history."""
    if settings.history is None or settings.slot is not None:
        return settings
    slot = slot or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
    return settings.model_copy(update={"slot": slot})


class History:
    """The slots of one name in one store."""

    def __init__(self, store: Store, name: str) -> None:
        self.name, self._store, self._folder = name, store, f"history/{name}"

    def commits(self) -> dict[str, Commit]:
        """What each filled slot holds.

        Raises StoreError for a slot that cannot be read: its rows would be chosen again.
        """
        return {commit.slot: commit for commit in map(self._read, self._store.list(self._folder)) if commit}

    def commit(self, commit: Commit) -> Commit:
        """Fill a slot; returns what it holds, which is another run's commit when the slot was filled already.

        Raises Conflict when another slot holds one of its rows.
        """
        with self._store.lock(self._folder):
            filled = self.commits()
            if commit.slot in filled:
                return filled[commit.slot]
            if any(not set(commit.ids).isdisjoint(other.ids) for other in filled.values()):
                raise Conflict
            self._store.write_bytes(f"{self._folder}/{commit.slot}.json", commit.model_dump_json(indent=1).encode())
        return commit

    def _read(self, name: str) -> Commit | None:
        try:
            return Commit.model_validate_json(self._store.read_bytes(name))
        except FileNotFoundError:
            return None
        except ValidationError:
            raise StoreError(
                f"{self._store.address(name)} cannot be read, so that its rows might be chosen again: "
                "restore it, or remove it to allow that"
            ) from None


def chosen_before(commits: dict[str, Commit], slot: str) -> Sequence[Commit]:
    """The commits whose rows a slot may not choose: all others', or, when it is filled, those filled before it."""
    own = commits.get(slot)
    return [other for other in commits.values() if other.slot != slot and (own is None or other.slot in own.after)]
