"""The annotators' tools, in an environment of their own: how tests find them, and a server of Argilla's API."""

import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from deployments.steps import ROOT

FOLDER: Final = ROOT / ".venv-annotators"
NOW: Final = "2026-01-01T00:00:00"
OWNER: Final = {"id": str(uuid.UUID(int=1)), "username": "owner", "role": "owner", "first_name": "Owner"}
WORKSPACE: Final = {"id": str(uuid.UUID(int=2)), "name": "argilla", "inserted_at": NOW, "updated_at": NOW}


def environment(folder: Path) -> dict[str, str]:
    """The variables for processes of the tools: their data in a folder, nothing told or asked over the internet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SELECTLLM_", "PYTHON"))}
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "COLLECT_ANALYTICS": "false"}
    label_studio = {"LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio-data"), "LATEST_VERSION_CHECK": "false"}
    return kept | offline | label_studio | {"SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}


def installed() -> Path:
    """The folder of the environment with the tools; makes it, or skips the test where they cannot be installed."""
    command = ["make", "--silent", f"PYTHON={sys.executable}", f"{FOLDER.name}/.ready"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3600)
    if done.returncode:
        pytest.skip(f"the annotators' tools cannot be installed: {done.stderr.strip()[-300:]}")
    return FOLDER


def run_python(program: str, folder: Path) -> Any:
    """What a program prints, as JSON, that runs with the tools in a folder."""
    command = [str(FOLDER / "bin" / "python"), "-c", program]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


class ArgillaServer:
    """As much of Argilla's API as its SDK needs to make a dataset, log records and read the submitted ones again."""

    def __init__(self) -> None:
        self.dataset: dict[str, Any] = {}
        self.properties: dict[str, list[dict[str, Any]]] = {}
        self.records: list[dict[str, Any]] = []
        self.searches: list[dict[str, Any]] = []

    def answer(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """The answer to a request; raises KeyError for what the API of a server would not know."""
        path = re.sub(r"^/api/v1/|\?.*$", "", path)
        if method == "GET" and path in ("me", "status", "version"):
            return {**OWNER, "version": "2.8.0", "inserted_at": NOW, "updated_at": NOW}
        if path == "me/workspaces":
            return {"items": [WORKSPACE]}
        if path == f"workspaces/{WORKSPACE['id']}":
            return WORKSPACE
        if path == "me/datasets":
            return {"items": [self.dataset] if self.dataset else []}
        if (method, path) == ("POST", "datasets"):
            self.dataset = body | {"id": str(uuid.uuid4()), "status": "draft", "inserted_at": NOW, "updated_at": NOW}
            return self.dataset
        *_, kind = path.split("/")
        if method == "POST" and kind in ("fields", "questions", "metadata-properties", "vectors-settings"):
            made: dict[str, Any] = body | {"id": str(uuid.uuid4()), "dataset_id": self.dataset["id"]}
            self.properties.setdefault(kind, []).append(made)
            return made
        if method == "GET" and kind in ("fields", "questions", "metadata-properties", "vectors-settings"):
            return {"items": self.properties.get(kind, [])}
        if kind == "publish":
            self.dataset["status"] = "ready"
            return self.dataset
        if method in ("GET", "PATCH") and path == f"datasets/{self.dataset['id']}":
            self.dataset |= body or {}
            return self.dataset
        if method == "PUT" and path.endswith("records/bulk"):
            items = [item | {"id": str(uuid.uuid4()), "status": "pending"} for item in body["items"]]
            self.records += items
            return {"items": items, "updated_item_ids": []}
        if path.endswith("records/search"):
            self.searches.append(body)
            is_first = len(self.searches) == 1
            items = [{"record": record, "query_score": None} for record in self.records if record.get("responses")]
            return {"items": items if is_first else [], "total": len(items)}
        raise KeyError(f"{method} {path}")


@contextmanager
def argilla_server() -> Iterator[tuple[str, ArgillaServer]]:
    """Serve Argilla's API on this machine; gives its URL and what it was told."""
    server = ArgillaServer()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            try:
                status, content = 200, server.answer(self.command, self.path, body)
            except KeyError as error:
                status, content = 404, {"detail": str(error)}
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = _handle  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
