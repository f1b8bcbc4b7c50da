"""The key of a run's server, from the environment or a Secret block, and never for a host that it is not meant for."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from prefect.blocks.system import Secret
from prefect.variables import Variable

from selectllm.settings import RunSettings

Told = Mapping[str, str]


class Held:
    """The environment's variables of one kind of server, and what stands in their place while blocks want it so.

    Tasks may share a process: the first block to begin notes what was there, the last one to end puts it back.
    """

    def __init__(self, key: str, host: str) -> None:
        self.key, self.host = key, host
        self._prefix = key.removesuffix("API_KEY")  # they have more in common than these two: OPENAI_ORG_ID, for one
        self._lock = threading.Lock()
        self._blocks, self._own = 0, dict[str, str]()

    def named_host(self) -> str | None:
        """The host that the environment itself names."""
        with self._lock:
            return (self._own if self._blocks else self._there()).get(self.host) or None

    @contextmanager
    def holding(self, chosen: Callable[[Told], Told]) -> Iterator[None]:
        """Let the environment hold what is `chosen` from what it has of its own."""
        with self._lock:
            if not self._blocks:
                self._own = self._there()
            self._blocks += 1
            self._put(chosen(self._own))
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._put(self._own)

    def _there(self) -> dict[str, str]:
        return {name: told for name, told in os.environ.items() if name.startswith(self._prefix)}

    def _put(self, told: Told) -> None:
        for name in self._there().keys() - told.keys():
            del os.environ[name]
        os.environ.update(told)


KINDS: Final = {"ollama": Held("OLLAMA_API_KEY", "OLLAMA_HOST"), "openai": Held("OPENAI_API_KEY", "OPENAI_BASE_URL")}
"""The kinds of selectors that have servers."""


def named_host(kind: str) -> str | None:
    """The host that the Variable of a kind names."""
    host = Variable.get(f"selectllm_{kind}_host")
    return str(host) if host else None


@contextmanager
def key_for(run: RunSettings) -> Iterator[None]:
    """Have the environment of this process hold the key of the run's server, and the host that it is meant for.

    A key of the environment is for the host that the environment names; that of the Secret block for the Variable's
    host, or, without a Variable, for the usual one. Where the Variable's host is asked, all that the environment holds
    for another is put away.
    """
    kind = run.selector.partition(":")[0]
    if kind not in KINDS:
        yield
        return
    held, host, secret = KINDS[kind], named_host(kind), _secret(f"selectllm-{kind}-api-key")

    def chosen(own: Told) -> Told:
        asked = set(run.ranking.hosts) or {own.get(held.host) or host}
        if host and asked == {host}:
            if own.get(held.key) and own.get(held.host) == host:
                return own
            return {held.host: host} | ({held.key: secret} if secret else {})
        if host or own.get(held.host) or own.get(held.key) or not secret:
            return own
        return {**own, held.key: secret}

    with held.holding(chosen):
        yield


def _secret(block: str) -> str | None:
    try:
        value = Secret.load(block).get()  # type: ignore[union-attr]
    except ValueError:  # there is no such block
        return None
    return str(value)
