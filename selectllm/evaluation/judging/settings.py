"""What the commands that have a model judge pairs are told: the judge, how it is asked, and what is judged."""

from typing import Literal, Self

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from selectllm.evaluation.options import DEFAULT_STORE, EVALUATION, PagePlace, StorePlace
from selectllm.settings import RankingSettings, RunSettings, Settings, check_batch, check_selector

Preference = Literal["auto", "odds", "choice"]


@Parameter(name="*", group=EVALUATION)
class JudgeSettings(Settings):
    """A model that judges which of two answers is better."""

    selector: str | None = Field(None, kw_only=True, title="Judge")
    """The judge, as for `select`: ollama:MODEL, openai:MODEL, embedded:PATH. It has to be named, here or by
    SELECTLLM_SELECTOR."""
    preference: Preference = Field("auto", kw_only=True, title="Preference")
    """odds: a probability, by the judge's log-probabilities. choice: the one or the other. auto: odds where the server
    gives them; one question decides."""
    both_orders: bool = Field(False, kw_only=True, title="Both orders")
    """Ask about each pair twice, each answer first once. Else the seed draws the order."""
    seed: int = Field(0, ge=0, lt=2**32, kw_only=True, title="Seed")
    """Decides which answer is shown first (0 to 4,294,967,295)."""
    resample_seed: int = Field(0, ge=0, kw_only=True, title="Seed of the intervals")
    """Decides the rows that the intervals are drawn from (0 or more)."""
    store: StorePlace = Field(DEFAULT_STORE, kw_only=True)
    page: PagePlace = Field(None, min_length=1, kw_only=True)
    ranking: RankingSettings = Field(RankingSettings(), kw_only=True, title="Ranking")

    def run(self) -> RunSettings:
        """The settings of the judge's run."""
        own = self.model_dump(exclude_unset=True, include={"selector", "seed", "store", "ranking"})
        if self.selector is None:  # what the environment names, else nobody: the default is no judge
            own.pop("selector", None)
            own["ranking"] = own.get("ranking", {}) | {"batch": False}
        return RunSettings.model_validate({"pool": "-", "budget": 1, "quality": {"no_validate": True}} | own)

    @field_validator("selector")
    @classmethod
    def _known_selector(cls, selector: str | None) -> str | None:
        return None if selector is None else check_selector(selector)

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.selector is not None:
            check_batch(self.selector, self.ranking)
        return self


@Parameter(name="*", group=EVALUATION)
class AgreementSettings(JudgeSettings):
    """A judge beside people's or published preferences."""

    given: str = Field(min_length=1, kw_only=True, title="Given preferences")
    """File of people's or published preferences: `instruction`, `output_1`, `output_2`, `preference` (1 to 2, 0 for a
    draw)."""
    annotations: str | None = Field(None, min_length=1, kw_only=True, title="Annotations")
    """The judge's annotations of the same pairs. Without it, the judge is asked."""
