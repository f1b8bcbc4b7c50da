"""Examples as tokens: the question in the model's own chat template, and the answer, of which alone the loss is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from selectllm.errors import UsageError
from selectllm.tuning.base import Loaded
from selectllm.tuning.examples import Example

IGNORED: Final = -100
"""The label of a token that has no part in the loss. Source: torch's cross_entropy."""


@dataclass(frozen=True)
class Encoded:
    """An example as tokens: `prompt`, and `answer` with the token that ends it. `characters` are the whole answer's."""

    id: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    characters: int
    is_cut: bool

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class EncodedRows:
    """The examples that fit, in their order, and the ids of those whose questions alone are too long."""

    rows: tuple[Encoded, ...]
    too_long: tuple[str, ...]

    def counts(self) -> Mapping[str, int]:
        """What is said of the rows: how many, how many were cut or left out, and tokens of answers and in all."""
        return {
            "rows": len(self.rows),
            "cut": sum(row.is_cut for row in self.rows),
            "too_long": len(self.too_long),
            "tokens": sum(map(len, self.rows)),
            "answer_tokens": sum(len(row.answer) for row in self.rows),
        }


def encode(loaded: Loaded, examples: Sequence[Example], max_tokens: int) -> EncodedRows:
    """Examples as tokens, at most `max_tokens` each and no more than the model reads.

    Raises UsageError where the chat template changes the question once it is answered, and where no example fits.
    """
    most = min(max_tokens, loaded.context)
    rows, too_long = list[Encoded](), list[str]()
    for example in examples:
        prompt, answer = _texts(loaded.tokenizer, example)
        before = tuple(loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        tokens = _ended(loaded.tokenizer(answer, add_special_tokens=False)["input_ids"], loaded.tokenizer.eos_token_id)
        room = most - len(before)
        if room < 1:
            too_long.append(example.id)
        else:
            cut = len(tokens) > room
            rows.append(Encoded(example.id, before, tokens[:room], len(example.answer), cut))
    if not rows:
        raise UsageError(f"no question fits into {most:,} tokens: raise --max-tokens, or take a base with more context")
    return EncodedRows(tuple(rows), tuple(too_long))


def _texts(tokenizer: Any, example: Example) -> tuple[str, str]:
    """The text up to the answer, and the answer with what ends it."""
    messages = list(example.messages)
    prompt: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answered = [*messages, {"role": "assistant", "content": example.answer}]
    whole: str = tokenizer.apply_chat_template(answered, tokenize=False)
    if not whole.startswith(prompt):
        raise UsageError(
            f"the model's chat template writes the question of row {example.id} otherwise once it is answered. "
            "Name another model with --base"
        )
    return prompt, whole[len(prompt) :]


def _ended(tokens: Sequence[int], end: int | None) -> tuple[int, ...]:
    """Tokens up to the last one that ends a turn: a line break of the template behind it is never generated."""
    places = [place for place, token in enumerate(tokens) if token == end]
    return tuple(tokens[: places[-1] + 1] if places else tokens)


def collate(rows: Sequence[Encoded]) -> dict[str, Any]:
    """Rows as tensors (rows, longest): input_ids, attention_mask, and labels of answers alone."""
    import torch

    width = max(map(len, rows))
    ids, mask = torch.zeros((len(rows), width), dtype=torch.long), torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row.prompt + row.answer)
        mask[number, : len(row)] = 1
        labels[number, len(row.prompt) : len(row)] = torch.tensor(row.answer)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
