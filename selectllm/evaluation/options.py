"""What the settings of all commands that evaluate have in common."""

from typing import Annotated, Any, Final

from cyclopts import Group
from pydantic import Field

from selectllm.settings import RankingSettings, RunSettings

EVALUATION: Final = Group("Evaluation", sort_key=1)

StorePlace = Annotated[
    str, Field(min_length=1, title="Store", description=RunSettings.model_fields["store"].description)
]
"""Where a command keeps what it has asked; `DEFAULT_STORE` where nothing is said."""

DEFAULT_STORE: Final = "./artifacts"

PagePlace = Annotated[
    str | None,
    Field(
        title="Page",
        description="File for a page that shows the result in tables and pictures (HTML; the extra report); nothing is "
        "written over.",
    ),
]
"""Where a command writes its page, if it does."""


def plainly(ranking: RankingSettings, selector: str | None) -> dict[str, Any]:
    """How a model is asked that is evaluated, or that rates: it thinks before its answers only when it is told to.

    Without a selector nobody is asked, and so not in batches.
    """
    think: dict[str, Any] = {"think": "off"} if ranking.think == "auto" else {}
    return ranking.model_dump(exclude_unset=True) | think | ({} if selector else {"batch": False})
