"""Language models behind one seam: Ollama's over its API, an embedded one that speaks the same API, and scripts."""

from functools import partial
from typing import Final, Literal

from selectllm.errors import HostUnreachable, SelectorUnavailable
from selectllm.llm.absent import AbsentModel
from selectllm.llm.hosts import HostPool
from selectllm.llm.model import ChatModel, Mode, ModelInfo, Reply, Request
from selectllm.llm.scripted import ScriptedModel
from selectllm.settings import RankingSettings

__all__ = ["ChatModel", "HostPool", "ModelInfo", "Reply", "Request", "mode_of", "open_model"]


SERVED: Final = ("ollama", "openai")
"""Kinds of selectors that have hosts; all others work in this process, once."""


async def open_model(selector: str, settings: RankingSettings, met: ModelInfo | None = None) -> HostPool:
    """Meet the model that a selector names, on all its hosts, and make sure that it is there; nothing is asked yet.

    `met` is who was met earlier in this run: then hosts that do not answer now are waited for, and a model that is
    another by now is an error. Otherwise one host at least must answer.
    Raises SelectorUnavailable when the kind, a host or the model cannot be had, with what to do about it.
    """
    mode = mode_of(selector, settings.mode)
    models: list[ChatModel] = []
    silent: list[HostUnreachable] = []
    try:
        for host in (settings.hosts if selector.partition(":")[0] in SERVED else ()) or (None,):
            meet = partial(_open, selector, host, settings.timeout, mode)
            try:
                models.append(await meet())
            except HostUnreachable as error:
                silent.append(error)
                models.append(AbsentModel(meet))
        cards = [model.card for model in models if not isinstance(model, AbsentModel)] + ([met] if met else [])
        if not cards:
            raise silent[0]
        if len({card.digest for card in cards}) > 1:
            name = cards[0].name
            raise SelectorUnavailable(
                f"{name} is not the same everywhere: bring all hosts to one version with `ollama pull {name}`, "
                "and run again"
            )
    except BaseException:
        for model in models:
            await model.close()
        raise
    return HostPool(
        models,
        card=cards[0],
        concurrency=settings.concurrency,
        timeout=settings.timeout,
        deadline=settings.deadline,
        retries=settings.retries,
        give_up_after=settings.give_up_after,
    )


async def _open(selector: str, host: str | None, timeout: float, mode: Mode) -> ChatModel:
    kind, _, name = selector.partition(":")
    if kind == "scripted":
        return ScriptedModel(name)
    if kind == "ollama":
        from selectllm.llm.ollama import open_ollama

        return await open_ollama(name, host=host, timeout=timeout, mode=mode)
    if kind == "openai":
        from selectllm.llm.openai import open_openai

        return await open_openai(name, host=host, timeout=timeout, mode=mode)
    from selectllm.llm.local import open_embedded

    return await open_embedded(name, timeout=timeout, mode=mode)


def mode_of(selector: str, told: Literal["auto"] | Mode) -> Mode:
    """How a selector ranks: as told; by itself the embedded demo one candidate at a time, others a query at a time."""
    if told != "auto":
        return told
    return "pointwise" if selector == "embedded" else "listwise"
