"""What one comparison is made of: the options of `compare`, and of its flow's form."""

from typing import Annotated, Any, Final, Self

from cyclopts import Group, Parameter
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from selectllm.settings import (
    AimSettings,
    ColumnSettings,
    EmbeddingSettings,
    QualitySettings,
    QuerySettings,
    RankingSettings,
    RunSettings,
    Settings,
    check_selector,
)

OWN: Final = frozenset({"budget", "selector", "strategy"})
"""Settings of a run that each cell has for itself."""


def _described(name: str) -> Any:
    """The description of a field of RunSettings, for a field that means the same."""
    return RunSettings.model_fields[name].description


@Parameter(name="*", group=Group("Comparison", sort_key=1))
class ComparisonSettings(Settings):
    """One comparison: the same pool, chosen from by several strategies, selectors, budgets and seeds."""

    pool: str = Field(min_length=1, title="Pool", description=_described("pool"))
    more_files: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), title="More files", description=_described("more_files")
    )
    budgets: tuple[Annotated[int, Field(ge=1)], ...] = Field(kw_only=True, title="Budgets")
    """How many rows to choose, N: one number or several, such as 100,300,1000."""
    strategies: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("selectllm", "longest", "kcenter", "facility"), kw_only=True, title="Strategies"
    )
    """What to compare with random, which is always there: names of strategies, with commas between them, as --strategy
    of select. Also selectllm-tiers, selectllm-ratings and selectllm-paper: selectllm by these settings."""
    selectors: tuple[Annotated[str, Field(min_length=1)], ...] = Field(("embedded",), kw_only=True, title="Selectors")
    """The models of strategies that ask one, each in turn, with commas between them: as --selector of select."""
    seeds: int = Field(5, ge=1, le=1000, kw_only=True, title="Seeds")
    """How often everything that is drawn is drawn anew (1 to 1,000)."""
    labels: str | None = Field(None, min_length=1, kw_only=True, title="Labels")
    """Column of the pool that says how much each row is worth: 0 or 1, or a score. It adds recall and AUC, and no
    strategy sees it."""
    criteria: str | None = Field(None, kw_only=True, title="Criteria", description=_described("criteria"))
    seed: int = Field(0, ge=0, lt=2**31, kw_only=True, title="Seed")
    """The first of the seeds (0 to 2,147,483,647)."""
    store: str = Field("./artifacts", min_length=1, kw_only=True, title="Store", description=_described("store"))
    out: str | None = Field(None, kw_only=True, title="Output folder")
    """Folder for comparison.md, comparison.html, comparison.parquet, summary.csv, selections.parquet and pictures."""
    columns: ColumnSettings = Field(ColumnSettings(), kw_only=True, title="Columns")
    aim: AimSettings = Field(AimSettings(), kw_only=True, title="Aim")
    embedding: EmbeddingSettings = Field(EmbeddingSettings(), kw_only=True, title="Embedding")
    queries: QuerySettings = Field(QuerySettings(), kw_only=True, title="Queries")
    ranking: RankingSettings = Field(RankingSettings(), kw_only=True, title="Ranking")
    quality: QualitySettings = Field(QualitySettings(), kw_only=True, title="Quality")

    def run(self, budget: int, seed: int, selector: str | None) -> RunSettings:
        """The settings of one run of the comparison, by the default strategy; without a selector it asks no model."""
        # What is left open stays open, for the environment of a flow to name. What a comparison has no option for is
        # not: a history of the environment would keep each cell from the rows of the one before.
        fields = RunSettings.model_fields
        fixed = {name: fields[name].get_default() for name in fields.keys() - type(self).model_fields - OWN} | {
            "out": None
        }
        shared = self.model_dump(exclude_unset=True, include=set(fields), exclude={"out"})
        own: dict[str, Any] = {"budget": budget, "seed": seed}
        if selector:
            own["selector"] = selector
        else:
            shared["ranking"] = shared.get("ranking", {}) | {"batch": False}
        return RunSettings.model_validate(fixed | shared | own)

    @field_validator("budgets", "strategies", "selectors", mode="before")
    @classmethod
    def _with_commas(cls, values: Any) -> Any:
        """Of a list of texts each may hold several values, with commas between them."""
        texts = [values] if isinstance(values, str) else values
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            return values
        return [part.strip() for text in texts for part in text.split(",") if part.strip()]

    @field_validator("budgets", "strategies", "selectors")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        if not values:
            raise ValueError(f"--{info.field_name} needs at least one value")
        return tuple(dict.fromkeys(values))

    @field_validator("selectors")
    @classmethod
    def _known_selectors(cls, selectors: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_selector(selector) for selector in selectors)

    @model_validator(mode="after")
    def _runs_are_allowed(self) -> Self:
        """What a single run would refuse is refused before any, such as quotas that sum to more than a budget."""
        for selector in self.selectors:
            for budget in {min(self.budgets), max(self.budgets)}:
                try:
                    self.run(budget, self.seed, selector)
                except ValidationError as error:
                    raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self
