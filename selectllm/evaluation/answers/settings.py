"""What the commands that evaluate answers are told: the options of `evaluate answers` and `evaluate overlap`."""

from typing import Annotated, Any, Final, Literal, Self

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from selectllm.evaluation.answers.sources import Source, parse_source
from selectllm.evaluation.options import DEFAULT_STORE, EVALUATION, PagePlace, StorePlace, plainly
from selectllm.settings import (
    ColumnSettings,
    EmbeddingModelSettings,
    RankingSettings,
    RunSettings,
    Settings,
    check_batch,
    check_selector,
    flag,
)

Form = Literal["jsonl", "model-outputs", "model-answer"]
"""The forms that answers are written in: ours, AlpacaEval's model_outputs.json, and FastChat's model_answer."""

QUESTIONS_HELP: Final = """\
File of questions, in any format of a pool. Its rows that cannot be read, and its repeats, are not asked."""


@Parameter(name="*", group=EVALUATION)
class AskingSettings(Settings):
    """What all commands that ask models for answers have in common."""

    questions: str = Field(min_length=1, title="Questions", description=QUESTIONS_HELP)
    seeds: int = Field(1, ge=1, le=1000, kw_only=True, title="Seeds")
    """How often each question is asked, each time with another seed (1 to 1,000). At temperature 0 most servers answer
    the same each time."""
    seed: int = Field(0, ge=0, lt=2**31, kw_only=True, title="Seed")
    """The first of the seeds (0 to 2,147,483,647)."""
    max_tokens: int = Field(1024, ge=1, le=100_000, kw_only=True, title="Tokens of an answer")
    """The most tokens of an answer (1 to 100,000); an answer that needs more is cut off, and counted as such."""
    store: StorePlace = Field(DEFAULT_STORE, kw_only=True)
    out: str | None = Field(None, kw_only=True, title="Output file")
    """File for the result; nothing is written over."""
    columns: ColumnSettings = Field(ColumnSettings(), kw_only=True, title="Columns")
    ranking: RankingSettings = Field(RankingSettings(), kw_only=True, title="Ranking")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(self.seed, self.seed + self.seeds))

    def run(self, selector: str | None = None) -> RunSettings:
        """The settings of a run that asks this selector; a model thinks before its answers only when it is told to."""
        own: dict[str, Any] = {"pool": self.questions, "budget": 1, "quality": {"no_validate": True}}
        own |= {"selector": selector} if selector else {}
        shared = self.model_dump(exclude_unset=True, include=set(RunSettings.model_fields), exclude={"out", "seed"})
        return RunSettings.model_validate(shared | {"ranking": plainly(self.ranking, selector)} | own)


@Parameter(name="*", group=EVALUATION)
class AnswerSettings(AskingSettings):
    """One model's answers to a set of questions."""

    selector: str | None = Field(None, kw_only=True, title="Selector")
    """The model that answers: ollama:MODEL, embedded, embedded:/path/model.gguf or openai:MODEL."""
    predictions: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), kw_only=True, title="Predictions")
    """Files of answers that are there already, instead of a selector: rows with an output, AlpacaEval's
    model_outputs.json, or FastChat's model_answer. Each file more is a seed more."""
    name: str | None = Field(None, min_length=1, kw_only=True, title="Name")
    """What the model is called in the files. Default: the selector's own name."""
    form: Annotated[Form, flag("as")] = Field("jsonl", kw_only=True, title="Form")
    """The form of the output file: jsonl, model-outputs (AlpacaEval) or model-answer (FastChat)."""

    @property
    def source(self) -> Source:
        """Where the answers come from."""
        name = self.name or (self.selector or "").partition(":")[2] or self.selector or "predictions"
        return Source(name, self.selector, self.predictions)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.selector is None) == (not self.predictions):
            raise ValueError("answers come from a --selector or from --predictions: name one of them")
        if self.selector is not None:
            check_batch(self.selector, self.ranking)
        return self

    @field_validator("selector")
    @classmethod
    def _has_words(cls, selector: str | None) -> str | None:
        return None if selector is None else check_answering(selector)


@Parameter(name="*", group=EVALUATION)
class OverlapSettings(AskingSettings):
    """Several models' answers to the same questions, beside each other and beside references."""

    models: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], flag("model")] = Field(
        kw_only=True, title="Models"
    )
    """NAME=SELECTOR or NAME=FILE, once for each model, such as tuned=openai:tuned-7b or random=answers.jsonl. The same
    name again is a seed more of it, such as another tuning. Files as for --predictions of `evaluate answers`."""
    page: PagePlace = Field(None, min_length=1, kw_only=True)
    embedding: EmbeddingModelSettings = Field(EmbeddingModelSettings(), kw_only=True, title="Embedding")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The models in the order that they are first named in, each with all that it is named with."""
        found: dict[str, list[Source]] = {}
        for source in map(parse_source, self.models):
            found.setdefault(source.name, []).append(source)
        return tuple(source for sources in found.values() for source in sources)

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        for source in self.sources:
            if source.selector is not None:
                check_batch(source.selector, self.ranking)
        return self

    @field_validator("models")
    @classmethod
    def _can_be_read(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if not models:
            raise ValueError("--model is needed at least once, as NAME=SELECTOR or NAME=FILE")
        if twice := next((model for model in models if models.count(model) > 1), None):
            raise ValueError(f"--model {twice!r} is named twice: each is a model, or a seed, of its own")
        for source in map(parse_source, models):
            if source.selector is not None:
                check_answering(source.selector)
        return models


def check_answering(selector: str) -> str:
    """The selector itself; raises ValueError where it is of no known form, or has no words."""
    if check_selector(selector).startswith("scripted:"):
        raise ValueError(f"{selector} has no words to answer with: name a model")
    return selector
