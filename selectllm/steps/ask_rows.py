"""What steps share that ask one question about each row: the asking itself, again where an answer cannot be used."""

from collections.abc import Sequence
from itertools import count

from selectllm.errors import ContentRefused, ContextLengthExceeded, TransientError
from selectllm.execution import note_spent, run_coroutine
from selectllm.llm.caller import Caller, LongestRequest, open_caller
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import ModelInfo
from selectllm.llm.usage import Usage
from selectllm.ranking.answers import REFUSED
from selectllm.ranking.lists import error_kind, gather_or_raise
from selectllm.ranking.ranker import check_abstained
from selectllm.ranking.row_questions import Asking, RowAnswer, RowQuestion
from selectllm.steps.context import Context
from selectllm.steps.model import Job, allowed, cost_limit, end_noted


def ask_about_rows(
    context: Context,
    model: ModelInfo,
    step: str,
    questions: Sequence[RowQuestion],
    longest: LongestRequest,
    so_far: Usage | None = None,
) -> Asking:
    """Put all questions of a step; a row without a usable answer abstains, and is counted.

    `so_far` is what the same step has paid for already: the run's limit of cost is one for all.
    Raises ModelError, CostExceeded, Stopped, and TooManyAbstained when more questions than `--max-abstained` allows
    have no usable answer, or more rows were refused. All replies are kept.
    """
    settings, asking = context.settings, Asking()
    rows = len({question.id for question in questions})
    limits = allowed(settings, len(questions)), allowed(settings, rows)
    job = Job(step, model, len(questions), longest, *limits, context.paid_before(so_far))
    with end_noted(context.store, model):
        run_coroutine(ask_rows(context, context.load_keys(), job, questions, asking))
    return asking


async def ask_rows(context: Context, keys: ApiKeys, job: Job, questions: Sequence[RowQuestion], asking: Asking) -> None:
    """Put the questions of a job, and note in `asking` what comes, also where an error ends it."""
    limit = cost_limit(context.settings, job.paid_before)
    async with open_caller(context.store, context.settings, job.model, job.longest, limit, keys) as caller:
        asking.stats.usage = caller.usage
        pending, done = iter(questions), 0
        context.progress(job.step, 0, len(questions))

        async def work() -> None:
            nonlocal done
            for question in pending:
                await _ask(caller, question, asking)
                done += 1
                context.progress(job.step, done, len(questions))
                usage = caller.usage
                note_spent(context.progress, job.paid_before, usage.paid_prompt_tokens, usage.paid_output_tokens)
                check_abstained(job.model.name, asking.stats, job.max_abstained, job.max_refused)

        # Twice the places, so that none is idle while a question waits out a failure.
        await gather_or_raise(work() for _ in range(min(2 * caller.places, len(questions))))


async def _ask(caller: Caller, question: RowQuestion, asking: Asking) -> None:
    """Put a question until its answer can be used, at most as often as it allows.

    When earlier runs have given it up after all these, and have ended, it is put once more.
    """
    stats, fault, deadline, attempt = asking.stats, "", caller.deadline(), 0
    for attempt in count(1):
        try:
            entry = await caller.ask(question.request(attempt, fault), deadline)
        except (TransientError, ContextLengthExceeded, ContentRefused) as error:  # of this question alone
            asking.without_reply[error_kind(error)] += 1
            stats.refused_rows.update([question.id] if isinstance(error, ContentRefused) else ())
            break
        reading, may_ask_again = question.read(entry.reply), caller.may_ask_again(entry)
        if reading.value is not None:
            asking.answers[question.name] = RowAnswer(reading.value, entry.key)
            stats.ranked += 1
            break
        stats.errors_by_kind[reading.kind] += 1
        if reading.kind == REFUSED and not may_ask_again:
            stats.refused_rows[question.id] += 1
            break
        if attempt >= question.attempts and not may_ask_again:
            break
        fault = reading.fault
    stats.reasked += attempt > 1
    stats.reasked_old += attempt > question.attempts
    if question.name not in asking.answers:
        stats.abstained += 1
        stats.abstained_questions[question.name] += 1
