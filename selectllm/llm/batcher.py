"""A model whose questions go out together: as one batch as soon as all who ask wait for an answer.

So that a killed run pays for no answer twice, a batch is remembered before it is created, and looked for at the server
where it is not known whether it was. Until its replies are kept, every run that has questions of it takes it up.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from selectllm.errors import ModelError, ModelUnavailable, TransientError
from selectllm.llm.batch_questions import Question, Sent
from selectllm.llm.batch_records import BatchRecord, BatchRecords
from selectllm.llm.batch_server import BatchServer, pause_for
from selectllm.llm.cost import CostLimit
from selectllm.llm.ledger import Ledger
from selectllm.llm.model import Reply, Request
from selectllm.llm.openai import OpenAIModel
from selectllm.llm.openai_batches import MOST_BYTES, MOST_REQUESTS, QUEUE_FULL, BatchState, Result, lines_of
from selectllm.llm.usage import Usage
from selectllm.settings import BATCH_PRICE

log = logging.getLogger(__name__)

IDLE_CYCLES: Final = 200  # of the event loop without a new question: by then all who can ask have asked
MOST_VAIN: Final = 3  # batches in a row without a single answer
QUEUE_SECONDS: Final = 20.0  # before the next batch where the server lets no more tokens wait


class Batcher:
    """One model of one server, asked in batches; `limit` is what the asking may cost, by the counts of `usage`."""

    def __init__(
        self, model: OpenAIModel, records: BatchRecords, ledger: Ledger, limit: CostLimit, usage: Usage, patience: float
    ) -> None:
        self.info, self.host, self.context = model.info, model.host, model.context
        self._model, self._records, self._ledger, self._limit, self._usage = model, records, ledger, limit, usage
        self._server = BatchServer(model.batches(), records, usage, patience)
        self._waiting: dict[str, Question] = {}  # by the key of the request
        self._sent: dict[str, Sent] = {}  # by the token of the record, also when it is over
        self._arrivals = 0
        self._keeping = 0  # replies that are being made durable: whoever asked them may ask again
        self._most_requests, self._one_at_a_time = MOST_REQUESTS, False
        self._vain = 0  # batches in a row without an answer
        self._is_tried = False
        self._error: BaseException | None = None
        self._following: set[asyncio.Task[None]] = set()
        self._sending: asyncio.Task[None] | None = None
        self._creating: asyncio.Task[None] | None = None  # which nothing interrupts

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Do nothing: the API lets nothing be fixed."""

    async def answer(self, request: Request) -> Reply:
        """Wait for the answer of a batch. Raises TransientError when the batch has none, and what the model raises."""
        if self._error:
            raise self._error
        key = request.key(self.info)
        question = self._waiting[key] = Question(request)
        self._arrivals += 1
        self._go_on()
        return await question.reply

    @contextmanager
    def being_kept(self, request: Request) -> Iterator[None]:
        """Send no batch while a reply is made durable in this block; afterwards its batch need not hold it."""
        self._keeping += 1
        try:
            yield
            self._on_kept(request.key(self.info))
        finally:
            self._keeping -= 1

    async def probe(self) -> None:
        """Do nothing: whether the server answers is found out by each look at a batch."""

    async def verify(self) -> None:
        """Do nothing: the API says nothing of the weights."""

    async def end(self, error: BaseException) -> None:
        """Send nothing more, and wait for nothing: batches go on at the server, and their records stay."""
        if self._error:
            return
        self._error = error
        for sent in self._sent.values():
            if sent.open_questions():
                self._say_left(sent)
        for question in [*self._waiting.values(), *self._under_way()]:
            question.fail(error)

    async def close(self) -> None:
        """Release the connections, once a batch that is being created is remembered."""
        await self.end(ModelError("the asking has ended"))
        if self._sending:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        if self._creating:
            await asyncio.gather(self._creating, return_exceptions=True)
        tasks = tuple(self._following)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._model.close()

    def _under_way(self) -> list[Question]:
        """The questions that batches have, and that wait for their replies."""
        return [question for sent in self._sent.values() for question in sent.open_questions()]

    def _say_left(self, sent: Sent) -> None:
        log.warning(
            "the batch %s of %d questions goes on at %s: run the same again, within 30 days, to take it up, or cancel "
            "it there",
            *(sent.record.id, len(sent.record.keys), self.host),
        )

    def _go_on(self) -> None:
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._guarded(self._send_all()))

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do something whose failure ends the asking."""
        try:
            await work
        except Exception as error:
            await self.end(error)

    async def _send_all(self) -> None:
        """Send what waits, again and again until nothing does."""
        while not self._error and self._is_waiting():
            await self._until_all_wait()
            await self._take_up()
            if not self._is_waiting():
                continue
            if self._one_at_a_time and self._following:
                await asyncio.wait(self._following)
                continue
            await self._server.patiently(self._try_once)
            for endpoint in sorted({self._model.line(question.request)[0] for question in self._waiting.values()}):
                await self._server.patiently(partial(self._send_part, endpoint))

    def _is_waiting(self) -> bool:
        """Whether questions wait that no batch has; those that nobody waits for any more are let go."""
        self._waiting = {key: question for key, question in self._waiting.items() if not question.reply.done()}
        return bool(self._waiting)

    async def _until_all_wait(self) -> None:
        """Let all who can ask do so. What they then wait for is an answer of this model, and of nothing else."""
        idle, seen = 0, self._arrivals
        while idle < IDLE_CYCLES:
            await asyncio.sleep(0.005 if self._keeping else 0)
            idle = 0 if self._keeping or self._arrivals != seen else idle + 1
            seen = self._arrivals

    async def _try_once(self) -> None:
        """Ask a question by itself before the first batch: its refusals teach which fields the server does not take."""
        if self._is_tried or self._error:
            return
        request = next(iter(self._waiting.values())).request
        words = "2 + 2 = 4:" if request.logprobs else "Answer with the numbers 1 and 2."
        try:
            reply = await self._model.answer(replace(request, text=words, max_tokens=min(16, request.max_tokens)))
            self._usage.paid_prompt_tokens += round(reply.prompt_tokens / BATCH_PRICE)  # at the ordinary price
            self._usage.paid_output_tokens += round(reply.output_tokens / BATCH_PRICE)
        except (TransientError, ModelUnavailable):
            raise
        except ModelError as error:
            log.info("a question by itself was refused, and the batch is sent all the same: %s", error)
        self._is_tried = True

    async def _take_up(self) -> None:
        """Wait for what other runs have sent of the questions that wait here, killed ones and those under way."""
        async with self._records.alone():
            for record in await self._load():
                if record.token in self._sent:
                    continue
                if self._waiting.keys().isdisjoint(record.keys):
                    if record.id and all(map(self._ledger.get, record.keys)):
                        self._records.remove(record)
                    continue
                # Without an id, whoever wrote it died before it knew whether the batch was created.
                known = record if record.id else await self._server.find(record)
                if known:
                    log.warning("the batch %s, which an earlier run or another one has sent, is taken up", known.id)
                    self._follow(known)

    async def _send_part(self, endpoint: str) -> None:
        """Send as many of the questions that wait for an endpoint as fit into one batch."""
        part = self._part(endpoint)
        if self._error or not part:
            return
        questions = [*self._under_way(), *(self._waiting[key] for key in part)]
        self._limit.check_batch(self._usage, [question.request for question in questions])
        refused = self._model.refused
        record = BatchRecord(self.host, self.info.digest, tuple(part), endpoint, "", refused)
        record = replace(record, input_file=await self._server.upload(b"".join(part.values())))
        self._creating = asyncio.create_task(self._create_alone(record))
        await asyncio.shield(self._creating)

    async def _create_alone(self, record: BatchRecord) -> None:
        """Create a batch and follow it, unless another run has sent some of the same questions since the last look."""
        async with self._records.alone():
            others = [other for other in await self._load() if other.token not in self._sent]
            mine = {key for key in record.keys if key in self._waiting and not self._waiting[key].reply.done()}
            if self._error or len(mine) < len(record.keys) or any(not mine.isdisjoint(other.keys) for other in others):
                await self._server.discard(record)
                return
            record = await self._server.create(record)
        log.warning("sent %d questions to %s as the batch %s", len(record.keys), self.info.name, record.id)
        self._follow(record)

    async def _load(self) -> list[BatchRecord]:
        """The records that there are; gives the replies that other runs have kept since the questions were asked here.

        In this order: a record goes once its replies are kept.
        """
        records = await self._records.load()
        await asyncio.to_thread(self._ledger.refresh)
        for key, question in self._waiting.items():
            if entry := self._ledger.get(key):
                question.give(entry.reply)
        self._is_waiting()
        return records

    def _part(self, endpoint: str) -> dict[str, bytes]:
        """The lines of a batch, by the keys of their requests."""
        part, size = dict[str, bytes](), 0
        for key, question in self._waiting.items():
            url, body = self._model.line(question.request)
            if url != endpoint or question.reply.done():
                continue
            (line,) = lines_of(iter([(key, url, body)]))
            if part and (len(part) >= self._most_requests or size + len(line) > MOST_BYTES):
                break
            part[key], size = line, size + len(line)
        return part

    def _follow(self, record: BatchRecord) -> None:
        """Wait in the background for a batch, for those of its questions that wait here."""
        questions = {key: self._waiting.pop(key) for key in record.keys if key in self._waiting}
        sent = self._sent[record.token] = Sent(record, questions)
        if self._error:  # it was being created when the asking ended
            self._say_left(sent)
            return
        task = asyncio.create_task(self._guarded(self._wait_for(sent)))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _wait_for(self, sent: Sent) -> None:
        state, results = await self._server.wait_for(sent.record)
        if QUEUE_FULL in state.error_codes:
            await pause_for(QUEUE_SECONDS)
        self._deliver(sent, state, results)

    def _deliver(self, sent: Sent, state: BatchState, results: Mapping[str, Result]) -> None:
        """Give the replies of a batch to those who wait, and say to the others that it has none for them."""
        keys = set(sent.record.keys)
        sent.unkept = {key for key, result in results.items() if result.has_answer and key in keys}
        sent.unkept = {key for key in sent.unkept if not self._ledger.get(key)}
        if not sent.unkept:
            self._records.remove(sent.record)
        questions, sent.questions = sent.questions, {}
        if QUEUE_FULL in state.error_codes and len(keys) > 1:
            self._most_requests, self._one_at_a_time = min(self._most_requests, (len(keys) + 1) // 2), True
            self._waiting |= questions
            self._go_on()
            return
        missing = Result(0, None, state.errors or f"the batch {state.id} is {state.status}, and has no line for it")
        is_vain = bool(questions)
        for key, question in questions.items():
            try:
                question.give(self._model.read_result(question.request, sent.record.refused, results.get(key, missing)))
                is_vain = False
            except ModelError as error:
                question.fail(error)
                is_vain = is_vain and isinstance(error, TransientError)  # else that is the answer
        self._vain = self._vain + 1 if is_vain else 0
        if self._vain >= MOST_VAIN:
            raise ModelUnavailable(
                f"{self._vain} batches in a row gave no answer at {self.host}; the last one, {state.id}, is "
                f"{state.status}: {state.errors or 'see it at the server'}. Replies received so far are kept: mend "
                "what is wrong there, then run again"
            )

    def _on_kept(self, key: str) -> None:
        for sent in self._sent.values():
            if key in sent.unkept:
                sent.unkept.discard(key)
                if not sent.unkept:
                    self._records.remove(sent.record)
