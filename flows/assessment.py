"""Evaluates tuned models by their answers as Prefect flows: each model is a subflow, whose steps are cached."""

import sys
from typing import Annotated, Any

import prefect
from pydantic import Field

from selectllm import cancellation
from selectllm.evaluation.alpaca_eval.run import prefer_answers, publish_alpaca_eval
from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings
from selectllm.evaluation.answers.compare import Scored, paid_tokens, publish_overlap, questions_of, score_source
from selectllm.evaluation.answers.questions import read_questions
from selectllm.evaluation.answers.settings import OverlapSettings
from selectllm.evaluation.answers.sources import Source
from selectllm.evaluation.mt_bench.publish import publish_mt_bench
from selectllm.evaluation.mt_bench.run import (
    Answered,
    answer_questions,
    bench_of,
    given_judgments,
    judge_answers,
    paid,
    read_files,
    tokens_of,
)
from selectllm.evaluation.mt_bench.settings import MtBenchSettings
from selectllm.steps.context import Tokens
from tasks.configuration import with_own_store
from tasks.context import flow_context
from tasks.logs import hide_own_tracebacks
from tasks.page import show_alpaca_eval, show_mt_bench, show_overlap
from tasks.settings import FlowSettings
from tasks.states import as_cached

DEFAULT_FLOW = FlowSettings()
Workers = Annotated[FlowSettings, Field(json_schema_extra={"title": "Workers"})]
hide_own_tracebacks()  # already where Prefect refuses the parameters


@prefect.flow(
    name="assess-answers",
    flow_run_name="answers to {assessment.questions}",
    persist_result=False,
    result_serializer="json",  # otherwise Prefect pickles the error of a failed run
)
def assess_answers(
    assessment: Annotated[OverlapSettings, Field(json_schema_extra={"title": "Assessment"})],
    flow: Workers = DEFAULT_FLOW,
) -> dict[str, Any]:
    """Have tuned models answer questions, or read their answers, and compare them with references.

    Args:
        assessment: The questions with their references, and the models. What is in the store is not made again.
        flow: Where the pieces of embedding run.
    """
    hide_own_tracebacks()
    with cancellation.propagate_interrupt():
        assessment = with_own_store(assessment)
        questions, scored = questions_of(assessment), list[Scored]()
        for source in assessment.sources:
            scored.append(assess_model(source, assessment, flow, paid_tokens(scored)))
        result = publish_overlap(assessment, questions, scored)
        show_overlap(result)
        return as_cached(result, is_cached=all(one.is_cached for one in scored))


@prefect.flow(name="assess-model", flow_run_name="{source.title}", persist_result=False, result_serializer="json")
def assess_model(source: Source, assessment: OverlapSettings, flow: FlowSettings, paid_elsewhere: Tokens) -> Scored:
    """Have one model answer, or read its answers, and compare them with the references."""
    hide_own_tracebacks()
    run = assessment.run(source.selector)
    context = flow_context(run, flow, paid_elsewhere)
    scored = score_source(context, source, read_questions(run), assessment)
    return as_cached(scored, is_cached=scored.is_cached)


@prefect.flow(
    name="assess-mt-bench",
    flow_run_name="MT-Bench by {assessment.judged_by}",
    persist_result=False,
    result_serializer="json",
)
def assess_mt_bench(
    assessment: Annotated[MtBenchSettings, Field(json_schema_extra={"title": "Assessment"})],
    flow: Workers = DEFAULT_FLOW,
) -> dict[str, Any]:
    """Have models answer MT-Bench's questions of two turns, and a judge rate the answers or compare them.

    Args:
        assessment: The questions, the models and the judge. What is in the store is not asked again.
        flow: Where pieces run; questions are all asked by the flow's own process.
    """
    hide_own_tracebacks()
    with cancellation.propagate_interrupt():
        assessment = with_own_store(assessment)
        files, answered = read_files(assessment), list[Answered]()
        given = given_judgments(assessment, files)
        for source in assessment.sources:
            answered.append(answer_mt_bench(source, assessment, flow, tokens_of(answered)))
        bench, run = bench_of(files, answered), assessment.run(assessment.judge, judges=True)
        judged = judge_answers(flow_context(run, flow, tokens_of(answered)), bench, assessment, given)
        result = publish_mt_bench(assessment, bench, judged.table) | paid(assessment, [*answered, judged])
        show_mt_bench(result)
        return as_cached(result, is_cached=judged.is_cached and all(one.is_cached for one in answered))


@prefect.flow(name="answer-mt-bench", flow_run_name="{source.title}", persist_result=False, result_serializer="json")
def answer_mt_bench(
    source: Source, assessment: MtBenchSettings, flow: FlowSettings, paid_elsewhere: Tokens
) -> Answered:
    """Have one model answer all turns, or read its answers."""
    hide_own_tracebacks()
    context = flow_context(assessment.run(source.selector), flow, paid_elsewhere)
    answered = answer_questions(context, source, read_files(assessment), assessment)
    return as_cached(answered, is_cached=answered.is_cached)


@prefect.flow(
    name="assess-alpaca-eval",
    flow_run_name="AlpacaEval by {assessment.selector}",
    persist_result=False,
    result_serializer="json",
)
def assess_alpaca_eval(
    assessment: Annotated[AlpacaEvalSettings, Field(json_schema_extra={"title": "Assessment"})],
    flow: Workers = DEFAULT_FLOW,
) -> dict[str, Any]:
    """Have a judge say which of two models' answers are better, and score the model as AlpacaEval 2 does.

    Args:
        assessment: The two files of answers, and the judge. What is in the store is not asked again.
        flow: Where pieces run; questions are all asked by the flow's own process.
    """
    hide_own_tracebacks()
    with cancellation.propagate_interrupt():
        assessment = with_own_store(assessment)
        preferred = prefer_answers(flow_context(assessment.run(), flow), assessment)
        result = publish_alpaca_eval(assessment, preferred)
        show_alpaca_eval(result)
        return as_cached(result, is_cached=preferred.is_cached)


if __name__ == "__main__":
    from flows.commands import assessment_app
    from selectllm.cli.main import run_app

    sys.exit(run_app(assessment_app(assess_answers, assess_mt_bench, assess_alpaca_eval)))
