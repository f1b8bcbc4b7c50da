"""`selectllm tune`: fine-tunes a model on annotated rows, and measures what that changed."""

from typing import Annotated

from cyclopts import Parameter

from selectllm.cli.printing import OUTPUT, Json, print_either, progress_bars
from selectllm.tuning.settings import TuningSettings

DryRun = Annotated[
    bool,
    Parameter(group=OUTPUT, help="Show steps, tokens and time, after timing one step. Trains and writes nothing."),
]


def tune(settings: TuningSettings, *, dry_run: DryRun = False, json: Json = False) -> None:
    """Fine-tune a model on annotated rows, measure the loss of held-out answers before and after, and export it.

    Trains adapters (LoRA) on the processor. The same command goes on from the last checkpoint where it was stopped.

    Example: `selectllm tune train.jsonl --test test.jsonl --out tuned`
    """
    if dry_run:
        from selectllm.tuning.plan import plan_tuning
        from selectllm.tuning.text import format_plan

        plan = plan_tuning(settings)
        print_either(plan, format_plan(plan), json=json)
        return
    from selectllm.tuning.text import format_tuning
    from selectllm.tuning.tune import tune

    with progress_bars() as on_progress:
        record = tune(settings, on_progress)
    print_either(record, format_tuning(record), json=json)
