"""Says what to do where Prefect's server does not let itself be asked."""

from typing import Final

import httpx

from selectllm.paths import redact_url

URL_RULE: Final = "the URL begins with http:// or https:// and ends with /api, such as http://127.0.0.1:4200/api"


def server_problem(error: Exception, url: str) -> str | None:
    """What is wrong with the password or the URL that a client has for Prefect's server, and what to do.

    `url` is PREFECT_API_URL. None where the error does not come from either.
    """
    shown = redact_url(url)
    for cause in (error, error.__cause__):
        if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code in (401, 403):
            password = "export PREFECT_API_AUTH_STRING with the value of the server's PREFECT_SERVER_API_AUTH_STRING"
            return f"the Prefect server at {shown} wants a password, and was given none or another: {password}"
    if url and is_unreachable(error) and not _is_well_formed(url):
        return f"no Prefect server can be asked at PREFECT_API_URL={shown}: {URL_RULE}"
    return None


def is_unreachable(error: Exception) -> bool:
    """Whether Prefect's client says that no server, or something else than its server, answers."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (404, 405)
    return isinstance(error, httpx.TransportError) or "Failed to reach API" in str(error)


def _is_well_formed(url: str) -> bool:
    """Whether a URL can be that of a server. In Prefect Cloud the account and the workspace follow `/api`."""
    return url.startswith(("http://", "https://")) and "/api/" in f"{url}/"
