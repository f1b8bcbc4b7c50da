"""Loads the weights of a causal model into float32 tensors: of a GGUF file, or of a folder of transformers."""

import logging
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any


def load_causal(path: Path) -> tuple[Any, Any]:
    """The model, in evaluation mode, and its tokenizer; raises whatever the libraries raise, of a dozen kinds.

    A GGUF file takes about eight times its size in memory.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    place: dict[str, Any] = {"pretrained_model_name_or_path": str(path), "local_files_only": True}
    if not path.is_dir():
        place |= {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    with redirect_stderr(StringIO()):  # where it draws a bar that no setting turns off
        tokenizer = AutoTokenizer.from_pretrained(**place)
        model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()
    return model, tokenizer
