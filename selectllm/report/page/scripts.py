"""The page's scripts and styles, and the policy that lets a browser run these very scripts and load nothing."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from selectllm.errors import MissingDependency

_BUNDLE: Final = "window.vegaEmbed = vegaEmbed;"
"""What the bundle leaves behind: Vega-Embed, with Vega and Vega-Lite inside."""


@cache
def vega() -> str:
    """Vega's scripts as one, of the Vega-Lite of altair; made once in a process, which takes some seconds.

    Raises MissingDependency without vl-convert, and ValueError where the script could end its own element.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise MissingDependency("vl-convert-python", extra="report", purpose="the report of a run") from error
    script: str = vl_convert.javascript_bundle(_BUNDLE)
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("Vega's bundle holds markup that would end its script")
    return script


def template(name: str) -> str:
    """One of the page's own files."""
    return files("selectllm.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def policy(*scripts: str) -> str:
    """A Content-Security-Policy: these scripts run and no others, and nothing is loaded from anywhere.

    Styles may stand anywhere, since charts set them; they can load nothing either.
    """
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
