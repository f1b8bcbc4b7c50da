"""Fine-tunes a model as a Prefect flow: what it gained is on the run's page; a killed run goes on when run again."""

import sys
from typing import Annotated, Any

import prefect
from pydantic import Field

from selectllm.tuning.settings import TuningSettings
from selectllm.tuning.tune import tune
from tasks.logs import hide_own_tracebacks
from tasks.page import show_tuning

hide_own_tracebacks()  # already where Prefect refuses the parameters


@prefect.flow(name="tune-model", flow_run_name="{tuning.out}", persist_result=False, result_serializer="json")
def tune_model(tuning: Annotated[TuningSettings, Field(json_schema_extra={"title": "Tuning"})]) -> dict[str, Any]:
    """Fine-tune a model on rows with answers, score it on held-out rows, and export it.

    Args:
        tuning: What to tune, on which rows, and where to write. The same settings go on from the last checkpoint.
    """
    hide_own_tracebacks()
    record = tune(tuning)
    show_tuning(record)
    return record


if __name__ == "__main__":
    from flows.commands import tuning_app
    from selectllm.cli.main import run_app

    sys.exit(run_app(tuning_app(tune_model)))
