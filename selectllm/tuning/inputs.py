"""All that a fine-tuning reads: its base, its rows, and the digests by which the same training is known again."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from selectllm.errors import UsageError
from selectllm.pool import Columns
from selectllm.text import join_names, json_text
from selectllm.tuning.base import Base, Loaded, load, open_base
from selectllm.tuning.encode import EncodedRows, encode
from selectllm.tuning.examples import Examples, read_examples
from selectllm.tuning.settings import TuningSettings

CODE_VERSION: Final = 1
"""Raise it when the same inputs are to give other weights."""

_DECIDES: Final = {"epochs", "batch", "learning_rate", "max_tokens", "precision", "seed", "columns"}
"""The settings that decide the weights."""


@dataclass(frozen=True)
class Inputs:
    """A base model and rows, read and checked; `test` is None where nothing is held out."""

    base: Base
    train: Examples
    test: Examples | None
    settings: TuningSettings

    @property
    def fingerprint(self) -> str:
        """A digest of all that decides the tuned weights."""
        settings = self.settings.model_dump(mode="json", include=_DECIDES)
        versions = {name: version(name) for name in ("torch", "transformers", "peft")}
        return _digest([CODE_VERSION, self.base.digest, self.train.digest, settings, versions])

    @property
    def result_key(self) -> str:
        """A digest of all that decides the result."""
        return _digest([self.fingerprint, self.test.digest if self.test else None, self.settings.no_export])


def read_inputs(settings: TuningSettings) -> Inputs:
    """Read and check everything before anything is trained.

    Raises UsageError where a row is both trained on and held out: its loss would say nothing.
    """
    base = open_base(settings.base)
    columns = Columns(**settings.columns.model_dump())
    train = read_examples(settings.train, columns)
    test = read_examples(settings.test, columns) if settings.test else None
    if test and (both := sorted({row.id for row in train.rows} & {row.id for row in test.rows})):
        raise UsageError(
            f"{len(both):,} rows of {settings.test} are trained on, too: {join_names(both, 3)}. Take them out of the "
            f"training file, or choose rows by `selectllm select --away-from {settings.test}`"
        )
    return Inputs(base, train, test, settings)


@dataclass(frozen=True)
class Encodings:
    """The rows as tokens of one model."""

    train: EncodedRows
    test: EncodedRows | None

    def counts(self) -> Mapping[str, Any]:
        """What is said of both."""
        return {"train": self.train.counts(), "test": self.test.counts() if self.test else None}


def load_and_encode(inputs: Inputs) -> tuple[Loaded, Encodings]:
    """Load the base model, and read all rows with its tokenizer; raises UsageError where they do not fit it."""
    loaded = load(inputs.base)
    return loaded, encode_rows(inputs, loaded)


def encode_rows(inputs: Inputs, loaded: Loaded) -> Encodings:
    """Read all rows with the tokenizer of a model that is in memory; raises UsageError where they do not fit it."""
    most = inputs.settings.max_tokens
    train = encode(loaded, inputs.train.rows, most)
    return Encodings(train, encode(loaded, inputs.test.rows, most) if inputs.test else None)


def _digest(parts: Any) -> str:
    return hashlib.sha256(json_text(parts).encode()).hexdigest()[:32]
