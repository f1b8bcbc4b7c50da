"""A host that does not answer yet: it takes the host's place, and becomes the model once the host answers."""

from collections.abc import Awaitable, Callable

from selectllm.errors import HostUnreachable, ModelError, SelectorUnavailable, TransientError
from selectllm.llm.model import ChatModel, ModelInfo, Reply, Request


class AbsentModel:
    """A model that `connect` could not reach; each probe tries again. It cannot be asked before one has reached it."""

    def __init__(self, connect: Callable[[], Awaitable[ChatModel]]) -> None:
        self._connect = connect
        self._model: ChatModel | None = None

    @property
    def info(self) -> ModelInfo:
        """Who this is.

        Raises TransientError before it is known.
        """
        return self._reached().info

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer share; None before it is known."""
        return self._model.context if self._model else None

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Get ready, if it is there."""
        await self._reached().prepare(longest, max_tokens)

    async def answer(self, request: Request) -> Reply:
        """Answer, if it is there."""
        return await self._reached().answer(request)

    async def probe(self) -> None:
        """Try to reach the model.

        Raises TransientError while nothing answers, ModelError when what answers is of no use.
        """
        if self._model is not None:
            return await self._model.probe()
        try:
            self._model = await self._connect()
        except HostUnreachable as error:
            raise TransientError(str(error), "connection") from None
        except SelectorUnavailable as error:
            raise ModelError(str(error)) from None
        return None

    async def forget(self) -> None:
        """Let the model go, so that the next probe reaches whichever is there by then."""
        await self.close()
        self._model = None

    async def close(self) -> None:
        """Release the model, if it was reached."""
        if self._model is not None:
            await self._model.close()

    def _reached(self) -> ChatModel:
        if self._model is None:
            raise TransientError("the host has not answered yet", "connection")
        return self._model
