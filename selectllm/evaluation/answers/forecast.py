"""What `evaluate answers` and `evaluate overlap` have still to ask."""

from typing import Any

from selectllm.evaluation.answers.answer import answers_entry, asked_of
from selectllm.evaluation.answers.predictions import check_files
from selectllm.evaluation.answers.questions import Questions, read_questions
from selectllm.evaluation.answers.settings import AnswerSettings, AskingSettings, OverlapSettings
from selectllm.evaluation.answers.sources import Source
from selectllm.evaluation.forecast import forecast, look_up, together
from selectllm.steps.context import Context
from selectllm.store import Store


def forecast_answers(settings: AnswerSettings | OverlapSettings) -> dict[str, Any]:
    """Count what all models that are asked have not answered yet.

    Files of answers are read as the run will read them: raises UsageError and PoolError, as it does before it asks.
    """
    questions = read_questions(settings.run())
    sources = settings.sources if isinstance(settings, OverlapSettings) else (settings.source,)
    check_files(sources, questions)
    return together([_of(source, questions, settings) for source in sources if source.selector is not None])


def _of(source: Source, questions: Questions, settings: AskingSettings) -> dict[str, Any]:
    run = settings.run(source.selector)
    context = Context(run, Store(run.store))
    known, asking = look_up(context), (questions, settings.all_seeds, settings.max_tokens)
    is_made = known.ledger is not None and answers_entry(context, known.info, *asking).load() is not None
    return forecast(run, source.name, known, asked_of(known.info, *asking), is_made=is_made)
