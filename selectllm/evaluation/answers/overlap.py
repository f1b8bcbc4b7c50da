"""The step that compares answers with references: Rouge-L, and the cosine of their vectors.

Both say how like an answer is to one reference. Neither says how good it is: a good answer in other words, or of
another length, scores low. Source of both as scores of tuned models: "SelectLLM" (arXiv 2401.16553).
"""

from typing import Any, Final

import pyarrow as pa

from selectllm.embedding import models
from selectllm.errors import UsageError
from selectllm.evaluation.answers.questions import Questions
from selectllm.evaluation.measured import DIGITS
from selectllm.pool import row_id
from selectllm.ranking.rouge import numbered_words, rouge_l_pairs
from selectllm.schemas import OVERLAPS, POOL
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.embed import vectors_of
from selectllm.text import words

CODE_VERSION: Final = 1
"""Raise it when the same answers are to have other scores."""

WORDS: Final = 1024
"""Words of a text that Rouge-L compares, its first: the time grows with their square."""


def score_overlap(context: Context, answers: StepResult, questions: Questions) -> StepResult:
    """Compare each answer with its question's reference; OVERLAPS, with null where one of the two is missing.

    Raises UsageError where no question has a reference, MissingDependency without sentence-transformers.
    """
    references = {row.id: row.reference for row in questions.rows if row.reference is not None}
    if not references:
        raise UsageError(
            f"no question of {questions.location} has a reference to compare with: name its column with --output-column"
        )
    embedder = models.open_embedder(context.settings.embedding.model)
    decisive = {"embedder": embedder.digest, "embedding": models.CODE_VERSION}
    inputs: dict[str, StepResult | str] = {"answers": answers, "references": questions.digest}
    entry = CacheEntry(context.store, "overlaps", CODE_VERSION, inputs, decisive)
    if result := entry.load():
        return result
    rows = answers.table(context.store).select(["id", "seed", "answer"]).to_pylist()
    pairs = {
        place: (row["answer"], references[row["id"]])
        for place, row in enumerate(rows)
        if row["answer"] is not None and row["id"] in references
    }
    rouge, cosine = rouge_l(list(pairs.values())), _cosines(context, list(pairs.values()))
    scores: dict[int, Any] = dict(zip(pairs, zip(rouge, cosine, strict=True), strict=True))
    scored = [
        {"id": row["id"], "seed": row["seed"], "rouge_l": values[0], "cosine": values[1]}
        for place, row in enumerate(rows)
        for values in [scores.get(place, (None, None))]
    ]
    facts = {"compared": len(pairs), "without_reference": len(questions.rows) - len(references)}
    facts |= {"longer": sum(max(len(words(text)) for text in pair) > WORDS for pair in pairs.values())}
    return entry.save(pa.Table.from_pylist(scored, schema=OVERLAPS), facts)


def rouge_l(pairs: list[tuple[str, str]]) -> list[float]:
    """Rouge-L (F-measure, 0 to 1) of each text with its reference, by the first words of each, in any script."""
    if not pairs:
        return []
    numbered = [found[:WORDS] for found in numbered_words([text for pair in pairs for text in pair])]
    scores: list[float] = rouge_l_pairs(numbered[0::2], numbered[1::2]).tolist()
    return scores


def _cosines(context: Context, pairs: list[tuple[str, str]]) -> list[float]:
    """The cosine of each text's vector with its reference's; vectors are kept, by text."""
    if not pairs:
        return []
    ids = {text: row_id(text, None) for pair in pairs for text in pair}
    distinct = {id: text for text, id in ids.items()}
    places = {id: place for place, id in enumerate(distinct)}
    rows = [
        {"id": id, "row": place, "instruction": text, "input": None, "output": None}
        for place, (id, text) in enumerate(distinct.items())
    ]
    vectors = vectors_of(context, pa.Table.from_pylist(rows, schema=POOL))
    found = (vectors[places[ids[text]]] @ vectors[places[ids[reference]]] for text, reference in pairs)
    return [round(min(max(float(cosine), -1.0), 1.0), DIGITS) for cosine in found]
