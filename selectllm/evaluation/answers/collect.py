"""One model's answers, from the settings to the artifact and the file."""

from pathlib import Path
from typing import Any

from selectllm import cancellation
from selectllm.evaluation.answers.answer import ask_answers, take_answers
from selectllm.evaluation.answers.questions import Questions, read_questions
from selectllm.evaluation.answers.settings import AnswerSettings, AskingSettings
from selectllm.evaluation.answers.sources import Source
from selectllm.evaluation.answers.written import as_file
from selectllm.execution import Progress, no_progress
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context
from selectllm.steps.model import check_model
from selectllm.store import Store
from selectllm.store.new_files import write_new


def collect_answers(settings: AnswerSettings, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Have a model answer, or take its answers from files, and write the output file; what was kept is not made again.

    Returns what was counted. Raises UsageError before anything is asked, RunError when it cannot be finished.
    """
    with cancellation.propagate_interrupt():
        run = settings.run(settings.selector)
        context = Context(run, Store(run.store), on_progress)
        questions = read_questions(run)
        result = answers_of(context, settings.source, questions, settings)
        written = None
        if settings.out is not None:
            content = as_file(result.table(context.store), questions, settings.source.name, settings.form)
            (place,) = write_new(Path(settings.out).expanduser(), {"": content}, settings.store)
            written = str(place)
        return as_record(context, settings.source, result) | {"out": written}


def answers_of(context: Context, source: Source, questions: Questions, settings: AskingSettings) -> StepResult:
    """The answers of a source; the context's selector is the source's."""
    if source.selector is None:
        return context.run(take_answers, source.files, questions)
    model = context.run(check_model)
    return context.run(ask_answers, model, questions, settings.all_seeds, settings.max_tokens)


def as_record(context: Context, source: Source, result: StepResult) -> dict[str, Any]:
    """What was counted, as values that JSON has words for."""
    facts, paid = result.facts, (result.paid_prompt_tokens, result.paid_output_tokens)
    counts = ("questions", "seeds", "answered", "missing", "cut", "left_out", "repeats", "foreign", "unusable")
    return {
        "name": source.name,
        **{name: facts[name] for name in counts if name in facts},
        "errors_by_kind": facts.get("errors_by_kind", {}),
        "cached": result.cached,
        "asked": result.asked,
        "paid_prompt_tokens": paid[0],
        "paid_output_tokens": paid[1],
        "cost": context.settings.ranking.cost(*paid),
        "artifact": context.store.path(result.artifact),
    }
