"""What the chosen rows are to be like."""

from typing import Annotated, Self

from cyclopts import Group, Parameter
from pydantic import Field, field_validator, model_validator

from selectllm.quota import Quota, parse_quota
from selectllm.settings.base import Settings


@Parameter(name="*", group=Group("Aim", sort_key=2.5))
class AimSettings(Settings):
    """What the chosen rows are to be like, by any strategy: quotas, examples to be near to, tests to keep from."""

    stratify: str | None = Field(None, min_length=1, title="Stratify")
    """Column whose values each get their share of the chosen rows: as large as their share of the rows that may be
    chosen."""
    quota: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), title="Quotas")
    """Any number of COLUMN:VALUE=N, all of one column: exactly N rows with that value. What they leave of the budget
    goes to the other values."""

    target: str | None = Field(None, min_length=1, title="Target")
    """File of examples of what to choose, in any format of a pool: the rows nearest to them make a shortlist, out of
    which the strategy chooses."""
    target_rows: int | None = Field(None, ge=1, title="Rows of the shortlist")
    """How many rows the shortlist has (1 or more, and no fewer than the budget). Default: ten times the budget."""
    away_from: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), title="Away from")
    """Any number of files of tests, in any format of a pool: rows that stand in one, or are too near to one of its
    rows, are not chosen."""
    away_above: float = Field(0.9, gt=0, le=1, title="Too near")
    """The cosine to a test from which on a row is too near (more than 0 and up to 1)."""

    @field_validator("quota")
    @classmethod
    def _quotas_agree(cls, quota: tuple[str, ...]) -> tuple[str, ...]:
        if len(columns := {parse_quota(text).column for text in quota}) > 1:
            raise ValueError(f"all --quota are of one column, not of {', '.join(map(ascii, sorted(columns)))}")
        return quota

    @model_validator(mode="after")
    def _one_division(self) -> Self:
        if self.stratify is not None and self.quota:
            raise ValueError("--stratify and --quota both say how many rows of each value are chosen: choose one")
        return self

    @model_validator(mode="after")
    def _rows_of_a_target(self) -> Self:
        if self.target_rows is not None and self.target is None:
            raise ValueError("--target-rows needs --target: without examples there is no shortlist")
        return self

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What the quotas say."""
        return tuple(map(parse_quota, self.quota))

    @property
    def column(self) -> str | None:
        """The column whose values get so many rows each, if there is one."""
        return self.quotas[0].column if self.quota else self.stratify
