"""A durable caller of language models: Ollama's, those behind OpenAI's API, llama.cpp in process, and scripts.

A request is a text, a schema for the answer and how to ask: nothing here knows of ranking.
"""

from functools import partial
from typing import Literal

from selectllm.errors import HostUnreachable, SelectorUnavailable
from selectllm.llm.context_guard import ContextGuard
from selectllm.llm.host_state import Connect
from selectllm.llm.hosts import HostPool
from selectllm.llm.keys import PROVIDERS, ApiKeys
from selectllm.llm.model import ChatModel, Mode, ModelInfo
from selectllm.llm.scripted import ScriptedModel
from selectllm.llm.usage import Usage
from selectllm.settings import RankingSettings

__all__ = ["mode_of", "open_model"]


async def open_model(
    selector: str, settings: RankingSettings, keys: ApiKeys, expected: ModelInfo | None = None
) -> HostPool:
    """Open the model that a selector names, on all its hosts, and make sure that it is there; nothing is asked yet.

    `expected` is the model that this run has seen before: then hosts that do not answer now are waited for, and a model
    that is another by now is an error. Otherwise one host at least must answer.
    Raises SelectorUnavailable when the kind, a host or the model cannot be had, with what to do about it.
    """
    hosts = settings.hosts if selector.partition(":")[0] in PROVIDERS else ()
    models: list[ChatModel] = []
    absent: dict[Connect, Exception] = {}
    usage = Usage()
    try:
        for host in hosts or (None,):
            connect = partial(_connect, selector, host, settings, keys, usage)
            try:
                models.append(await connect())
            except HostUnreachable as error:
                absent[connect] = error
        infos = [model.info for model in models] + ([expected] if expected else [])
        if not infos:
            raise next(iter(absent.values()))
        if len({info.digest for info in infos}) > 1:
            name, how = infos[0].name, ""
            if infos[0].selector.startswith("ollama:"):
                how = f" with `ollama pull {name}`"
            advice = f"bring all hosts to one version{how}, and run again"
            raise SelectorUnavailable(f"{name} is not the same everywhere: {advice}")
    except BaseException:
        for model in models:
            await model.close()
        raise
    return HostPool(models, settings, infos[0], absent, usage)


async def _connect(
    selector: str, host: str | None, settings: RankingSettings, keys: ApiKeys, usage: Usage
) -> ChatModel:
    return ContextGuard(await _open(selector, host, settings, keys), usage)


async def _open(selector: str, host: str | None, settings: RankingSettings, keys: ApiKeys) -> ChatModel:
    kind, _, name = selector.partition(":")
    timeout = settings.request_seconds
    mode = mode_of(selector, settings.mode)
    if kind == "scripted":
        return ScriptedModel(name)
    if kind == "ollama":
        from selectllm.llm.ollama import open_ollama

        return await open_ollama(name, host=host, keys=keys, timeout=timeout, mode=mode)
    if kind == "openai":
        from selectllm.llm.openai import open_openai

        model = await open_openai(name, host=host, keys=keys, timeout=timeout, mode=mode)
        if settings.batch:
            await model.check_batches()
        return model
    from selectllm.llm.embedded import open_embedded

    return await open_embedded(name, mode=mode)


def mode_of(selector: str, mode: Literal["auto"] | Mode) -> Mode:
    """How a selector ranks: as the settings say; by default the embedded demo scores candidates, others rank lists."""
    if mode != "auto":
        return mode
    return "pointwise" if selector == "embedded" else "listwise"
