"""Fills settings that a run leaves open: from the environment, Prefect's Variables, and the flow run itself."""

import os
from typing import TYPE_CHECKING, Any, TypeVar

from prefect.context import FlowRunContext

from selectllm.cli.environment import with_environment
from selectllm.errors import UsageError
from selectllm.paths import absolute_path
from selectllm.settings import RunSettings, check_batch
from selectllm.store.history import with_slot
from tasks.keys import default_host
from tasks.variables import variable_text

if TYPE_CHECKING:  # only their own flows need these
    from selectllm.comparison.settings import ComparisonSettings
    from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings
    from selectllm.evaluation.answers.settings import OverlapSettings
    from selectllm.evaluation.mt_bench.settings import MtBenchSettings

Assessment = TypeVar("Assessment", "OverlapSettings", "MtBenchSettings", "AlpacaEvalSettings")


def with_flow_environment(settings: RunSettings) -> RunSettings:
    """The settings with what they leave open filled in, and local folders named from the root on.

    The Variable `selectllm_store` names the store, `selectllm_ollama_host` and `selectllm_openai_host` the servers of
    selectors of that provider, where neither the run nor the environment does. Raises UsageError when a value is not
    allowed, or a Variable is no text.
    """
    store = variable_text("selectllm_store")
    fallbacks: dict[str, Any] = {"store": store} if store else {}
    settings = with_environment(settings, fallbacks)
    host = default_host(settings.selector)
    # The host of the environment is also written into the settings, because the environment of a worker may differ.
    if host and not settings.ranking.hosts:
        settings = settings.model_copy(update={"ranking": settings.ranking.model_copy(update={"hosts": (host,)})})
    return _with_absolute_paths(settings)


def with_flow_store(settings: "ComparisonSettings") -> "ComparisonSettings":
    """The settings of a comparison with the store that its cells will have; they fill in all else for themselves."""
    run = with_flow_environment(settings.run(settings.budgets[0], settings.seed, None))
    return settings.model_copy(update={"store": run.store})


def with_own_store(settings: Assessment) -> Assessment:
    """The settings of an assessment with the store that its runs will have, and the judge that the environment names.

    Raises UsageError where that judge takes no batches, and is to be asked in batches.
    """
    from selectllm.evaluation.alpaca_eval.settings import AlpacaEvalSettings

    run = with_flow_environment(settings.run())
    changed: dict[str, Any] = {"store": run.store}
    is_open = isinstance(settings, AlpacaEvalSettings) and settings.selector is settings.annotations is None
    if is_open and "selector" in run.model_fields_set:
        try:
            check_batch(run.selector, settings.ranking)
        except ValueError as error:
            raise UsageError(f"{error}. The environment names it") from None
        changed["selector"] = run.selector
    return settings.model_copy(update=changed)


def _with_absolute_paths(settings: RunSettings) -> RunSettings:
    """Make paths absolute, because workers have other working folders."""
    model, selector = settings.embedding.model, settings.selector
    if os.path.isdir(model):
        model = absolute_path(model)
    changed: dict[str, Any] = {"embedding": settings.embedding.model_copy(update={"model": model})}
    if selector.startswith("embedded:"):  # one that nobody has named stays so: it judges nothing
        changed["selector"] = "embedded:" + absolute_path(selector.removeprefix("embedded:"))
    return settings.model_copy(update=changed | {"store": absolute_path(settings.store)})


def with_own_slot(settings: RunSettings) -> RunSettings:
    """The settings with the run's slot: its schedule's, else the flow run's own id. A retried run keeps either."""
    context = FlowRunContext.get()
    flow_run = context and context.flow_run
    if not flow_run:
        return with_slot(settings)
    if flow_run.auto_scheduled and flow_run.expected_start_time:
        # The id of the deployment keeps apart two deployments with the same history and the same scheduled time.
        time = f"{flow_run.expected_start_time:%Y%m%dT%H%M%SZ}"
        return with_slot(settings, f"{time}-{str(flow_run.deployment_id)[:8]}")
    return with_slot(settings, str(flow_run.id))
