"""Ways to choose: one small file each. Others' come by the entry point group `selectllm.strategies`."""

from importlib.metadata import EntryPoint, entry_points
from typing import Final

from selectllm.errors import UsageError
from selectllm.settings import RunSettings
from selectllm.strategies.refused import REFUSED
from selectllm.strategies.strategy import Strategy

OWN: Final = {
    "selectllm": "selectllm.strategies.selectllm:SelectLLM",
    "random": "selectllm.strategies.random:Random",
    "longest": "selectllm.strategies.longest:Longest",
    "shortest": "selectllm.strategies.shortest:Shortest",
    "stratified": "selectllm.strategies.stratified:Stratified",
    "kcenter": "selectllm.strategies.kcenter:KCenter",
    "facility": "selectllm.strategies.facility:Facility",
    "probcover": "selectllm.strategies.probcover:ProbCover",
    "novelselect": "selectllm.strategies.novelselect:NovelSelect",
    "rouge-diversity": "selectllm.strategies.rouge_diversity:RougeDiversity",
    "alpagasus": "selectllm.strategies.alpagasus:AlpaGasus",
    "deita": "selectllm.strategies.deita:Deita",
    "qdit": "selectllm.strategies.qdit:QDIT",
    "open-endedness": "selectllm.strategies.open_endedness:OpenEndedness",
    "perplexity-low": "selectllm.strategies.perplexity:PerplexityLow",
    "perplexity-mid": "selectllm.strategies.perplexity:PerplexityMid",
    "perplexity-high": "selectllm.strategies.perplexity:PerplexityHigh",
}
"""Our strategies by name, and where their classes are."""

ENTRY_POINTS: Final = "selectllm.strategies"


def check_strategy(settings: RunSettings) -> None:
    """Raise UsageError where the strategy cannot do with the settings, or has no model that could give reasons."""
    strategy = load_strategy(settings.strategy)
    strategy.check(settings)
    if settings.reasons and "model" not in strategy.needs:
        raise UsageError(f"--reasons needs a strategy that asks a model, and {settings.strategy} asks none")


def load_strategy(name: str) -> Strategy:
    """The strategy of a name: one of ours, else one that an installed package brings along.

    Raises UsageError where there is none, where it needs what a pool does not have, or where it cannot be loaded.
    """
    points = {key: EntryPoint(key, value, ENTRY_POINTS) for key, value in OWN.items()}
    if name not in points:  # reading what all packages bring along takes a while
        points = {point.name: point for point in entry_points(group=ENTRY_POINTS)} | points
    if name not in points and name.lower() in REFUSED:
        raise UsageError(f"there is no strategy {name!r}: {REFUSED[name.lower()]}")
    if name not in points:
        known = [*OWN, *sorted(points.keys() - OWN.keys())]
        raise UsageError(f"there is no strategy {name!r}: use one of {', '.join(known)}")
    source = f"the strategy {name!r} of {points[name].value}"
    try:
        strategy = points[name].load()()
    except Exception as error:  # another package's code may raise anything
        raise UsageError(f"{source} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(strategy, Strategy):
        raise UsageError(f"{source} is no selectllm.strategies.strategy.Strategy")
    return strategy
