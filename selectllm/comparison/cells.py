"""The cells of a comparison: one selection each, by a strategy, a selector, a budget and a seed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from selectllm.comparison.settings import ComparisonSettings
from selectllm.settings import RunSettings
from selectllm.strategies import load_strategy
from selectllm.strategies.strategy import Strategy
from selectllm.text import join_names

log = logging.getLogger(__name__)

REFERENCE: Final = "random"
"""The strategy that all others are compared with."""

REFERENCE_SEEDS: Final = 20
"""The fewest draws of the reference: they cost nothing, and the band of fewer says little."""

EMBEDDED: Final = "embedded"
"""The kind of selectors that name a file of weights."""

VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "selectllm-tiers": {"ranking": {"gather": "tiers"}},
    "selectllm-ratings": {"ranking": {"gather": "ratings"}},
    "selectllm-paper": {"ranking": {"gather": "tiers"}, "queries": {"composition": "paper"}},
}
"""Names for the strategy `selectllm` by settings of its own."""


@dataclass(frozen=True)
class Cell:
    """One selection; `selector` is None where the strategy uses no model."""

    strategy: str
    selector: str | None
    budget: int
    seed: int

    @property
    def title(self) -> str:
        """The cell in one line."""
        by = f" by {self.selector}" if self.selector else ""
        return f"{self.strategy}{by}, {self.budget:,} rows, seed {self.seed}"


def base_of(name: str) -> str:
    """The name of a strategy, from its own name or a variant's."""
    return "selectllm" if name in VARIANTS else name


def strategy_of(name: str) -> Strategy:
    """The strategy of a name, or of a variant's name; raises UsageError where there is none."""
    return load_strategy(base_of(name))


def list_cells(settings: ComparisonSettings) -> list[Cell]:
    """All cells, those of the reference first, and the budgets of one strategy and seed one after another.

    What a seed does not change is done for the first seed alone. Raises UsageError for an unknown strategy.
    """
    cells = []
    for name in dict.fromkeys((REFERENCE, *settings.strategies)):
        strategy = strategy_of(name)
        cells += [
            Cell(name, selector, budget, settings.seed + seed)
            for selector in _selectors(settings, strategy)
            for seed in range(_seeds(settings, name, strategy))
            for budget in settings.budgets
        ]
    return cells


def warn_of_unused(settings: ComparisonSettings, cells: Sequence[Cell]) -> None:
    """Say so where `--selectors` names models that no strategy asks."""
    asked = {cell.selector for cell in cells}
    unused = [selector for selector in settings.selectors if selector not in asked]
    default = type(settings).model_fields["selectors"].get_default()  # which a file of all settings names, too
    if unused and settings.selectors != default:
        log.warning(
            "none of the strategies %s asks %s: leave that out of --selectors, or add a strategy that asks a model",
            *(join_names(dict.fromkeys(cell.strategy for cell in cells)), join_names(unused)),
        )


def cell_settings(settings: ComparisonSettings, cell: Cell) -> RunSettings:
    """The settings of the run that makes a cell."""
    asks = "model" in strategy_of(cell.strategy).needs
    run = settings.run(cell.budget, cell.seed, cell.selector if asks else None)
    values = run.model_dump(exclude_unset=True) | {"strategy": base_of(cell.strategy)}
    values |= {"selector": cell.selector} if cell.selector else {}
    for group, own in VARIANTS.get(cell.strategy, {}).items():
        values[group] = values.get(group, {}) | own
    return RunSettings.model_validate(values)


def _selectors(settings: ComparisonSettings, strategy: Strategy) -> Sequence[str | None]:
    """Those that a strategy is done with; of weights those that are files, else those of the demo model."""
    if "model" in strategy.needs:
        return settings.selectors
    if "weights" in strategy.needs:
        return [name for name in settings.selectors if name.partition(":")[0] == EMBEDDED] or [EMBEDDED]
    return [None]


def _seeds(settings: ComparisonSettings, name: str, strategy: Strategy) -> int:
    if name == REFERENCE:
        return max(settings.seeds, REFERENCE_SEEDS)
    return settings.seeds if strategy.is_seeded else 1
