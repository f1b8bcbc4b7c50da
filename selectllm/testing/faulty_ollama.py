"""A server that speaks Ollama's wire, and fails in every way that a real one does, as often as a test wants it to.

It is a real one: HTTP/1.1 over TCP, so that connections can be reset and bodies cut short. Which requests fail depends
on what is asked and on how often it was asked before, on nothing else: a run meets the same faults whatever its order.
"""

import asyncio
import json
import math
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Literal, TypeVar, get_args

T = TypeVar("T")

Fault = Literal[
    "busy",  # 503, as while a model is being loaded
    "runner died",  # 500, in Ollama's words
    "reset",  # the connection is reset instead of an answer
    "hang",  # no answer, until the client goes away
    "cut",  # half of an answer, then the end of the connection
    "unfinished",  # 200, but `done` is false
    "empty",  # no content
    "wrong ids",  # numbers of candidates that were not shown
    "repeated ids",  # one number, again and again
    "prose",  # words, no JSON
    "low count",  # far fewer prompt tokens than were sent, as when the server has cut the prompt
]

VERSION: Final = "0.30.0"
MODEL: Final = "m:latest"
DIGEST: Final = "5e1ec7" * 10 + "abcd"
ASKING: Final = ("/api/chat", "/api/generate")
DEFAULT_CONTEXT: Final = 4096
CHARS_PER_TOKEN: Final = 4
LABELS: Final = (" yes", " no")
PROSE: Final = "All of these have their merits, and it is hard to prefer any."

REFUSALS: Final[Mapping[str, tuple[int, str]]] = {
    "busy": (503, "server busy, please try again.  maximum pending requests exceeded"),
    "runner died": (
        500,
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
        "check ollama server logs for details",
    ),
}

MISLEADING: Final = ("unfinished", "low count")
"""Look right but for one field; they rank the worst first, so that a client that takes one for an answer is noticed."""


def merit(instruction: str) -> float:
    """How much this server thinks of an instruction, between 0 and 1; a good answer names the greatest first."""
    return (_hashed(instruction) + 1) / (2**64 + 1)


class FaultyOllama:
    """An Ollama server in a thread of its own, on 127.0.0.1, between `with` and its end.

    Parameters: `faults`, the share of requests that meet each kind of fault, never more than `most_in_a_row` of one
    question (asked again in other words it is the same one), so that patience always ends in an answer; `delay`,
    seconds of work on an answer, and `parallel`, answers worked on at once: other questions queue; `hang`, the most
    seconds that a hanging one is held. What is recorded is complete once `wait_idle` has returned.
    """

    def __init__(
        self,
        faults: Mapping[str, float] | None = None,
        *,
        delay: float = 0.0,
        parallel: int = 4,
        most_in_a_row: int = 2,
        hang: float = 30.0,
        seed: int = 0,
        model: str = MODEL,
        digest: str = DIGEST,
        context_length: int = 131_072,
    ) -> None:
        self._faults = dict(faults or {})
        if unknown := self._faults.keys() - set(get_args(Fault)):
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        if sum(self._faults.values()) > 1 + 1e-9:
            raise ValueError("the shares of all faults together are more than 1")
        self.model, self.digest, self.context_length = model, digest, context_length
        self.requests: Counter[str] = Counter()  # by endpoint
        self.injected: Counter[str] = Counter()  # by kind of fault
        self.keys: Counter[str] = Counter()  # by what stood under Authorization, empty where nothing did
        self.asked: list[dict[str, Any]] = []  # the bodies of all questions, in the order of their arrival
        self.answered: list[tuple[str, tuple[str, ...]]] = []  # of good answers: the prompt, the instructions ranked
        self.loads: list[int] = []  # the context of each time that the model was loaded
        self.most_at_once = 0  # questions, also those that queued
        self.first_at = self.last_at = math.nan  # when the first and the last question came, by time.monotonic
        self._delay, self._hang, self._seed, self._most_in_a_row = delay, hang, seed, most_in_a_row
        self._places = asyncio.Semaphore(parallel)
        self._seen: Counter[str] = Counter()  # by question, as are the faults in a row
        self._in_a_row: Counter[str] = Counter()
        self._under_way = 0
        self._idle = threading.Event()
        self._idle.set()
        self._failure: Exception | None = None
        self._connections: set[_Connection] = set()
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
        """Be dead: connections are reset, new ones refused."""
        self._there(self._close())

    def resume(self) -> None:
        """Be there again, at the same address."""
        self._there(self._listen())

    def wait_idle(self, timeout: float = 5.0) -> None:
        """Return when no question is under way.

        Raises TimeoutError.
        """
        if not self._idle.wait(timeout):
            raise TimeoutError(f"{self._under_way} questions are still under way")

    def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._listening is None:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(
                lambda: _Connection(self._serve, self._connections), "127.0.0.1", self._port, backlog=1024
            )
            self._port = self._listening.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._listening is not None:
            # What was accepted a moment ago has yet to become a connection: it needs two turns, and a server to join.
            asyncio.get_running_loop().remove_reader(self._listening.sockets[0].fileno())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._listening.close()
            self._listening = None
        while self._connections or self._under_way:
            for connection in tuple(self._connections):
                connection.reset()
            await asyncio.sleep(0)

    async def _serve(self, connection: "_Connection", path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Answer one request; cancelled when its client goes away."""
        self.requests[path] += 1
        self.keys[headers.get("authorization", "").strip()] += 1
        try:
            given = json.loads(body) if body else {}
            if "model" in given and _tagged(given["model"]) != self.model:
                connection.send(*_whole(404, {"error": f"model '{given['model']}' not found"}))
            elif path in ASKING:
                await self._ask(connection, path, given)
            else:
                connection.send(*self._tell(path))
        except Exception as error:
            self._failure = error
            connection.reset()

    def _tell(self, path: str) -> tuple[bytes, bytes]:
        details = {"format": "gguf", "family": "llama", "parameter_size": "8B", "quantization_level": "Q4_K_M"}
        model = {"name": self.model, "model": self.model, "size": 1, "digest": self.digest, "details": details}
        match path:
            case "/api/version":
                return _whole(200, {"version": VERSION})
            case "/api/tags":
                return _whole(200, {"models": [model | {"modified_at": _now()}]})
            case "/api/ps":
                running = model | {"expires_at": _now(), "size_vram": 1}
                return _whole(200, {"models": [running | {"context_length": tokens} for tokens in self.loads[-1:]]})
            case "/api/show":
                info = {"general.architecture": "llama", "llama.context_length": self.context_length}
                return _whole(200, {"details": details, "model_info": info, "capabilities": ["completion"]})
        return _whole(404, {"error": "404 page not found"})

    async def _ask(self, connection: "_Connection", path: str, given: dict[str, Any]) -> None:
        text = given["messages"][-1]["content"] if given.get("messages") else given.get("prompt", "")
        context = self._load(given)
        tokens = max(1, len(text) // CHARS_PER_TOKEN)
        if not text:
            return connection.send(*_answer(path, given, "", {"done": True, "done_reason": "load"}))
        if tokens > context:
            if given.get("truncate") is False:
                return connection.send(*_whole(400, {"error": "the input length exceeds the context length"}))
            tokens = context // 2 + 2  # what is left when the middle is cut out; nothing else tells of it
        arrived = time.monotonic()
        self.last_at, self.first_at = arrived, arrived if math.isnan(self.first_at) else self.first_at
        self.asked.append(given)
        fault = self._draw(text)
        with self._counted():
            if fault is not None and fault in REFUSALS:
                status, error = REFUSALS[fault]
                return connection.send(*_whole(status, {"error": error}))
            if fault in ("reset", "hang"):
                await asyncio.sleep(self._hang if fault == "hang" else 0)
                return connection.reset()
            async with self._places:
                started = time.monotonic()
                await asyncio.sleep(self._delay)
            worked = time.monotonic() - started
            content, ranked, logprobs = _point(text, fault) if path == "/api/generate" else _rank(text, given, fault)
            written, room = max(1, len(content) // CHARS_PER_TOKEN), given.get("options", {}).get("num_predict", -1)
            if fault is None:
                self.answered.append((text, ranked))
            ended = {
                "done": True,
                "done_reason": "stop" if room < 0 or written < room else "length",
                "total_duration": _nanoseconds(started - arrived + worked),  # the queue is in it, and nowhere else
                "load_duration": 0,
                "prompt_eval_count": max(1, tokens // 16) if fault == "low count" else tokens,
                "prompt_eval_duration": _nanoseconds(worked * 3 / 4),
                "eval_count": written if room < 0 else min(written, room),
                "eval_duration": _nanoseconds(worked / 4),
            }
            content = content[: room * CHARS_PER_TOKEN] if room >= 0 else content
            head, body = _answer(path, given, content, {"done": False} if fault == "unfinished" else ended, logprobs)
            if fault == "cut":
                return connection.send(head, body[: len(body) // 2], last=True)
            return connection.send(head, body)

    def _load(self, given: Mapping[str, Any]) -> int:
        """The context for this request: where it is another than the last one's, the model is loaded anew."""
        context = min(given.get("options", {}).get("num_ctx", DEFAULT_CONTEXT), self.context_length)
        if self.loads[-1:] != [context]:
            self.loads.append(context)
        return int(context)

    def _draw(self, text: str) -> str | None:
        """The fault that this request meets, if any."""
        question = _question(text)
        drawn = _hashed(f"{self._seed} {self._seen[question]} {question}") / 2**64
        self._seen[question] += 1
        fault = None
        if self._in_a_row[question] < self._most_in_a_row:
            for kind, share in self._faults.items():
                if drawn < share:
                    fault = kind
                    break
                drawn -= share
        if fault is None:
            self._in_a_row[question] = 0
        else:
            self._in_a_row[question] += 1
            self.injected[fault] += 1
        return fault

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a question as under way. Nothing is awaited after its answer is sent, so no other can come between."""
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()


class _Connection(asyncio.Protocol):
    """One connection: takes a client's requests one after the other, and drops the one that the client gives up."""

    def __init__(
        self,
        serve: Callable[["_Connection", str, Mapping[str, str], bytes], Awaitable[None]],
        all_open: "set[_Connection]",
    ) -> None:
        self._serve, self._all_open = serve, all_open
        self._received = b""
        self._serving: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._all_open.add(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        request, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) >= length:
            self._received = rest[length:]
            self._serving = asyncio.ensure_future(self._serve(self, request.split()[1], headers, rest[:length]))

    def eof_received(self) -> None:
        self._give_up()

    def connection_lost(self, _: Exception | None) -> None:
        self._give_up()
        self._all_open.discard(self)

    def send(self, head: bytes, body: bytes, last: bool = False) -> None:
        self._transport.write(head + body)
        if last:
            self._transport.close()

    def reset(self) -> None:
        if not self._transport.is_closing():
            no_linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self._transport.abort()

    def _give_up(self) -> None:
        if self._serving is not None:
            self._serving.cancel()


def _question(text: str) -> str:
    """A prompt without what a further attempt adds to it: a blank line, and what was wrong with the last answer."""
    before, marked, after = text.rpartition("Candidates:\n")
    return before + marked + after.partition("\n\n")[0]


def _rank(text: str, given: Mapping[str, Any], fault: str | None) -> tuple[str, tuple[str, ...], None]:
    """What the answer to a listwise prompt says, and the instructions that it ranks."""
    lines = _question(text).rpartition("Candidates:\n")[2].split("\n") if "Candidates:\n" in text else []
    candidates = [json.loads(line) for line in lines]
    best = sorted(candidates, key=lambda one: (-merit(one["instruction"]), one.get("input", "")))
    schema = given.get("format") or {}
    wanted = schema["properties"]["ranking"]["minItems"] if isinstance(schema, dict) and schema else len(best)
    ranked = (best[::-1] if fault in MISLEADING else best)[:wanted]
    numbers = [candidate["number"] for candidate in ranked]
    if fault == "wrong ids":
        numbers = [len(candidates) + place for place in range(1, wanted + 1)]
    elif fault == "repeated ids":
        numbers = numbers[:1] * max(wanted, 2)
    content = {"empty": "", "prose": PROSE}.get(fault or "", json.dumps({"ranking": numbers}))
    return content, tuple(candidate["instruction"] for candidate in ranked), None


def _point(text: str, fault: str | None) -> tuple[str, tuple[str, ...], list[dict[str, Any]]]:
    """What a raw prompt goes on with, the instruction that it is about, and the odds of both labels."""
    instruction = json.JSONDecoder().raw_decode(text.rpartition("\nInstruction: ")[2])[0]
    yes = 1 - merit(instruction) if fault in MISLEADING else merit(instruction)
    odds = sorted(zip((math.log(yes), math.log(1 - yes)), LABELS, strict=True), reverse=True)
    if fault in ("empty", "prose", "wrong ids", "repeated ids"):  # neither label is among the likeliest tokens
        odds = [(-0.5, " It"), (-1.5, " The")]
    tokens: list[dict[str, Any]] = [
        {"token": token, "logprob": odd, "bytes": list(token.encode())} for odd, token in odds
    ]
    return str(tokens[0]["token"]), (instruction,), [tokens[0] | {"top_logprobs": tokens}]


def _answer(
    path: str,
    given: Mapping[str, Any],
    content: str,
    ended: Mapping[str, Any],
    logprobs: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[bytes, bytes]:
    """An answer as the request wants it, in one piece or streamed."""

    def event(piece: str, **fields: Any) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": piece}} if path == "/api/chat" else {"response": piece}
        return {"model": given["model"], "created_at": _now(), **said, **fields}

    with_logprobs = {"logprobs": logprobs} if logprobs and given.get("logprobs") else {}
    if not given.get("stream", True):
        return _whole(200, event(content, **with_logprobs, **ended))
    halves = [content[: len(content) // 2], content[len(content) // 2 :]]
    events = [event(piece, **with_logprobs, done=False) for piece in halves if piece]
    events += [event("", **ended)] if ended["done"] else []
    lines = [json.dumps(event).encode() + b"\n" for event in events]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)
    return _head(200, "application/x-ndjson", "Transfer-Encoding: chunked"), chunks + b"0\r\n\r\n"


def _whole(status: int, answer: Mapping[str, Any]) -> tuple[bytes, bytes]:
    body = json.dumps(answer).encode()
    return _head(status, "application/json; charset=utf-8", f"Content-Length: {len(body)}"), body


def _head(status: int, kind: str, size: str) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n{size}\r\n\r\n".encode()


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _hashed(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
