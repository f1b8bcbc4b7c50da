"""What a run's settings leave open: from the worker's environment, then from Prefect's Variables and Secret blocks."""

import os
from typing import Any, Final

from prefect.blocks.system import Secret
from prefect.variables import Variable

from selectllm.environment import configured
from selectllm.locations import absolute
from selectllm.settings import RunSettings

KINDS: Final = {"ollama": ("OLLAMA_API_KEY", "OLLAMA_HOST"), "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL")}
"""The kinds of selectors that have servers, and the variables of a kind's key and of the host that it is meant for."""


def with_configuration(run: RunSettings) -> RunSettings:
    """The run with what it leaves open filled in.

    The Variable `selectllm_store` names the store, `selectllm_ollama_host` and `selectllm_openai_host` the servers of
    selectors of that kind; the Secret blocks `selectllm-ollama-api-key` and `selectllm-openai-api-key` hold their keys,
    which go into the environment of this process and nowhere else. Raises UsageError when a value is not allowed.
    """
    kind = configured(run).selector.partition(":")[0]
    below: dict[str, Any] = {}
    if kind in KINDS:
        host = Variable.get(f"selectllm_{kind}_host")
        key, meant_for = KINDS[kind]
        if not os.environ.get(key) and (secret := _secret(f"selectllm-{kind}-api-key")):
            os.environ[key] = secret
        if host and not os.environ.get(meant_for):  # the key is for the host that was named beside it
            os.environ[meant_for] = host
        if host:
            below["ranking"] = {"hosts": [host]}
    if store := Variable.get("selectllm_store"):
        below["store"] = store
    return _everywhere(configured(run, below))


def _everywhere(run: RunSettings) -> RunSettings:
    """The run with its folders named from the root on: workers have other working folders."""
    model = run.embedding.model
    embedding = run.embedding.model_copy(update={"model": absolute(model) if os.path.isdir(model) else model})
    selector = run.selector
    if selector.startswith("embedded:"):
        selector = "embedded:" + absolute(selector.removeprefix("embedded:"))
    return run.model_copy(update={"store": absolute(run.store), "embedding": embedding, "selector": selector})


def _secret(block: str) -> str | None:
    try:
        value = Secret.load(block).get()  # type: ignore[union-attr]
    except ValueError:  # there is no such block
        return None
    return str(value)
