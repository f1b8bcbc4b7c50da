"""A server that speaks Ollama's protocol, and fails in every way that a real one does, as often as a test wants it to.

It is a real one: HTTP/1.1 over TCP, so that connections can be reset and bodies cut short. Which requests fail depends
on what is asked and on how often it was asked before, on nothing else: a run has the same faults whatever its order.
"""

import asyncio
import json
import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Final, TypeVar, get_args

from selectllm.testing.http_connection import Connection, Response, json_response
from selectllm.testing.ollama_answers import (
    REFUSALS,
    Content,
    Fault,
    answer_chat,
    answer_response,
    hash64,
    now,
    question_of,
    rate_candidate,
    shared_beginning,
)

T = TypeVar("T")

VERSION: Final = "0.30.0"
MODEL: Final = "m:latest"
DIGEST: Final = "5e1ec7" * 10 + "abcd"
QUESTION_PATHS: Final = ("/api/chat", "/api/generate")
DEFAULT_CONTEXT: Final = 4096
CHARS_PER_TOKEN: Final = 4


@dataclass(eq=False)
class FaultyOllama:
    """An Ollama server in a thread of its own, on 127.0.0.1, inside a `with` block.

    What is recorded is complete once `wait_idle` has returned.
    """

    faults: Mapping[str, float] = field(default_factory=dict)  # the share of requests that have each kind of fault
    _: KW_ONLY
    most_in_a_row: int = 2  # faults of one question, asked again in other words or not: patience ends in an answer
    seed: int = 0  # decides which requests have faults
    delay: float = 0.0  # seconds of work on an answer
    parallel: int = 4  # answers worked on at once: other questions queue
    read_delay: float = 0.0  # seconds for a thousand characters of a prompt that the last one in its place lacked
    loading: float = 0.0  # seconds that it takes to load the model for the first time
    hang: float = 30.0  # the most seconds that a hanging question is held
    model: str = MODEL
    digest: str = DIGEST
    context_length: int = 131_072
    thoughts: Mapping[bool | str, int] = field(default_factory=dict)  # tokens thought for each value of `think`

    def __post_init__(self) -> None:
        if unknown := self.faults.keys() - set(get_args(Fault)):
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("the shares of all faults together are more than 1")
        self.requests: Counter[str] = Counter()  # by endpoint
        self.injected: Counter[str] = Counter()  # by kind of fault
        self.keys: Counter[str] = Counter()  # by what stood under Authorization, empty where nothing did
        self.asked: list[dict[str, Any]] = []  # the bodies of all questions, in the order of their arrival
        self.answered: list[tuple[str, tuple[str, ...]]] = []  # of good answers: the prompt, the instructions ranked
        self.loads: list[int] = []  # the context of each time that the model was loaded
        self.most_at_once = 0  # questions, those that queued among them
        self.first_at = self.last_at = math.nan  # when the first and the last question came, by time.monotonic
        self._places = asyncio.Semaphore(self.parallel)
        self._read = [""] * self.parallel  # the last prompt of each place that is free
        self._times_asked: Counter[str] = Counter()  # by question, as are the faults in a row
        self._in_a_row: Counter[str] = Counter()
        self._low_by: defaultdict[str, int] = defaultdict(lambda: 15)  # by prompt
        self._pending = 0  # questions
        self._idle = threading.Event()
        self._idle.set()
        self._failure: Exception | None = None
        self._connections: set[Connection] = set()
        self._listening: asyncio.Server | None = None
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-ollama", daemon=True)

    @property
    def host(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "FaultyOllama":
        self._thread.start()
        self.resume()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.pause()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._failure and kind is None:
            raise self._failure  # of this server itself: it must not pass for a fault that a test ordered

    def pause(self) -> None:
        """Stop listening, and reset all connections."""
        self._run_in_thread(self._close())

    def resume(self) -> None:
        """Listen again, at the same address."""
        self._run_in_thread(self._listen())

    def wait_idle(self, timeout: float = 5.0) -> None:
        """Return when no question is under way. Raises TimeoutError."""
        if not self._idle.wait(timeout):
            raise TimeoutError(f"{self._pending} questions are still under way")

    def _run_in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._listening is None:
            connect = partial(Connection, self._serve, self._connections)
            self._listening = await self._loop.create_server(connect, "127.0.0.1", self._port, backlog=1024)
            self._port = self._listening.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listening is not None:
            # What was accepted a moment ago has yet to become a connection: it needs two turns, and a server to join.
            self._loop.remove_reader(self._listening.sockets[0].fileno())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._listening.close()
            self._listening = None
        while self._connections or self._pending:
            for connection in tuple(self._connections):
                connection.reset()
            await asyncio.sleep(0)

    async def _serve(self, connection: Connection, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Answer one request; cancelled when its client goes away."""
        self.requests[path] += 1
        self.keys[headers.get("authorization", "").strip()] += 1
        try:
            fields = json.loads(body) if body else {}
            if "model" in fields and self.model not in (fields["model"], f"{fields['model']}:latest"):
                connection.send(json_response(404, {"error": f"model '{fields['model']}' not found"}))
            elif path in QUESTION_PATHS:
                await self._answer(connection, path, fields)
            else:
                connection.send(self._describe(path))
        except Exception as error:
            self._failure = error
            connection.reset()

    def _describe(self, path: str) -> Response:
        """What the server says of itself and of its model."""
        details = {"format": "gguf", "family": "llama", "parameter_size": "8B", "quantization_level": "Q4_K_M"}
        model = {"name": self.model, "model": self.model, "size": 1, "digest": self.digest, "details": details}
        match path:
            case "/api/version":
                return json_response(200, {"version": VERSION})
            case "/api/tags":
                return json_response(200, {"models": [model | {"modified_at": now()}]})
            case "/api/ps":
                running = model | {"expires_at": now(), "size_vram": 1}
                return json_response(200, {"models": [running | {"context_length": n} for n in self.loads[-1:]]})
            case "/api/show":
                capabilities = ["completion", *(["thinking"] if self.thoughts else [])]
                info = {"general.architecture": "llama", "llama.context_length": self.context_length}
                return json_response(200, {"details": details, "model_info": info, "capabilities": capabilities})
        return json_response(404, {"error": "404 page not found"})

    async def _answer(self, connection: Connection, path: str, body: dict[str, Any]) -> None:
        """Answer a question, or fail as a fault wants it."""
        text = body["messages"][-1]["content"] if body.get("messages") else body.get("prompt", "")
        context = self._load(body)
        before = sum(len(turn["content"]) for turn in body.get("messages", ())[:-1])
        tokens = max(1, (before + len(text)) // CHARS_PER_TOKEN)
        if not text:
            await asyncio.sleep(self.loading)
            self.loading = 0.0
            return connection.send(answer_response(path, body, Content(""), {"done": True, "done_reason": "load"}))
        if tokens > context:
            if body.get("truncate") is False:
                return connection.send(json_response(400, {"error": "the input length exceeds the context length"}))
            tokens = context // 2 + 2  # what is left when the middle is cut out; nothing else tells of it
        arrived = time.monotonic()
        self.last_at, self.first_at = arrived, arrived if math.isnan(self.first_at) else self.first_at
        self.asked.append(body)
        fault = self._draw_fault(text)
        self._low_by[text] += fault == "low count"  # the count of a prompt that is really cut would be the same again
        with self._counting():
            if self.thoughts and body.get("think", True) not in self.thoughts:
                return connection.send(json_response(400, {"error": f'think value "{body["think"]}" is not supported'}))
            if fault is not None and fault in REFUSALS:
                status, error = REFUSALS[fault]
                return connection.send(json_response(status, {"error": error}))
            if fault in ("reset", "hang"):
                await asyncio.sleep(self.hang if fault == "hang" else 0)
                return connection.reset()
            async with self._places:
                started = time.monotonic()
                await self._work(text)
            worked = time.monotonic() - started
            is_pointwise = path == "/api/generate"
            content = rate_candidate(text, fault) if is_pointwise else answer_chat(text, body.get("format"), fault)
            if fault is None:
                self.answered.append((text, content.ranked))
            most = body.get("options", {}).get("num_predict", -1)
            if thought := self.thoughts.get(body.get("think", True), 0):
                content = replace(content, text=content.text if thought < most else "", thinking="Hm. " * thought)
            written = thought + max(1, len(content.text) // CHARS_PER_TOKEN)
            last = {
                "done": True,
                "done_reason": "stop" if most < 0 or written < most else "length",
                "total_duration": _nanoseconds(started - arrived + worked),  # the queue is in it, and nowhere else
                "load_duration": 0,
                "prompt_eval_count": max(1, tokens // self._low_by[text]) if fault == "low count" else tokens,
                "prompt_eval_duration": _nanoseconds(worked * 3 / 4),
                "eval_count": written if most < 0 else min(written, most),
                "eval_duration": _nanoseconds(worked / 4),
            }
            if most >= 0:
                content = replace(content, text=content.text[: most * CHARS_PER_TOKEN])
            response = answer_response(path, body, content, {"done": False} if fault == "unfinished" else last)
            return connection.send_half(response) if fault == "cut" else connection.send(response)

    async def _work(self, text: str) -> None:
        """Read a prompt in the free place that has just read most of its beginning, and write an answer."""
        read = max(self._read, key=lambda prompt: shared_beginning(prompt, text))
        self._read.remove(read)
        try:
            unread = len(text) - shared_beginning(read, text)
            await asyncio.sleep(self.delay + self.read_delay * unread / 1000)
        finally:
            self._read.append(text)

    def _load(self, body: Mapping[str, Any]) -> int:
        """The context for a request: where it is another than the last one's, the model is loaded anew."""
        context = min(body.get("options", {}).get("num_ctx", DEFAULT_CONTEXT), self.context_length)
        if self.loads[-1:] != [context]:
            self.loads.append(context)
        return int(context)

    def _draw_fault(self, text: str) -> str | None:
        """The fault that a request has, if any."""
        question = question_of(text)
        drawn = hash64(f"{self.seed} {self._times_asked[question]} {question}") / 2**64
        self._times_asked[question] += 1
        if self._in_a_row[question] < self.most_in_a_row:
            for fault, share in self.faults.items():
                if drawn < share:
                    self._in_a_row[question] += 1
                    self.injected[fault] += 1
                    return fault
                drawn -= share
        self._in_a_row[question] = 0
        return None

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Count a question as under way. Nothing is awaited after its answer is sent, so no other can come between."""
        self._pending += 1
        self.most_at_once = max(self.most_at_once, self._pending)
        self._idle.clear()
        try:
            yield
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
