"""A server with OpenAI's Files and Batches, which answers by a rule, fails on demand, and counts what is paid for.

The fields are those of OpenAI's API: a batch's line is answered by a line with `custom_id`, and `response` or `error`.
"""

import email
import email.policy
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from typing import Any

import anyio
from starlette import requests
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.llm.openai_server import CHOICE, GOOD, RankingServer, error

Line = dict[str, Any]
Fault = Callable[[list[Line]], list[Line]]
"""What becomes of a batch's lines."""


def expired(line: Line) -> Line:
    """The line of a request that was not asked within the window."""
    reason = {"code": "batch_expired", "message": "This request could not be executed before the window expired."}
    return line | {"response": None, "error": reason}


def refused(line: Line, status: int, message: str, **fields: Any) -> Line:
    """The line of a request that was refused."""
    return line | {"response": line["response"] | {"status_code": status, "body": error(message, **fields)}}


class BatchServer(RankingServer):
    """Ranks as RankingServer does, by itself and in batches.

    A batch is over at the look number `looks`. The batch number n, from 0, ends with the status `statuses[n]`, and what
    `faults[n]` makes of its lines; those without an answer of status 200 go to the error file. `failures` are errors of
    whole batches. `tails[n]` is cut from the end of what a download number n gives.
    """

    def __init__(self, looks: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.looks = looks
        self.statuses: dict[int, str] = {}
        self.faults: dict[int, Fault] = {}
        self.failures: dict[int, tuple[str, str]] = {}
        self.tails: dict[int, int] = {}
        self.refusals: dict[str, list[Response]] = {}  # responses in the place of what is asked for, by path and verb
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.paid: Counter[str] = Counter()  # the answers given, by the ids of their lines
        self.downloads = 0
        self.deleted: list[str] = []
        self.hold, self.passes = "", 0  # the stage at which a response is held, once it has passed so often
        self.held = threading.Event()
        self.is_over = False
        self._looks: Counter[str] = Counter()
        add = self.app.router.routes.append
        add(Route("/v1/files", self.upload, methods=["POST"]))
        add(Route("/v1/files/{id}", self.delete, methods=["DELETE"]))
        add(Route("/v1/files/{id}/content", self.content))
        add(Route("/v1/batches", self.create, methods=["POST"]))
        add(Route("/v1/batches", self.list))
        add(Route("/v1/batches/{id}", self.look))

    def answer(self, body: dict[str, Any]) -> Response:
        """The answer to a request: a ranking, or a reason."""
        form = body.get("response_format")
        if not form or "reason" not in form["json_schema"]["schema"]["properties"]:
            return super().answer(body)
        choice = CHOICE | {"message": {"role": "assistant", "content": json.dumps({"reason": "It takes thought."})}}
        usage = {"prompt_tokens": len(body["messages"][0]["content"]) // 4, "completion_tokens": 6}
        return JSONResponse(GOOD | {"choices": [choice], "usage": usage})

    def sizes(self) -> list[int]:
        """How many requests each batch has, in the order that they were created."""
        return [batch["request_counts"]["total"] for batch in self.batches.values()]

    def add_foreign_batch(self, id: str, created_at: int) -> None:
        """Have the server know a batch of another program."""
        fields = {"object": "batch", "endpoint": "/v1/embeddings", "input_file_id": "f", "completion_window": "24h"}
        self.batches[id] = {"id": id, "status": "completed", "created_at": created_at, "metadata": None} | fields

    async def stage(self, name: str) -> None:
        """Hold the response if it is to be held at this stage: the client is killed meanwhile."""
        if self.hold == name and self.passes:
            self.passes -= 1
        elif self.hold == name:
            self.hold = ""
            self.held.set()
            while not self.is_over:  # noqa: ASYNC110 - another thread sets it
                await anyio.sleep(0.05)

    def refusal(self, what: str) -> Response | None:
        return self.refusals[what].pop(0) if self.refusals.get(what) else None

    async def upload(self, request: requests.Request) -> Response:
        await self.stage("uploading")
        if refusal := self.refusal("POST /files"):
            return refusal
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        form = email.message_from_bytes(head + await request.body(), policy=email.policy.HTTP)
        assert isinstance(form, EmailMessage)
        parts = {part.get_param("name", header="content-disposition"): part.get_content() for part in form.iter_parts()}
        assert parts["purpose"].strip() == "batch"
        id, content = self._keep(parts["file"])
        await self.stage("uploaded")
        file = {"id": id, "object": "file", "bytes": len(content), "created_at": int(time.time())}
        return JSONResponse(file | {"filename": "f.jsonl", "purpose": "batch", "status": "processed"})

    async def delete(self, request: requests.Request) -> Response:
        self.deleted.append(request.path_params["id"])
        return JSONResponse({"id": request.path_params["id"], "object": "file", "deleted": True})

    async def create(self, request: requests.Request) -> Response:
        await self.stage("creating")
        if refusal := self.refusal("POST /batches"):
            return refusal
        body = json.loads(await request.body())
        assert body["completion_window"] == "24h"
        number = len(self.batches)
        lines = self.files[body["input_file_id"]].splitlines()
        now = int(time.time())
        batch = self.batches[f"batch_{number}"] = {
            "id": f"batch_{number}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "errors": None,
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": now,
            "expires_at": now + 86_400,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            "metadata": body.get("metadata"),
        }
        await self.stage("created")
        if refusal := self.refusal("POST /batches, created"):
            return refusal
        return JSONResponse(batch)

    async def list(self, request: requests.Request) -> Response:
        if refusal := self.refusal("GET /batches"):
            return refusal
        newest_first = sorted(self.batches.values(), key=lambda batch: -batch["created_at"])
        after, limit = request.query_params.get("after"), int(request.query_params.get("limit", 20))
        start = 1 + [batch["id"] for batch in newest_first].index(after) if after else 0
        page = newest_first[start : start + limit]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return JSONResponse({"object": "list", "data": page, **ends, "has_more": start + limit < len(newest_first)})

    async def look(self, request: requests.Request) -> Response:
        if refusal := self.refusal("GET /batches/id"):
            return refusal
        batch = self.batches.get(request.path_params["id"])
        if batch is None:
            return JSONResponse(error("No batch found with this id."), 404)
        self._looks[batch["id"]] += 1
        if batch["status"] == "validating" and self._looks[batch["id"]] >= self.looks:
            await self._finish(batch)
        elif batch["status"] == "validating":
            await self.stage("polled")
            counts = batch["request_counts"]
            completed = counts["total"] * (self._looks[batch["id"]] - 1) // self.looks
            return JSONResponse(batch | {"status": "in_progress", "request_counts": counts | {"completed": completed}})
        return JSONResponse(batch)

    async def content(self, request: requests.Request) -> Response:
        if refusal := self.refusal("GET /files/id/content"):
            return refusal
        content, number = self.files[request.path_params["id"]], self.downloads
        self.downloads += 1

        async def halves() -> AsyncIterator[bytes]:
            yield content[: len(content) // 2]
            await self.stage("downloading")
            yield content[len(content) // 2 : len(content) - self.tails.get(number, 0)]

        return StreamingResponse(halves(), media_type="application/octet-stream")

    async def _finish(self, batch: dict[str, Any]) -> None:
        """Answer a batch's requests, and do with the answers what is to go wrong."""
        number = int(batch["id"].removeprefix("batch_"))
        if failure := self.failures.get(number):
            code, message = failure
            lost = {"code": code, "message": message, "line": None, "param": None}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [lost]}}
            return
        asked = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        assert {line["url"] for line in asked} == {batch["endpoint"]}
        assert len({line["custom_id"] for line in asked}) == len(asked)
        lines = self.faults.get(number, _as_they_are)([self._answered(line) for line in asked])
        good, bad = [line for line in lines if _is_good(line)], [line for line in lines if not _is_good(line)]
        self.paid.update({line["custom_id"] for line in good})
        for name, some in (("output", good), ("error", bad)):
            if some:
                batch[f"{name}_file_id"], _ = self._keep(b"".join(json.dumps(line).encode() + b"\n" for line in some))
        completed = len({line["custom_id"] for line in good})
        counts = {"total": len(asked), "completed": completed, "failed": len(asked) - completed}
        batch |= {"status": self.statuses.get(number, "completed"), "request_counts": counts}

    def _answered(self, line: Line) -> Line:
        response = self.answer(line["body"])
        body, status = json.loads(bytes(response.body)), response.status_code
        reply = {"status_code": status, "request_id": f"req_{line['custom_id']}", "body": body}
        return {"id": "batch_req_1", "custom_id": line["custom_id"], "response": reply, "error": None}

    def _keep(self, content: bytes) -> tuple[str, bytes]:
        id = f"file-{len(self.files)}"
        self.files[id] = content
        return id, content


def _as_they_are(lines: list[Line]) -> list[Line]:
    return lines


def _is_good(line: Line) -> bool:
    return (line.get("response") or {}).get("status_code") == 200
