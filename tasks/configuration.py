"""What a run's settings leave open: from the worker's environment, then from Prefect's Variables and Secret blocks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.variables import Variable

from selectllm.cli.environment import configured
from selectllm.paths import absolute
from selectllm.settings import RunSettings
from tasks.keys import KINDS, key_for, named_host


@contextmanager
def configuration(run: RunSettings) -> Iterator[RunSettings]:
    """The run with what it leaves open filled in, and its server's key in the environment of this process for so long.

    The Variable `selectllm_store` names the store, `selectllm_ollama_host` and `selectllm_openai_host` the servers of
    selectors of that kind, where neither the run nor the environment does; the Secret blocks `selectllm-ollama-api-key`
    and `selectllm-openai-api-key` hold their keys. Raises UsageError when a value is not allowed.
    """
    run = _with_variables(run)
    with key_for(run):
        yield run


def _with_variables(run: RunSettings) -> RunSettings:
    """The run with what it leaves open from the environment, and then from Prefect's Variables."""
    store = Variable.get("selectllm_store")
    below: dict[str, Any] = {"store": store} if store else {}
    run = configured(run, below)
    kind = run.selector.partition(":")[0]
    # The environment's host, too, is written into the run: another run of this process may put its own there.
    if kind in KINDS and not run.ranking.hosts and (host := KINDS[kind].named_host() or named_host(kind)):
        run = run.model_copy(update={"ranking": run.ranking.model_copy(update={"hosts": (host,)})})
    return _everywhere(run)


def _everywhere(run: RunSettings) -> RunSettings:
    """The run with its folders named from the root on: workers have other working folders."""
    model = run.embedding.model
    embedding = run.embedding.model_copy(update={"model": absolute(model) if os.path.isdir(model) else model})
    selector = run.selector
    if selector.startswith("embedded:"):
        selector = "embedded:" + absolute(selector.removeprefix("embedded:"))
    return run.model_copy(update={"store": absolute(run.store), "embedding": embedding, "selector": selector})
