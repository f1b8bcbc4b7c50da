"""What makes a page: this room's own files, and the packages that draw its charts."""

import hashlib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

ROOM: Final = Path(__file__).parents[1]
"""The folder of `selectllm.report`."""

PACKAGES: Final = ("jinja2", "altair", "vl-convert-python", "umap-learn")


@cache
def made_by() -> dict[str, str]:
    """What a page of the same run depends on besides the run: the digest of all files here, and packages' versions."""
    files = sorted(path for path in ROOM.rglob("*") if path.suffix in {".py", ".jinja", ".js", ".css"})
    code = hashlib.sha256()
    for path in files:
        code.update(f"{path.relative_to(ROOM).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    found = {"code": code.hexdigest()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
