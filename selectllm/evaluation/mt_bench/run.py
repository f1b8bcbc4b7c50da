"""MT-Bench from the settings to the record: files, each model's answers, their judgments, and what these come to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from selectllm import cancellation
from selectllm.evaluation.answers.sources import Source
from selectllm.evaluation.mt_bench.answer import converse, turns_of
from selectllm.evaluation.mt_bench.files import read_judgments
from selectllm.evaluation.mt_bench.judge import Bench, judge_turns
from selectllm.evaluation.mt_bench.prompts import read_prompts
from selectllm.evaluation.mt_bench.publish import publish_mt_bench
from selectllm.evaluation.mt_bench.questions import Dialogue, Turns, read_answers, read_dialogues
from selectllm.evaluation.mt_bench.settings import MtBenchSettings
from selectllm.evaluation.page.build import check_page
from selectllm.execution import Progress, no_progress
from selectllm.llm.usage import Usage
from selectllm.steps.context import Context, Tokens
from selectllm.steps.model import check_model
from selectllm.store import Store


@dataclass(frozen=True)
class Files:
    """What the settings' files hold: questions, references, judge prompts, and the answers of models by their names."""

    dialogues: Sequence[Dialogue]
    references: Mapping[str, Turns]
    prompts: Mapping[str, Mapping[str, Any]] | None
    answers: Mapping[str, Mapping[str, Turns]]


@dataclass(frozen=True)
class Answered:
    """One model's answers by question, what they took, and whether nothing was asked for them."""

    name: str
    answers: Mapping[str, Turns]
    usage: Usage = field(default_factory=Usage)
    is_cached: bool = True


@dataclass(frozen=True)
class Judged:
    """The judgments as MT_BENCH_JUDGMENTS, None where nobody judges; the rest as of answers."""

    table: pa.Table | None = None
    usage: Usage = field(default_factory=Usage)
    is_cached: bool = True


def run_mt_bench(settings: MtBenchSettings, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Collect all answers, have them judged, and sum the judgments up; what was kept is not made again.

    Raises UsageError before anything is asked, RunError when it cannot be finished.
    """
    with cancellation.propagate_interrupt():
        files, answered = read_files(settings), list[Answered]()
        given = given_judgments(settings, files)
        for source in settings.sources:
            run = settings.run(source.selector)
            context = Context(run, Store(run.store), on_progress, paid_elsewhere=tokens_of(answered))
            answered.append(answer_questions(context, source, files, settings))
        bench, run = bench_of(files, answered), settings.run(settings.judge, judges=True)
        context = Context(run, Store(run.store), on_progress, paid_elsewhere=tokens_of(answered))
        judged = judge_answers(context, bench, settings, given)
        return publish_mt_bench(settings, bench, judged.table) | paid(settings, [*answered, judged])


def read_files(settings: MtBenchSettings) -> Files:
    """Read the files that the settings name, but for judgments.

    Raises UsageError, PoolError, and MissingDependency where a page is named that cannot be drawn.
    """
    check_page(settings.page)
    return Files(
        read_dialogues(settings.questions),
        read_answers(settings.references) if settings.references else {},
        read_prompts(settings.prompts) if settings.prompts else None,
        {source.name: read_answers(source.files[0]) for source in settings.sources if source.files},
    )


def given_judgments(settings: MtBenchSettings, files: Files) -> pa.Table | None:
    """The judgments that a file gives, read before a model is asked; None where none are given.

    Raises UsageError where they are not about these models and questions.
    """
    if settings.judgments is None:
        return None
    models = {source.name for source in settings.sources}
    return read_judgments(settings.judgments, files.dialogues, models, settings.mode)


def tokens_of(parts: Iterable[Answered | Judged]) -> Tokens:
    """The tokens that were paid for: all share one limit of cost, beyond which kept replies are still read."""
    usage = sum((part.usage for part in parts), Usage())
    return usage.paid_prompt_tokens, usage.paid_output_tokens


def answer_questions(context: Context, source: Source, files: Files, settings: MtBenchSettings) -> Answered:
    """The answers of a model, or of a file, by whichever context."""
    if source.selector is None:
        return Answered(source.name, files.answers[source.name])
    result = context.run(converse, context.run(check_model), files.dialogues, settings.max_tokens)
    return Answered(source.name, turns_of(result.table(context.store)), context.log.paid(), result.cached)


def bench_of(files: Files, answered: Sequence[Answered]) -> Bench:
    """All that is judged."""
    return Bench(files.dialogues, {one.name: one.answers for one in answered}, files.references, files.prompts)


def judge_answers(context: Context, bench: Bench, settings: MtBenchSettings, given: pa.Table | None) -> Judged:
    """The judgments of a judge, by whichever context, or those that are given."""
    if given is not None:
        return Judged(given)
    if settings.judge is None:
        return Judged()
    result = context.run(judge_turns, context.run(check_model), bench, settings.mode)
    return Judged(result.table(context.store), context.log.paid(), result.cached)


def paid(settings: MtBenchSettings, parts: Iterable[Answered | Judged]) -> dict[str, Any]:
    """What this run has asked and paid for: no part of the result."""
    parts = list(parts)
    asked, tokens = sum(part.usage.asked for part in parts), tokens_of(parts)
    counts = {"asked": asked, "paid_prompt_tokens": tokens[0], "paid_output_tokens": tokens[1]}
    return counts | {"cost": settings.ranking.cost(*tokens)}
