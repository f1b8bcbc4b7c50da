"""What a strategy is: it looks at a pool, and says which rows it would choose first."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa

from selectllm.embedding.vector_cache import matrix
from selectllm.llm.model import ModelInfo
from selectllm.quality import check_preferences
from selectllm.queries import Rows, Vectors
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.exclude import excluded_ids
from selectllm.steps.prospect import Planned, Prospect
from selectllm.steps.spread import spread_settings

Need = Literal["embeddings", "model", "weights"]
"""Vectors of the rows; a model that is asked; a model's weights, which the strategy reads by itself."""

SPARE: Final = 10
"""Rows that a greedy strategy names for each row of the budget, where the choice will pass some of them over."""

CODE_VERSION: Final = 1
"""Raise it when all preferences are to be stored otherwise; one strategy has a version of its own."""


@dataclass(frozen=True)
class Choice:
    """A pool to choose from, and what earlier steps made of it.

    `results` holds the steps' results by kind: `pool`, `excluded` where rows are excluded, `embeddings` where the
    strategy needs them, and whatever its `prepare` adds. `model` is there where the strategy needs one.
    """

    context: Context
    results: Mapping[str, StepResult]
    model: ModelInfo | None = None
    own: Mapping[str, StepResult] = field(default_factory=dict)

    @property
    def budget(self) -> int:
        """How many rows will be chosen."""
        return self.context.settings.budget

    @property
    def seed(self) -> int:
        """The run's seed: whatever a strategy draws is drawn by it."""
        return self.context.settings.seed

    @property
    def wanted(self) -> int:
        """How many rows a greedy strategy names: the budget, and more where the choice will pass some of them over.

        With quotas it names all: nobody knows how far down the last row of a rare value stands.
        """
        settings, allowed = self.context.settings, len(self.allowed)
        if settings.aim.column is not None:
            return allowed
        return min(allowed, settings.budget * (SPARE if spread_settings(settings) else 1))

    @cached_property
    def allowed(self) -> Rows:
        """The numbers, in the pool's order and from 0, of the rows that are not excluded."""
        ids = self.pool["id"].to_pylist()
        return np.array([row for row, id in enumerate(ids) if id not in self.excluded], dtype=np.int64)

    @cached_property
    def pool(self) -> pa.Table:
        """The pool's rows, as schemas.POOL, the excluded ones among them."""
        return self.table("pool")

    @cached_property
    def vectors(self) -> Vectors:
        """The rows' vectors (M, d), float32, of unit length, in the pool's order."""
        return matrix(self.table("embeddings"))

    @cached_property
    def excluded(self) -> set[str]:
        """The ids that will not be chosen, wherever they stand among the preferences."""
        return excluded_ids(self.context, self.results.get("excluded"))

    def table(self, kind: str) -> pa.Table:
        """The table of an earlier step."""
        return {**self.own, **self.results}[kind].table(self.context.store)


class Strategy(ABC):
    """A way to choose.

    `name` is what --strategy calls it; `source` is where it was published; `needs` are the steps that it needs, of
    which only those run; `is_seeded` says whether the seed changes what it prefers; `is_greedy`, that it names only
    `choice.wanted` rows of `choice.allowed`, since more would take longer; `code_version` is raised when the same pool
    is to give other preferences.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset()
    is_seeded: ClassVar[bool] = True
    is_greedy: ClassVar[bool] = False
    code_version: ClassVar[int] = 1

    def check(self, settings: RunSettings) -> None:
        """Raise UsageError where the strategy cannot do with these settings; called before anything is done."""
        return

    def plan(self, prospect: Prospect) -> Planned | None:
        """What it would ask of a model, if it needs one; None where it does not say."""
        return None

    def prepare(self, choice: Choice) -> dict[str, StepResult]:
        """Run the strategy's own steps, if it has any, by `choice.context.run`; returns their results by kind."""
        return {}

    def settings(self, choice: Choice) -> dict[str, Any]:
        """What decides the preferences, besides the pool and the results of steps: by default the seed, if any."""
        return {"seed": choice.seed} if self.is_seeded else {}

    @abstractmethod
    def prefer(self, choice: Choice) -> pa.Table:
        """The rows in the order in which they would be chosen, as PREFERENCES (see `selection.as_preferences`)."""


def prefer(context: Context, strategy: Strategy, choice: Choice) -> StepResult:
    """The step that makes a strategy's preferences an artifact, of kind `preferences`."""
    inputs = {kind: choice.results[kind] for kind in ("pool", *strategy.needs) if kind in choice.results}
    inputs |= choice.own
    decisive = {"strategy": strategy.name, "version": strategy.code_version, **strategy.settings(choice)}
    if strategy.is_greedy:
        inputs |= {kind: choice.results[kind] for kind in ("excluded",) if kind in choice.results}
        decisive["wanted"] = choice.wanted
    entry = CacheEntry(context.store, "preferences", CODE_VERSION, inputs, decisive)
    if result := entry.load():
        return result
    preferences = strategy.prefer(choice)
    check_preferences(preferences, choice.pool["id"])
    return entry.save(preferences, {"strategy": strategy.name, "preferred": len(preferences)})
