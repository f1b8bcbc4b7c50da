"""Fills settings that a run leaves open: from the environment of the worker, then from Prefect's Variables."""

import os
from typing import Any

from prefect.variables import Variable

from selectllm.cli.environment import with_environment
from selectllm.paths import absolute_path
from selectllm.settings import RunSettings
from tasks.keys import default_host


def with_flow_environment(settings: RunSettings) -> RunSettings:
    """The settings with what they leave open filled in, and local folders named from the root on.

    The Variable `selectllm_store` names the store, `selectllm_ollama_host` and `selectllm_openai_host` the servers of
    selectors of that provider, where neither the run nor the environment does. Raises UsageError when a value is not
    allowed.
    """
    store = Variable.get("selectllm_store")
    fallbacks: dict[str, Any] = {"store": store} if store else {}
    settings = with_environment(settings, fallbacks)
    host = default_host(settings.selector)
    # The host of the environment is also written into the settings, because the environment of a worker may differ.
    if host and not settings.ranking.hosts:
        settings = settings.model_copy(update={"ranking": settings.ranking.model_copy(update={"hosts": (host,)})})
    return _with_absolute_paths(settings)


def _with_absolute_paths(settings: RunSettings) -> RunSettings:
    """Make paths absolute, because workers have other working folders."""
    model, selector = settings.embedding.model, settings.selector
    if os.path.isdir(model):
        model = absolute_path(model)
    if selector.startswith("embedded:"):
        selector = "embedded:" + absolute_path(selector.removeprefix("embedded:"))
    embedding = settings.embedding.model_copy(update={"model": model})
    store = absolute_path(settings.store)
    return settings.model_copy(update={"store": store, "embedding": embedding, "selector": selector})
