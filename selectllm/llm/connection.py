"""How a client reaches a server: through which proxy, by which certificates, and what it means when it does not."""

import ipaddress
import os
import ssl
import urllib.request
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import httpx

from selectllm.errors import SelectorUnavailable
from selectllm.paths import redact_users
from selectllm.text import short_error

# Signs of what is wrong with TLS, in the words of OpenSSL, and what to do; {} is the server's URL.
TLS_ERRORS: Final = {
    "Hostname mismatch": "the certificate of {} is for another name: write the name that stands in it",
    "IP address mismatch": "the certificate of {} is for another name: write the name that stands in it",
    "CERTIFICATE_VERIFY_FAILED": "the certificate of {} is not trusted: name the file of the authority that has signed "
    "it in the variable SSL_CERT_FILE",
    "WRONG_VERSION_NUMBER": "{} does not speak TLS: write http:// in place of https://",
    "RECORD_LAYER_FAILURE": "{} does not speak TLS: write http:// in place of https://",
}


def http_options(url: httpx.URL) -> dict[str, Any]:
    """The options of an HTTP client for one server, by the environment's proxies and certificates.

    No proxy is used for this machine. Redirects are not followed: they would turn questions into requests for pages.
    Raises SelectorUnavailable when the environment names a proxy or certificates that cannot be used.
    """
    proxy = proxy_of(url)
    # Without TLS no certificates are read, which takes long, and a file that is missing does no harm.
    context = _certificates() if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return {"trust_env": False, "proxy": proxy and proxy[1], "verify": context, "follow_redirects": False}


def proxy_of(url: httpx.URL) -> tuple[str, str] | None:
    """The variable that names the proxy to a server, and the proxy's URL; None where there is none to be used.

    Raises SelectorUnavailable when it cannot be used.
    """
    if _is_this_machine(url.host) or any(
        map(urllib.request.proxy_bypass, {url.host, url.netloc.decode(), f"[{url.host}]"})
    ):
        return None
    proxies = urllib.request.getproxies()
    scheme = url.scheme if proxies.get(url.scheme) else "all"
    if not (proxy := proxies.get(scheme, "").strip()):
        return None
    variable, proxy = f"{scheme.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}"
    fault = ""
    if proxy.startswith("socks") and find_spec("socksio") is None:
        fault = "SOCKS needs a package: pip install 'httpx[socks]'"
    try:
        httpx.Proxy(proxy)
    except (ValueError, httpx.InvalidURL) as error:
        fault = redact_users(short_error(error))
    if fault:
        raise SelectorUnavailable(
            f"{variable} names the proxy {redact_users(proxy)}, which cannot be used: {fault}. "
            f"Mend the variable, unset it, or add {url.host} to NO_PROXY"
        )
    return variable, proxy


def proxy_note(url: httpx.URL) -> str:
    """A sentence for an error of a server that was asked through a proxy; empty for any other."""
    proxy = proxy_of(url)
    if proxy is None:
        return ""
    variable, address = proxy
    through = f"It was asked through the proxy {redact_users(address)}, which {variable} names"
    return f". {through}: add {url.host} to NO_PROXY if it needs none"


def tls_problem(error: BaseException, where: str) -> str | None:
    """What is wrong where an error is one of TLS, with what to do; else None."""
    said = " ".join(map(str, _causes(error)))
    return next((advice.format(where) for sign, advice in TLS_ERRORS.items() if sign in said), None)


def redirect_problem(status: int, headers: Any, where: str) -> str | None:
    """What to say of a redirect; None for any other status."""
    if not 300 <= status < 400:
        return None
    target = redact_users(str(headers.get("location", "")).partition("?")[0])
    to = f" to {target}" if target else ""
    return f"the server at {where} redirects{to}: name that server with --host"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@cache  # read once a process: that takes longer than all else about a client
def _certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        variable = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
        source = f"{variable} names {os.environ[variable]}, which" if variable else "the certificates of this machine"
        raise SelectorUnavailable(
            f"{source} cannot be read as certificates: {error.strerror or short_error(error)}. "
            f"Mend or unset {variable or 'them'}"
        ) from error
