"""HTTP/1.1 over one TCP connection, low enough to be reset, cut short or left unanswered."""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

Response = tuple[bytes, bytes]
"""The head of a response with its blank line, and the body."""


class Connection(asyncio.Protocol):
    """One connection: takes a client's requests one after the other, and cancels the one that the client gives up.

    Parameters: `serve(connection, path, headers, body)` answers a request, the headers by their lower-case names;
    `open_connections`, a set that this connection is in as long as it is open.
    """

    def __init__(
        self,
        serve: "Callable[[Connection, str, Mapping[str, str], bytes], Awaitable[None]]",
        open_connections: "set[Connection]",
    ) -> None:
        self._serve, self._open_connections = serve, open_connections
        self._received = b""
        self._serving: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, and be among the open connections."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Begin to serve a request as soon as all of it has arrived."""
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
        """Stop serving: the client has gone."""
        if self._serving is not None:
            self._serving.cancel()

    def connection_lost(self, _: Exception | None) -> None:
        """Stop serving, and be open no longer."""
        self.eof_received()
        self._open_connections.discard(self)

    def send(self, response: Response) -> None:
        """Send a response, and wait for the next request."""
        self._transport.write(b"".join(response))

    def send_half(self, response: Response) -> None:
        """Send half of a response's body, and close the connection."""
        head, body = response
        self._transport.write(head + body[: len(body) // 2])
        self._transport.close()

    def reset(self) -> None:
        """Break the connection off, as a process does that is killed."""
        if not self._transport.is_closing():
            no_linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self._transport.abort()


def json_response(status: int, content: Mapping[str, Any]) -> Response:
    """A response of one JSON object."""
    body = json.dumps(content).encode()
    return _head(status, "application/json; charset=utf-8", f"Content-Length: {len(body)}"), body


def streamed_response(events: Iterable[Mapping[str, Any]]) -> Response:
    """A response of JSON objects, each a line and a chunk of its own."""
    lines = [json.dumps(event).encode() + b"\n" for event in events]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)
    return _head(200, "application/x-ndjson", "Transfer-Encoding: chunked"), chunks + b"0\r\n\r\n"


def _head(status: int, content_type: str, length: str) -> bytes:
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"
    return f"{line}\r\nContent-Type: {content_type}\r\n{length}\r\n\r\n".encode()
