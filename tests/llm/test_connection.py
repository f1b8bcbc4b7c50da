"""What the environment says about proxies and certificates: it is kept to, or one line says what to mend."""

import datetime
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from selectllm.errors import SelectorUnavailable
from selectllm.llm import connection
from selectllm.llm.connection import http_options, proxy_note, proxy_of
from selectllm.llm.keys import ApiKeys, ProviderKey
from selectllm.llm.ollama import open_ollama
from selectllm.llm.openai import open_openai
from selectllm.testing.faulty_ollama import FaultyOllama

REMOTE = httpx.URL("http://model.example:11434")
PASSWORD = "secret-password"
REDIRECTED: list[str] = []
OPENERS = {"ollama": open_ollama, "openai": open_openai}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OLLAMA_HOST", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    connection._certificates.cache_clear()
    yield
    connection._certificates.cache_clear()


class Redirecting(BaseHTTPRequestHandler):
    """Sends every request elsewhere, and counts them."""

    def do_GET(self) -> None:
        REDIRECTED.append(self.path)
        self.send_response(301)
        self.send_header("Location", f"https://user:{PASSWORD}@elsewhere.example/?key={PASSWORD}")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def redirecting() -> Iterator[ThreadingHTTPServer]:
    REDIRECTED.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({"ALL_PROXY": "socks5://proxy.example:1"}, r"ALL_PROXY names .*pip install 'httpx\[socks\]'"),
        (
            {"HTTP_PROXY": f"htp://user:{PASSWORD}@proxy.example"},
            "HTTP_PROXY names the proxy htp://proxy.example, which",
        ),
        ({"HTTP_PROXY": "http://proxy.example:port"}, "HTTP_PROXY names the proxy .* cannot be used: Invalid port"),
    ],
)
@pytest.mark.parametrize("provider", OPENERS)
@pytest.mark.asyncio
async def test_a_proxy_that_cannot_be_used_is_one_line(
    provider: str, environment: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "find_spec", lambda _: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SelectorUnavailable, match=fault) as raised:
        await OPENERS[provider]("m", host=str(REMOTE), keys=ApiKeys())
    assert "add model.example to NO_PROXY" in str(raised.value)
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "a.localhost", "0.0.0.0"])
def test_no_proxy_is_asked_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks9://[")
    assert http_options(httpx.URL(f"http://{host}:11434"))["proxy"] is None


@pytest.mark.parametrize("no_proxy", ["model.example", ".example", "*", "other.example, model.example:11434"])
def test_no_proxy_is_asked_for_hosts_that_need_none(no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert proxy_of(REMOTE) == ("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(REMOTE) is None


@pytest.mark.parametrize("no_proxy", ["[::1]", "[fe80::1],::1", "10.0.0.0/8"])
def test_any_list_of_hosts_without_proxy_is_taken(no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(REMOTE) == ("HTTP_PROXY", "http://proxy.example:3128")
    assert proxy_of(httpx.URL("http://[fe80::1]:11434")) == (None if "fe80" in no_proxy else proxy_of(REMOTE))


@pytest.mark.asyncio
async def test_an_error_behind_a_proxy_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{PASSWORD}@127.0.0.1:9")
    for opener in OPENERS.values():
        with pytest.raises(
            SelectorUnavailable, match=r"through the proxy http://127\.0\.0\.1:9, .* NO_PROXY"
        ) as raised:
            await opener("m", host=str(REMOTE), keys=ApiKeys())
        assert PASSWORD not in str(raised.value)
    assert proxy_note(httpx.URL("http://127.0.0.1")) == ""


@pytest.mark.parametrize("provider", OPENERS)
@pytest.mark.asyncio
async def test_a_redirect_is_not_followed(provider: str, redirecting: ThreadingHTTPServer) -> None:
    where = f"http://127.0.0.1:{redirecting.server_port}"
    fault = f"the server at {where} redirects to https://elsewhere.example/: name that server with --host"
    with pytest.raises(SelectorUnavailable, match=fault) as raised:
        await OPENERS[provider]("m", host=where, keys=ApiKeys())
    assert PASSWORD not in str(raised.value)
    assert len(REDIRECTED) == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
@pytest.mark.parametrize("provider", OPENERS)
@pytest.mark.asyncio
async def test_certificates_that_cannot_be_read_are_one_line(
    provider: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "certificates.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(SelectorUnavailable, match=r"^SSL_CERT_FILE names .*certificates\.pem, which cannot be read"):
        await OPENERS[provider]("m", host="https://model.example", keys=ApiKeys())
    with FaultyOllama() as server:  # without TLS nobody needs them
        await (await open_ollama("m", host=server.host, keys=ApiKeys())).close()


@pytest.fixture
def self_signed(tmp_path: Path, redirecting: ThreadingHTTPServer) -> tuple[str, Path]:
    """The port of a server whose certificate nobody but itself has signed, for `localhost`, and the certificate."""
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    certificate, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, form, none))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    redirecting.socket = context.wrap_socket(redirecting.socket, server_side=True)
    return str(redirecting.server_port), certificate


@pytest.mark.parametrize("provider", OPENERS)
@pytest.mark.asyncio
async def test_a_certificate_that_is_not_trusted_is_named(
    provider: str, self_signed: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, certificate = self_signed
    opener = OPENERS[provider]
    with pytest.raises(
        SelectorUnavailable, match=r"certificate of https://localhost.* is not trusted: .*SSL_CERT_FILE"
    ):
        await opener("m", host=f"https://localhost:{port}", keys=ApiKeys())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connection._certificates.cache_clear()
    with pytest.raises(SelectorUnavailable, match="is for another name"):
        await opener("m", host=f"https://127.0.0.1:{port}", keys=ApiKeys())
    with pytest.raises(SelectorUnavailable, match="redirects"):
        await opener("m", host=f"https://localhost:{port}", keys=ApiKeys())


@pytest.mark.parametrize("host", ["::1", " http://[::1]:11434\n"])
@pytest.mark.asyncio
async def test_hosts_are_taken_as_people_write_them(host: str) -> None:
    keys = ApiKeys.from_environment({"OLLAMA_HOST": host})
    with pytest.raises(SelectorUnavailable, match=r"no Ollama server answers at http://\[::1\]:11434\."):
        await open_ollama("m", keys=keys)


@pytest.mark.parametrize("host", ["a b", "ftp://model.example", "http://[::1", "http://h\nh"])
@pytest.mark.asyncio
async def test_a_host_that_is_no_url_is_one_line_that_names_its_source(host: str) -> None:
    with pytest.raises(SelectorUnavailable, match=r"^OLLAMA_HOST .* is no URL of a server: "):
        await open_ollama("m", keys=ApiKeys.from_environment({"OLLAMA_HOST": host}))
    with pytest.raises(SelectorUnavailable, match=r"^--host .* is no URL of a server: "):
        await open_ollama("m", host=host, keys=ApiKeys())


@pytest.mark.asyncio
async def test_a_host_can_hold_a_user_and_a_password() -> None:
    with FaultyOllama() as server:
        named = server.host.replace("://", "://user:p%40ss@")
        model = await open_ollama("m", host=named, keys=ApiKeys(ollama=ProviderKey("a-key", server.host)))
        await model.close()
        assert set(server.keys) == {"Basic dXNlcjpwQHNz"}


def test_the_client_is_imported_whatever_the_environment_holds() -> None:
    environment = {"ALL_PROXY": "socks5://p:1", "HTTP_PROXY": "htp://[", "NO_PROXY": "[::1]", "OLLAMA_HOST": "::1"}
    environment |= {"OLLAMA_API_KEY": "schlüssel\n", "SSL_CERT_FILE": "/no/such", "PYTHONPATH": ":".join(sys.path)}
    program = "from selectllm.llm.ollama_client import connect; from selectllm.llm.keys import ApiKeys;"
    program += "connect('http://127.0.0.1:9', ApiKeys(), 1.0)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
