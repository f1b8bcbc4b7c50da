"""What a measure is: numbers about a selection, with a line of what they reward and one of how they can be gamed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from selectllm.evaluation.measured import Measured

Better = Literal["higher", "lower", "neither"]
Need = Literal["vectors", "preferences", "labels"]


@dataclass(frozen=True)
class Missing:
    """Why a measure has no value here: one sentence, without a full stop."""

    reason: str


Values = Mapping[str, float | Missing]


@dataclass(frozen=True, kw_only=True)
class About:
    """What is to be known of a measure before it is believed.

    `better` says which values are better, if either are. `rewards` and `gamed_by` are one line each: what raises the
    value, and how it is raised without choosing better. `values` are the names of its values.
    """

    name: str
    better: Better
    rewards: str
    gamed_by: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measure(About):
    """A measure of one selection: `compute` gives its values, each a number or the reason why there is none.

    `needs` names what must be there of `Measured`: without it, the measure is not computed, and all values are missing.
    """

    compute: Callable[[Measured], Values]
    needs: tuple[Need, ...] = ()
