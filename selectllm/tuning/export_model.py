"""Writes the tuned model, adapters merged in: a GGUF file where the base is one, else a folder of transformers."""

import shutil
from pathlib import Path
from typing import Any, Final

from selectllm.errors import StoreError
from selectllm.store.files import write_atomically
from selectllm.tuning.base import Base, Loaded
from selectllm.tuning.gguf_file import write_gguf
from selectllm.tuning.modelfile import modelfile
from selectllm.tuning.train import Training

GGUF: Final = "model.gguf"
FOLDER: Final = "model"


def export_model(base: Base, loaded: Loaded, training: Training, folder: Path) -> Path:
    """Merge the adapters into the model, write it with its Modelfile, and return where it is.

    The model in memory is changed. Raises RunError where the weights cannot be written, StoreError when writing fails.
    """
    merged = training.model.merge_and_unload()
    path = folder / (GGUF if base.is_gguf else FOLDER)
    if base.is_gguf:
        write_gguf(base.path, merged, path)
    else:
        _write_folder(merged, loaded.tokenizer, path)
    try:
        write_atomically(folder / "Modelfile", modelfile(path.name, loaded.tokenizer).encode())
    except OSError as error:
        raise StoreError(f"{folder / 'Modelfile'} cannot be written: {error.strerror}") from error
    return path


def _write_folder(model: Any, tokenizer: Any, path: Path) -> None:
    """Write a folder of transformers under another name first, so that a part of one is never taken for it."""
    part = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        shutil.rmtree(path, ignore_errors=True)
        part.rename(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
