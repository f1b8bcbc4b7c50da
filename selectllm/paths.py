"""Paths and URLs as they may be written down: URLs can carry users, passwords and signatures."""

import os
import re
from pathlib import Path


def redact_url(location: str) -> str:
    """A path or URL, or a chain of them, without the users, passwords and queries in it."""
    return re.sub(r"[^/@\s]+@|\?\S*", "", location) if re.search(r"://|@", location) else location


def redact_users(text: str) -> str:
    """A text without the users and passwords of the URLs in it."""
    return re.sub(r"://[^/\s]*@", "://", text)


def absolute_path(location: str) -> str:
    """A local path from the root on, so that it means the same in every process; a URL as it is."""
    return location if "://" in location else os.path.abspath(os.path.expanduser(location))


def local_path(location: str) -> Path | None:
    """The path that a path or a `file://` URL names, or the last link of a chain of URLs; None for any other URL."""
    if "://" not in location:
        return Path(location).expanduser()
    protocol, _, path = location.split("::")[-1].rpartition("://")
    return Path(path).expanduser() if protocol in ("", "file", "local") else None
