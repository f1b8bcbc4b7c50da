"""Compares tuned models by their answers as a Prefect flow: each model is a subflow, whose steps are cached."""

import sys
from typing import Annotated, Any

import prefect
from prefect.states import Completed
from pydantic import Field

from selectllm import cancellation
from selectllm.evaluation.answers.compare import Scored, publish_overlap, score_source, source_settings
from selectllm.evaluation.answers.questions import read_questions
from selectllm.evaluation.answers.settings import OverlapSettings
from selectllm.evaluation.answers.sources import Source
from selectllm.settings import RunSettings
from tasks.configuration import with_overlap_store
from tasks.context import flow_context
from tasks.logs import hide_own_tracebacks
from tasks.page import show_overlap
from tasks.settings import FlowSettings

DEFAULT_FLOW = FlowSettings()


@prefect.flow(
    name="assess-answers",
    flow_run_name="answers to {assessment.questions}",
    persist_result=False,
    result_serializer="json",  # otherwise Prefect pickles the error of a failed run
)
def assess_answers(
    assessment: Annotated[OverlapSettings, Field(json_schema_extra={"title": "Assessment"})],
    flow: Annotated[FlowSettings, Field(json_schema_extra={"title": "Workers"})] = DEFAULT_FLOW,
) -> dict[str, Any]:
    """Have tuned models answer questions, or read their answers, and compare them with references.

    Args:
        assessment: The questions with their references, and the models. What is in the store is not made again.
        flow: Where the pieces of embedding run.
    """
    hide_own_tracebacks()
    with cancellation.propagate_interrupt():
        assessment = with_overlap_store(assessment)
        questions, scored = read_questions(assessment.run()), list[Scored]()
        for source in assessment.sources:
            run = source_settings(assessment, source, scored)
            scored.append(assess_model(source, run, assessment, flow))
        result = publish_overlap(assessment, questions, scored)
        show_overlap(result)
        return result


@prefect.flow(name="assess-model", flow_run_name="{source.title}", persist_result=False, result_serializer="json")
def assess_model(source: Source, run: RunSettings, assessment: OverlapSettings, flow: FlowSettings) -> Scored:
    """Have one model answer, or read its answers, and compare them with the references."""
    hide_own_tracebacks()
    context = flow_context(run, flow)
    scored = score_source(context, source, read_questions(run), assessment)
    # A flow that returns a state ends in it, and its caller gets the state's data.
    return Completed(name="Cached", data=scored) if scored.is_cached else scored  # type: ignore[return-value]


if __name__ == "__main__":
    from flows.command_line import main_of_assessment

    sys.exit(main_of_assessment(assess_answers))
