"""Files that are compressed as a whole, unpacked by the end of their names."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from selectllm.errors import PoolError
from selectllm.text import join_names, short_error

_FAULTS: Final = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException),
)


def unpack(data: bytes, end: str, name: str) -> bytes:
    """The content of a compressed file; raises PoolError where it is damaged, or holds several files."""
    kind, decompress = UNPACKERS[end]
    try:
        return decompress(data)
    except PoolError as error:
        raise PoolError(f"{name} {error}") from None
    except _FAULTS as error:
        raise PoolError(
            f"{name} is not {kind} that can be unpacked: {short_error(error)}. Fetch or write it again."
        ) from error


def _unpack_zstd(data: bytes) -> bytes:
    with pa.input_stream(pa.BufferReader(data), compression="zstd") as stream:
        return bytes(stream.read())


def _unpack_zip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = [file for file in archive.namelist() if not file.endswith("/") and not file.startswith("__MACOSX/")]
        if len(files) != 1:
            raise PoolError(f"holds {len(files)} files where one is needed: {join_names(files, 5)}. Unpack it.")
        return archive.read(files[0])


UNPACKERS: Final[dict[str, tuple[str, Callable[[bytes], bytes]]]] = {
    ".gz": ("gzip", gzip.decompress),
    ".bz2": ("bzip2", bz2.decompress),
    ".xz": ("xz", lzma.decompress),
    ".zst": ("zstd", _unpack_zstd),
    ".zip": ("zip", _unpack_zip),
}
"""By the end of a name: what the compression is called, and what undoes it."""
