"""The state of a training, written whole or not at all, and read again only by the same training."""

import io
from pathlib import Path
from typing import Any, Final

from selectllm.errors import StoreError, UsageError
from selectllm.store.files import remove_stale_temp_files, temporary_pattern, write_atomically
from selectllm.text import short_error

CHECKPOINT: Final = "checkpoint.pt"


def save_checkpoint(folder: Path, fingerprint: str, state: dict[str, Any]) -> None:
    """Write a state down, in the place of the one before; raises StoreError when it cannot."""
    import torch

    content = io.BytesIO()
    torch.save(state | {"fingerprint": fingerprint}, content)
    try:
        remove_stale_temp_files(folder.glob(temporary_pattern(CHECKPOINT)))
        write_atomically(folder / CHECKPOINT, content.getvalue())
    except OSError as error:
        raise StoreError(f"{folder / CHECKPOINT} cannot be written: {error.strerror}") from error


def load_checkpoint(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state that was written last; None where there is none.

    Raises UsageError where it is of another training, StoreError where it cannot be read.
    """
    import torch

    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        found = state["fingerprint"]
    except Exception as error:  # pickle and zip have a dozen kinds
        raise StoreError(f"{path} cannot be read: {short_error(error)}. Remove it to train from the start") from error
    if found != fingerprint:
        raise UsageError(
            f"{path} belongs to a training with another base, other rows or other options. Name another --out, or "
            "remove it"
        )
    return state
