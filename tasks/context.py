"""The context of a flow run: each step is a Prefect task, and its pieces run where the flow's settings say."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from prefect import Task, task
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.utilities.annotations import quote

from selectllm.errors import SelectLLMError
from selectllm.execution import Started
from selectllm.quality import Verdict
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.context import NO_TOKENS, Context, Step, Tokens, Validation
from selectllm.store import Store
from tasks.configuration import with_flow_environment, with_own_slot
from tasks.keys import load_keys
from tasks.page import show_verdict
from tasks.progress import progress
from tasks.runners import TASK_OPTIONS, PrefectExecutor
from tasks.settings import FlowSettings

P = ParamSpec("P")
T = TypeVar("T")

TASK_NAMES: Final = {
    "read_pool": "pool",
    "exclude": "excluded",
    "keep_away": "too_near",
    "find_targets": "targets",
    "shortlist": "shortlist",
    "stratify": "strata",
    "check_model": "model",
    "embed": "embeddings",
    "build_queries": "queries",
    "rank": "rankings",
    "look": "looks",
    "rate": "ratings",
    "rate_rows": "row-ratings",
    "sample_answers": "row-ratings",
    "measure_likelihoods": "likelihoods",
    "run_tournament": "tournament",
    "prefer": "preferences",
    "choose": "selection",
    "cluster": "clusters",
    "measure": "measures",
    "give_reasons": "reasons",
    "ask_answers": "answers",
    "take_answers": "answers",
    "score_overlap": "overlaps",
    "converse": "conversations",
    "judge_turns": "mt-bench-judgments",
    "judge_pairs": "judgements",
    "validate": "validation",
    "publish": "publish",
}
"""Task names of the steps: the names of the artifacts that they make."""

PROGRESS: Final = {
    **dict.fromkeys(("embed", "keep_away", "find_targets"), "Rows embedded"),
    "measure_likelihoods": "Rows read",
    **dict.fromkeys(("rank", "look", "run_tournament", "give_reasons"), "Questions answered"),
    **dict.fromkeys(("rate_rows", "sample_answers", "ask_answers"), "Questions answered"),
    **dict.fromkeys(("converse", "judge_turns", "judge_pairs"), "Questions answered"),
}
"""The unit of progress, for the steps that show progress."""


@dataclass(frozen=True)
class FlowContext(Context):
    """Runs the steps as a Prefect flow: in this process, in order, each as a task run."""

    def run(self, step: Step[P, T], *inputs: P.args, **named: P.kwargs) -> T:
        """Run a step as a task, and note its result."""
        result: T = self._submit(step, inputs).result()
        return self._noted(result)

    def start(self, step: Step[P, T], *inputs: P.args, **named: P.kwargs) -> Started[T]:
        """Submit a step as a task that runs in the background."""
        started: Started[T] = self._submit(step, inputs)
        self.log.started.append(started)
        return started

    def _submit(self, step: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        name = TASK_NAMES[step.__name__]
        step_task: Task[..., Any] = run_step.with_options(
            name=name,
            description=(step.__doc__ or "").partition("\n")[0],
            task_run_name=f"validation of {inputs[0].kind}" if name == "validation" else None,
        )
        return step_task.submit(step, quote(self), inputs)


def flow_context(settings: RunSettings, flow: FlowSettings, paid_elsewhere: Tokens = NO_TOKENS) -> FlowContext:
    """The context of the current flow run: its settings completed, its slot named, its pieces' runner chosen.

    `paid_elsewhere` are the tokens of other flow runs that share its limit of cost.

    Raises UsageError when a value of the environment or of Prefect's Variables is not allowed.
    """
    settings = with_own_slot(with_flow_environment(settings))
    return FlowContext(
        settings,
        Store(settings.store),
        executor=PrefectExecutor(flow),
        load_keys=partial(load_keys, settings),
        paid_elsewhere=paid_elsewhere,
    )


@task(**TASK_OPTIONS)
def run_step(step: Callable[..., Any], context: FlowContext, inputs: Sequence[Any]) -> Any:
    """Run a step, show its progress and its verdict, and say where its artifact is."""
    try:
        with _shown_progress(step, context) as context:
            result = step(context, *inputs)
    except SelectLLMError as error:
        if isinstance(error.evidence, Verdict):
            show_verdict(error.evidence)
        raise
    if isinstance(result, Validation):
        show_verdict(result.verdict)
        return Completed(name="Cached", data=result) if result.cached else result
    return _as_state(context, result) if isinstance(result, StepResult) else result


@contextmanager
def _shown_progress(step: Callable[..., Any], context: FlowContext) -> Iterator[FlowContext]:
    description = PROGRESS.get(step.__name__)
    if description is None:
        yield context
        return
    key = f"{TASK_NAMES[step.__name__]}-progress".replace("_", "-")  # Prefect takes no other key
    with progress(key, description, context.settings) as on_progress:
        yield replace(context, progress=on_progress)


def _as_state(context: FlowContext, result: StepResult) -> StepResult | State[StepResult]:
    """The result itself, or, when the store had it already, Prefect's own state `Cached` with it.

    Only our store decides what is cached, so results of the library are used here too.
    """
    path = context.store.path(result.artifact)
    if result.cached:
        get_run_logger().info("%s: found intact at %s", result.kind, path)
        return Completed(name="Cached", data=result)
    get_run_logger().info("%s: made in %.1f s, %s", result.kind, result.seconds, path)
    return result
