"""The model that is tuned: a GGUF file or a folder of transformers, named, checked and loaded."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from selectllm.errors import MissingDependency, UsageError
from selectllm.llm.causal import load_causal
from selectllm.llm.weights import demo_weights, file_sha256, read_gguf
from selectllm.text import short_error

PACKAGES: Final = ("peft", "gguf", "accelerate", "transformers", "torch")

ARCHITECTURES: Final = ("llama",)
"""Of GGUF files: what the export knows how to write again. Others reorder or shift their tensors in other ways."""


@dataclass(frozen=True)
class Base:
    """Where a base model is; `digest` stands for its weights. `is_gguf` tells a file from a folder."""

    path: Path
    name: str
    digest: str
    is_gguf: bool


@dataclass(frozen=True)
class Loaded:
    """A model in memory, in float32, with its tokenizer, and the most tokens that it reads at once."""

    model: Any
    tokenizer: Any
    context: int


def open_base(named: str | None) -> Base:
    """Check a base model without loading it; None names the demo weights.

    Raises MissingDependency without the extra `train`, SelectorUnavailable for a file that is no GGUF file,
    UsageError for one of an architecture that the export does not know, and for a folder without a model.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingDependency(package, extra="train", purpose="fine-tuning")
    path = Path(named).expanduser() if named else demo_weights()
    if path.is_dir():
        return _open_folder(path)
    architecture = read_gguf(path)["general.architecture"]
    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"{path} is a model of the architecture {architecture}, and only GGUF files of llama can be written again. "
            "Name the folder of the same model for transformers with --base"
        )
    return Base(path, path.stem, file_sha256(path), is_gguf=True)


def load(base: Base) -> Loaded:
    """Load a base model; raises UsageError where it cannot be loaded, and where it has no chat template."""
    try:
        model, tokenizer = load_causal(base.path)
        context = int(model.config.max_position_embeddings)
    except Exception as error:  # of a dozen kinds, from several libraries
        raise UsageError(
            f"the base model {base.path} cannot be loaded: {short_error(error)}. Name another one with --base"
        ) from error
    if not tokenizer.chat_template:
        raise UsageError(
            f"the base model {base.path} has no chat template, so questions and answers cannot be told apart. "
            "Name a model that was tuned for chats with --base"
        )
    return Loaded(model, tokenizer, context)


def _open_folder(path: Path) -> Base:
    files = sorted(file for file in path.iterdir() if file.suffix in (".json", ".safetensors", ".jinja", ".model"))
    if not (path / "config.json").is_file() or not any(file.suffix == ".safetensors" for file in files):
        raise UsageError(
            f"{path} holds no model: a folder of transformers has config.json and *.safetensors. "
            "Name it, or a GGUF file, with --base"
        )
    digest = hashlib.sha256("".join(f"{file.name} {file_sha256(file)}\n" for file in files).encode()).hexdigest()
    return Base(path, path.resolve().name, digest, is_gguf=False)
