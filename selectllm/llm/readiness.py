"""Makes hosts ready for a run's prompts, and finds out whether one that is out can be asked again."""

import asyncio
import time
from dataclasses import dataclass

from selectllm.errors import ModelError, TransientError
from selectllm.llm.backoff import pause_seconds
from selectllm.llm.context_guard import warn_once
from selectllm.llm.host_state import Connect, HostState
from selectllm.llm.model import ModelInfo
from selectllm.llm.outage import log_waiting
from selectllm.llm.usage import Usage
from selectllm.settings import RankingSettings


@dataclass
class Readiness:
    """What hosts are made ready for: prompts of up to `longest` bytes, answers of up to `max_tokens` tokens."""

    info: ModelInfo
    options: RankingSettings
    usage: Usage
    longest: int = 0
    max_tokens: int = 0

    async def prepare(self, host: HostState) -> None:
        """Make a host ready, in as many tries as a question has. Raises TransientError, ModelError."""
        end = time.monotonic() + self.options.deadline
        for attempt in range(1, self.options.retries + 2):
            try:
                return await self._prepare_once(host, end - time.monotonic())
            except TransientError as error:
                pause = max(pause_seconds(attempt), error.retry_after or 0)
                if attempt > self.options.retries or time.monotonic() + pause >= end:
                    raise
            await asyncio.sleep(pause)
        return None

    async def probe(self, host: HostState) -> None:
        """Find out whether a host can be asked again, and make it ready where it is not. Raises ModelError."""
        async with asyncio.timeout(self.options.timeout):
            if host.connect:
                await self._reach(host, host.connect)
            elif host.model:
                await host.model.probe()
        if not host.is_ready:
            host.vain_probes += 1
            await self._prepare_once(host, self.options.deadline)
        host.vain_probes = 0

    async def _prepare_once(self, host: HostState, seconds: float) -> None:
        assert host.model, "a host is made ready once it has answered"
        loading = f"{self.info.name} is being loaded at {host.model.host}"
        try:  # weights may have to be loaded: that is more than one answer takes
            async with log_waiting(loading, f"{seconds:.0f} s (--deadline)"), asyncio.timeout(seconds):
                await host.model.prepare(self.longest, self.max_tokens)
        except (ModelError, TimeoutError) as error:
            cause = error if isinstance(error, ModelError) else TransientError("it took too long", "timeout")
            host.last_error = f"{self.info.name} could not be made ready: {cause}"
            if not isinstance(cause, TransientError):
                raise
            self.usage.errors_by_kind[cause.kind] += 1
            raise TransientError(host.last_error, cause.kind, cause.retry_after) from None
        host.is_ready = True

    async def _reach(self, host: HostState, connect: Connect) -> None:
        """Connect to a host that has not answered before. Raises ModelError when it has another model."""
        model = await connect()
        if model.info.digest != self.info.digest:
            await model.close()
            host.vain_probes += 1  # finding out may have taken a question that is paid for
            name = self.info.name
            warn_once(f"{model.host} is not asked: {name} is another version there, or is asked in another way")
            raise ModelError(f"the host has another version of {self.info.name}")
        host.model, host.connect = model, None
