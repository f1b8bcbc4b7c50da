"""One run, of all groups of settings."""

from typing import Annotated, Final, Self

from cyclopts import Group, Parameter
from pydantic import Field, field_validator, model_validator

from selectllm.settings.aim import AimSettings
from selectllm.settings.base import Settings
from selectllm.settings.data import ColumnSettings, EmbeddingSettings, QualitySettings
from selectllm.settings.ranking import QuerySettings, RankingSettings
from selectllm.settings.selector import SELECTOR_FORMS, check_batch, check_selector

NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
"""What a history or a slot may be called: it becomes the name of a file."""


@Parameter(name="*", group=Group("Run", sort_key=1))
class RunSettings(Settings):
    """One run, from a pool to `budget` chosen rows."""

    pool: str = Field(min_length=1, title="Pool")
    """File of instructions: JSONL, JSON, CSV, TSV, Parquet or Arrow, also compressed; a path, URL or
    hf://datasets/..., a folder or pattern (*) of such files, or - for standard input."""
    more_files: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), title="More files")
    """Any number of files, folders or patterns more, of any of these formats, whose rows stand behind the pool's."""
    budget: int = Field(ge=1, kw_only=True, title="Budget")
    """How many rows to choose, N (from 1 to the rows of the pool)."""
    selector: str = Field(
        "embedded",
        kw_only=True,
        title="Selector",
        description=f"The model that ranks: {SELECTOR_FORMS}. 'embedded' is a small demo model.",
    )
    criteria: str | None = Field(None, kw_only=True, title="Criteria")
    """What is worth paying for, in your own words: a domain, a language, a skill to strengthen. A text, or the path of
    a file that holds it (UTF-8, at most 4,000 characters). It takes the place of the five built-in criteria."""
    reasons: bool = Field(False, kw_only=True, title="Reasons")
    """Have the model say, in one sentence for each chosen row, why it is worth it: one more question a row."""
    strategy: str = Field("selectllm", min_length=1, kw_only=True, title="Strategy")
    """How rows are chosen. By a model: selectllm (it ranks the rows of small queries), qdit, alpagasus, deita,
    open-endedness; by a model's weights: perplexity-low, -mid, -high; by neither: random, longest, shortest,
    stratified, kcenter, facility, probcover, novelselect, rouge-diversity. An installed package can bring others along:
    an unknown name lists them."""
    diversity: float = Field(0, ge=0, le=1, kw_only=True, title="Diversity")
    """How much it counts, against ratings, that the chosen rows are unlike and together cover the others (0 to 1). 0:
    the rows that come first are chosen."""
    near_duplicate: float | None = Field(None, gt=0, le=1, kw_only=True, title="Near-duplicates")
    """Pass over rows whose vectors have this cosine, or a higher one, to that of a chosen row (more than 0 and up to
    1), such as 0.95. Default: no row is passed over."""
    seed: int = Field(0, ge=0, lt=2**32, kw_only=True, title="Seed")
    """Fixes clustering, matching and the order that candidates are shown in (0 to 4,294,967,295)."""
    store: str = Field("./artifacts", min_length=1, kw_only=True, title="Store")
    """Folder or URL where every step keeps its Parquet, shared by all runs."""
    exclude: tuple[str, ...] = Field((), kw_only=True, title="Exclude")
    """Any number of files of rows not to choose: lists of ids, earlier selections, annotations."""
    history: Annotated[str, Field(pattern=NAME)] | None = Field(None, kw_only=True, title="History")
    """Name of a history in the store: rows that runs of this name have chosen are not chosen again."""
    slot: Annotated[str, Field(pattern=NAME)] | None = Field(None, kw_only=True, title="Slot")
    """Which run of the history this is: run again for the same slot it returns the same rows. Default: a new one on the
    command line; of a flow, its scheduled time or its id."""
    requery: bool = Field(False, kw_only=True, title="Build queries anew")
    """Divide the whole pool anew, instead of keeping the queries of the pool that it grew from."""
    out: str | None = Field(None, kw_only=True, title="Output folder")
    """Folder for selection.parquet, selection.jsonl, quarantine.parquet, summary.json."""
    columns: ColumnSettings = Field(ColumnSettings(), kw_only=True, title="Columns")
    aim: AimSettings = Field(AimSettings(), kw_only=True, title="Aim")
    embedding: EmbeddingSettings = Field(EmbeddingSettings(), kw_only=True, title="Embedding")
    queries: QuerySettings = Field(QuerySettings(), kw_only=True, title="Queries")
    ranking: RankingSettings = Field(RankingSettings(), kw_only=True, title="Ranking")
    quality: QualitySettings = Field(QualitySettings(), kw_only=True, title="Quality")

    @property
    def pools(self) -> tuple[str, ...]:
        """All locations of the pool's files, in order."""
        return self.pool, *self.more_files

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.slot is not None and self.history is None:
            raise ValueError("--slot needs --history: a slot is a run's place in a history")
        if self.selector.startswith("scripted:") and self.ranking.mode == "pointwise":
            raise ValueError("--mode pointwise needs a model with log-probabilities: scripted selectors rank lists")
        if self.reasons and self.selector.startswith("scripted:"):
            raise ValueError("--reasons needs a model: scripted selectors go by a rule, and have no words")
        if (wanted := sum(quota.wanted for quota in self.aim.quotas)) > self.budget:
            raise ValueError(f"the quotas sum to {wanted:,}, and the budget is {self.budget:,}: lower one of them")
        if self.aim.target_rows is not None and self.aim.target_rows < self.budget:
            raise ValueError(f"--target-rows cannot be {self.aim.target_rows:,}: the budget is {self.budget:,}")
        check_batch(self.selector, self.ranking)
        return self

    @field_validator("selector")
    @classmethod
    def _known_selector(cls, selector: str) -> str:
        return check_selector(selector)
