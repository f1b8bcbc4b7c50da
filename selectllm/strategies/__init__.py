"""Ways to choose: one small file each. Others' come by the entry point group `selectllm.strategies`."""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Final

from selectllm.errors import UsageError
from selectllm.strategies.strategy import Strategy

OWN: Final = {
    "selectllm": "selectllm.strategies.selectllm:SelectLLM",
    "random": "selectllm.strategies.random:Random",
    "longest": "selectllm.strategies.longest:Longest",
}
"""Our strategies by name, and where their classes are."""

ENTRY_POINTS: Final = "selectllm.strategies"


def load_strategy(name: str) -> Strategy:
    """The strategy of a name: one of ours, else one that an installed package brings along.

    Raises UsageError where there is none, or it cannot be loaded.
    """
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        strategy: Strategy = getattr(import_module(module), attribute)()
        return strategy
    others = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        raise UsageError(f"there is no strategy {name!r}: use one of {', '.join([*OWN, *sorted(others)])}")
    try:
        loaded = others[name].load()()
    except Exception as error:  # another package's code may raise anything
        raise UsageError(
            f"the strategy {name!r} of {others[name].value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, Strategy):
        raise UsageError(f"the strategy {name!r} of {others[name].value} is no selectllm.strategies.strategy.Strategy")
    return loaded
