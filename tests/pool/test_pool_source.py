import gzip
import hashlib
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from selectllm.errors import MissingDependency, PoolError
from selectllm.pool import fetch
from tests.pool.reading import read_pool

ROW = b'{"instruction": "a"}\n'


@pytest.fixture
def memory():
    """fsspec's memory file system, emptied. It exists until the process ends."""
    filesystem = fsspec.filesystem("memory")
    filesystem.store.clear()
    yield filesystem
    filesystem.store.clear()


@pytest.fixture
def refused():
    """Check that `location` is refused with a one-line message; returns the message."""

    def refused(location, error=PoolError):
        with pytest.raises(error) as raised:
            fetch(location)
        message = str(raised.value)
        assert message.isprintable()
        return message

    return refused


def test_local_paths_and_urls_are_the_same_file(write, memory, monkeypatch, tmp_path):
    path = write("pool.jsonl", ROW)
    memory.pipe("/pools/pool.jsonl", ROW)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for location in (path, f"file://{path}", "memory://pools/pool.jsonl", "~/pool.jsonl", "pool.jsonl"):
        assert read_pool(location).table.num_rows == 1
        assert fetch(location).digest == hashlib.blake2b(ROW, digest_size=16).hexdigest()


def test_a_file_name_with_double_colons_is_a_local_file(write, tmp_path):
    assert read_pool(write("zip::pool#1?.jsonl", ROW)).table.num_rows == 1


def test_the_digest_covers_the_stored_bytes(write):
    stored = gzip.compress(ROW) + os.urandom(3 << 20)
    file = fetch(write("pool.jsonl.gz", stored))
    assert file.data == stored
    assert file.digest == hashlib.blake2b(stored, digest_size=16).hexdigest()


def test_a_file_is_read_once_and_the_digest_is_of_those_bytes(memory, monkeypatch):
    memory.pipe("/pool.jsonl", ROW)
    opened = []
    open_file = MemoryFileSystem.open

    def counted(self, path, *args, **kwargs):
        opened.append(path)
        return open_file(self, path, *args, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "open", counted)
    assert read_pool("memory://pool.jsonl").table.num_rows == 1
    assert len(opened) == 1


def test_a_missing_pool_file_is_an_error(refused, memory, tmp_path):
    for location in (f"{tmp_path}/pool.jsonl", f"file://{tmp_path}/pool.jsonl", "memory://pool.jsonl"):
        assert refused(location) == f"{location} does not exist. Check the path."
    assert "does not exist" in refused(f"{tmp_path}/two\nlines.jsonl")
    assert "cannot be read: ValueError" in refused(f"{tmp_path}/\0.jsonl")


def test_a_folder_without_a_file_of_a_known_format_is_an_error(refused, tmp_path):
    (tmp_path / "a.txt").touch()
    assert "is a folder without a file that can be read. Check the path." in refused(str(tmp_path))
    assert "fits no file that can be read. Check the path." in refused(f"{tmp_path}/*.jsonl")


def test_a_folder_of_several_formats_is_an_error(refused, tmp_path):
    for name in ("a.jsonl", "b.jsonl", "info.json"):
        (tmp_path / name).touch()
    message = refused(str(tmp_path))
    assert "holds files of several formats: a.jsonl, b.jsonl, info.json. Name one of them, or those of one" in message


def test_an_unknown_format_is_an_error(refused, write):
    assert "does not end in the name of a format" in refused(write("pool.txt", ROW))


def test_an_unknown_protocol_is_an_error(refused):
    assert "Protocol not known: nowhere" in refused("nowhere://pool.jsonl")


def test_a_protocol_with_a_missing_package_is_an_error(refused, monkeypatch):
    fsspec.register_implementation("absent", "absent_package.FS", errtxt="Install absent_package", clobber=True)
    message = refused("absent://pool.jsonl")
    assert message == "absent://pool.jsonl needs a package that is not installed: Install absent_package."
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(_registry, "hf", raising=False)  # fsspec's registry of imported classes
    message = refused("hf://datasets/a/b/pool.jsonl", MissingDependency)
    assert "pip install 'selectllm[embed]'" in message


@pytest.fixture
def answering():
    """Serves one status to every request on this machine; returns the server's URL."""
    servers = []

    def answering(status):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_HEAD(self):
                self.do_GET()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield answering
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "cannot be read: the server answers 401 Unauthorized. Give the key or password that it asks for."),
        (403, "cannot be read: the server answers 403 Forbidden. Ask for the right to read it, or name a copy."),
        (404, "does not exist. Check the path."),
        (410, "cannot be read: the server answers 410 Gone. Check the URL."),
        (500, "cannot be read: the server answers 500 Internal Server Error. Try again later."),
        (599, "cannot be read: the server answers 599. Try again later."),
    ],
)
def test_the_refusal_of_a_web_server_is_told_as_what_it_is(refused, answering, status, words):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    location = f"{answering(status)}/pool.jsonl"
    assert refused(location) == f"{location} {words}"


def test_a_server_that_is_not_reached_is_not_a_file_that_does_not_exist(refused, answering, monkeypatch):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    with socket.socket() as closed:  # bound, and not listening: nobody else gets its port
        closed.bind(("127.0.0.1", 0))
        location = f"http://127.0.0.1:{closed.getsockname()[1]}/pool.jsonl"
        words = "cannot be read: no server listens there (connection refused). Check the URL, and try again later."
        assert refused(location) == f"{location} {words}"
    plain = answering(404).replace("http:", "https:")
    assert "the connection failed" in refused(f"{plain}/pool.jsonl")

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "no address is known for the host" in refused("http://no-such-host.invalid/pool.jsonl")


class FailingFileSystem(MemoryFileSystem):
    """Opens files and then fails with its own errors, as remote file systems do."""

    protocol = "failing"
    error: Exception = Exception()

    def open(self, *args, **kwargs):
        raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "no"), "permission denied"),
        (OSError("the disk\nis broken."), "cannot be read: OSError: the disk is broken. Check"),
        (type("ClientError", (Exception,), {})("An error\noccurred (403)"), "ClientError: An error occurred (403)"),
        (TimeoutError(), "cannot be read: TimeoutError"),
    ],
)
def test_every_file_system_error_is_one_line(refused, monkeypatch, error, words):
    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    monkeypatch.setattr(FailingFileSystem, "error", error)
    assert words in refused("failing://pool.jsonl")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read every file")
def test_a_file_without_read_permission_is_an_error(refused, write):
    path = write("pool.jsonl", ROW)
    os.chmod(path, 0)
    assert "permission denied" in refused(path)
