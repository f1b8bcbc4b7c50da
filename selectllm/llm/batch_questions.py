"""Questions that wait for a batch, and batches that are under way, as one process knows them."""

import asyncio
from dataclasses import dataclass, field

from selectllm.llm.batch_records import BatchRecord
from selectllm.llm.model import Reply, Request


class Question:
    """A request, and its reply, which somebody waits for."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def give(self, reply: Reply) -> None:
        """Give the reply, if somebody waits still."""
        if not self.reply.done():
            self.reply.set_result(reply)

    def fail(self, error: BaseException) -> None:
        """Say that there is no reply, if somebody waits still."""
        if not self.reply.done():
            self.reply.set_exception(error)


@dataclass
class Sent:
    """A batch at the server, and those of its questions that this process asks."""

    record: BatchRecord
    questions: dict[str, Question]
    unkept: set[str] = field(default_factory=set)  # keys of its answers that are not in the ledger yet

    def open_questions(self) -> list[Question]:
        """Those that wait for their replies."""
        return [question for question in self.questions.values() if not question.reply.done()]
