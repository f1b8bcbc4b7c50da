"""How probable a text is to a causal model: the weights of a GGUF file, read by transformers.

llama.cpp's server gives log-probabilities of the tokens that it writes, and of none that it reads. So the file is made
float32 tensors again, which take about eight times its size in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.errors import MissingDependency, UsageError
from selectllm.llm.causal import load_causal
from selectllm.llm.weights import demo_weights, file_sha256, read_gguf
from selectllm.text import short_error

CODE_VERSION: Final = 1
"""Raise it when the same text is to get another log-probability."""

PACKAGES: Final = ("gguf", "accelerate", "transformers", "torch")

BATCH_TOKENS: Final = 512
"""Tokens of a batch, blanks that fill its rows up among them: logits of a whole vocabulary take memory for each."""

DIGITS: Final = 4
"""Digits of a log-probability that count: what the last bits say depends on the texts beside it."""

Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LikelihoodModel:
    """The weights of a GGUF file; `digest` stands for them, and `name` is the file's."""

    path: Path
    name: str
    digest: str

    def load(self) -> None:
        """Load the weights now; raises UsageError where they cannot be loaded."""
        _load(self.path, self.digest)

    def measure(self, texts: Sequence[str]) -> Numbers:
        """Of each text (M, 3): the mean log-probability of the tokens read, how many tokens it has, how many were read.

        A text that is longer than the model's context is read up to there.
        """
        loaded = _load(self.path, self.digest)
        tokens = [loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        read = [of_text[: loaded.context - 1] for of_text in tokens]
        found = np.zeros((len(texts), 3), dtype=np.float32)
        found[:, 1], found[:, 2] = list(map(len, tokens)), list(map(len, read))
        order = sorted(range(len(texts)), key=lambda row: -len(read[row]))
        start = 0
        while start < len(order):
            size = max(1, BATCH_TOKENS // (len(read[order[start]]) + 1))
            rows = order[start : start + size]
            found[rows, 0] = loaded.means([read[row] for row in rows])
            start += size
        return found


@dataclass(frozen=True)
class _Loaded:
    model: Any
    tokenizer: Any
    start: int  # the token that comes before a text, so that its first one has a probability, too
    context: int

    def means(self, batch: Sequence[Sequence[int]]) -> list[float]:
        """The mean log-probability of the tokens of each row of a batch."""
        import torch

        width = max(map(len, batch)) + 1
        ids = torch.full((len(batch), width), self.start)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, 1 : len(tokens) + 1] = torch.tensor(tokens, dtype=ids.dtype)
            mask[row, : len(tokens) + 1] = 1
        with torch.inference_mode():
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            chosen = logits.gather(2, ids[:, 1:, None])[:, :, 0] - logits.logsumexp(2)
        return [round(float(chosen[row, : len(tokens)].mean()), DIGITS) for row, tokens in enumerate(batch)]


def open_likelihood(selector: str) -> LikelihoodModel:
    """The weights that a selector names: `embedded` or `embedded:PATH`.

    Raises UsageError for any other selector and for a file that is no model, MissingDependency without the packages.
    """
    check_selector(selector)
    for package in PACKAGES:
        if find_spec(package) is None:
            raise MissingDependency(package, extra="perplexity", purpose="reading log-probabilities of a pool")
    named = selector.partition(":")[2]
    path = Path(named).expanduser() if named else demo_weights()
    read_gguf(path)
    return LikelihoodModel(path, path.stem, file_sha256(path))


def check_selector(selector: str) -> None:
    """Raise UsageError where a selector names no file of weights."""
    if selector.partition(":")[0] != "embedded":
        raise UsageError(
            f"perplexity needs the weights of a model, and {selector} is not a file of them: name one with --selector "
            "embedded:/path/model.gguf, or use --selector embedded for the demo model"
        )


@cache
def _load(path: Path, digest: str) -> _Loaded:
    """The weights with a digest: once in a process, however many texts are read with them."""
    try:
        model, tokenizer = load_causal(path)
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        start = next(token for token in starts if token is not None)
    except Exception as error:  # of a dozen kinds, from several libraries
        raise UsageError(
            f"the model file {path} cannot be read for log-probabilities: {short_error(error)}. Name another one with "
            "--selector embedded:/path/model.gguf"
        ) from error
    return _Loaded(model, tokenizer, start, int(model.config.max_position_embeddings))
