"""Several models' answers beside references and beside each other, from the settings to the record."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from selectllm import cancellation
from selectllm.evaluation.answers.collect import answers_of, as_record
from selectllm.evaluation.answers.estimates import Scores, as_values, differences, estimate
from selectllm.evaluation.answers.overlap import score_overlap
from selectllm.evaluation.answers.predictions import check_files
from selectllm.evaluation.answers.questions import Questions, read_questions
from selectllm.evaluation.answers.settings import OverlapSettings
from selectllm.evaluation.answers.sources import Source
from selectllm.evaluation.page.build import check_page, write_page
from selectllm.evaluation.page.overlap import overlap_sheet
from selectllm.execution import Progress, no_progress
from selectllm.steps.context import Context, Tokens
from selectllm.store import Store
from selectllm.store.new_files import write_new

MEASURES: Final = ("rouge_l", "cosine")


@dataclass(frozen=True)
class Scored:
    """One source's scores, as OVERLAPS, what was counted and paid, and whether the store had all of it."""

    source: Source
    overlaps: pa.Table
    record: Mapping[str, Any]
    is_cached: bool = False


def compare_overlap(settings: OverlapSettings, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Have all models answer, or read their answers, and compare them with the references and with each other.

    Raises UsageError before anything is asked, RunError when it cannot be finished. What was kept is not made again.
    """
    with cancellation.propagate_interrupt():
        questions, scored = questions_of(settings), list[Scored]()
        for source in settings.sources:
            run = settings.run(source.selector)
            context = Context(run, Store(run.store), on_progress, paid_elsewhere=paid_tokens(scored))
            scored.append(score_source(context, source, questions, settings))
        return publish_overlap(settings, questions, scored)


def questions_of(settings: OverlapSettings) -> Questions:
    """Read the questions, and see that all files of answers can be read, and a page be drawn if one is named.

    Raises UsageError, PoolError, MissingDependency.
    """
    check_page(settings.page)
    questions = read_questions(settings.run())
    check_files(settings.sources, questions)
    return questions


def paid_tokens(scored: Sequence[Scored]) -> Tokens:
    """The tokens that sources were paid for: all share one limit of cost, beyond which kept answers are still read."""
    names = ("paid_prompt_tokens", "paid_output_tokens")
    read, written = (sum(int(one.record[name]) for one in scored) for name in names)
    return read, written


def score_source(context: Context, source: Source, questions: Questions, settings: OverlapSettings) -> Scored:
    """The answers of a source, compared with the references, by whichever context."""
    answers = answers_of(context, source, questions, settings)
    overlaps = context.run(score_overlap, answers, questions)
    record = as_record(context, source, answers) | {
        "selector": source.selector,
        "files": [Path(file).name for file in source.files],
        "without_reference": overlaps.facts["without_reference"],
        "longer": overlaps.facts["longer"],
    }
    return Scored(source, overlaps.table(context.store), record, answers.cached and overlaps.cached)


def publish_overlap(settings: OverlapSettings, questions: Questions, scored: Sequence[Scored]) -> dict[str, Any]:
    """Sum the scores up, and write the output file and the page, where they are named."""
    estimates, pairs = [], []
    referenced = {row.id for row in questions.rows if row.reference is not None}
    for measure in MEASURES:
        by_model, asked = _by_model(scored, measure, referenced)
        estimates += [estimate(name, measure, scores, asked[name]) for name, scores in by_model.items()]
        pairs += differences(measure, by_model)
    record: dict[str, Any] = {
        "questions": len(questions.rows),
        "left_out": questions.left_out,
        "repeats": questions.repeats,
        "embedding_model": settings.embedding.model,
        "estimates": [as_values(one) for one in estimates],
        "differences": [as_values(one) for one in pairs],
        "sources": [dict(one.record) for one in scored],
    }
    if settings.out is not None:
        # What a run paid, what failed in it, and its store are no part of the result: equal answers give one file.
        paid = ("asked", "paid_prompt_tokens", "paid_output_tokens", "cost")
        passing = ("cached", *paid, "errors_by_kind", "artifact")
        lasting = [{key: value for key, value in one.items() if key not in passing} for one in record["sources"]]
        content = json.dumps(record | {"sources": lasting}, indent=1, ensure_ascii=False) + "\n"
        write_new(Path(settings.out).expanduser(), {"": content.encode()}, settings.store)
    write_page(settings.page, overlap_sheet(record), settings.store)
    return record | {"out": settings.out, "page": settings.page}


def _by_model(
    scored: Sequence[Scored], measure: str, referenced: Collection[str]
) -> tuple[dict[str, Scores], dict[str, int]]:
    """Each model's scores by question and seed, and how many it could have: one for each question with a reference.

    A source's seeds are counted on from those of the model's source before.
    """
    scores: dict[str, dict[tuple[str, int], float]] = {}
    asked: dict[str, int] = {}
    seeds: dict[str, int] = {}
    for one in scored:
        name, rows = one.source.name, one.overlaps.to_pylist()
        places = {seed: place for place, seed in enumerate(sorted({row["seed"] for row in rows}), seeds.get(name, 0))}
        seeds[name] = seeds.get(name, 0) + len(places)
        asked[name] = asked.get(name, 0) + sum(row["id"] in referenced for row in rows)
        own = scores.setdefault(name, {})
        own |= {(row["id"], places[row["seed"]]): row[measure] for row in rows if row[measure] is not None}
    return dict(scores), asked
