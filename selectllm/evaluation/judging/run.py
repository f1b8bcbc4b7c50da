"""A judge beside given preferences, from the settings to the record."""

from typing import Any

from selectllm import cancellation
from selectllm.evaluation.judging.agreement import agreement
from selectllm.evaluation.judging.given import read_given, read_judged
from selectllm.evaluation.judging.judge import judge
from selectllm.evaluation.judging.settings import AgreementSettings
from selectllm.evaluation.page.agreement import agreement_sheet
from selectllm.evaluation.page.build import check_page, write_page
from selectllm.execution import Progress, no_progress
from selectllm.steps.context import Context
from selectllm.store import Store


def compare_judge(settings: AgreementSettings, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Have a judge judge the pairs, or read what it has said, and compare that with the given preferences.

    Raises UsageError and PoolError for files that cannot be used, RunError when the judging cannot be finished.
    """
    check_page(settings.page)
    given = read_given(settings.given)
    if settings.annotations is not None:
        compared, judging = given.compared(read_judged(settings.annotations, given)), dict[str, Any]()
    else:
        run = settings.run()
        with cancellation.propagate_interrupt():
            context = Context(run, Store(run.store), on_progress)
            judged = judge(context, given.pairs, settings.preference, both_orders=settings.both_orders)
        compared, judging = given.compared(judged.preferences, judged.first_shown), {"judging": judged.record()}
    record = agreement(compared, settings.resample_seed).record() | judging
    write_page(settings.page, agreement_sheet(record), settings.store)
    return record | {"page": settings.page}
