"""What `evaluate mt-bench` is told."""

from typing import Annotated, Any, Literal, Self

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from selectllm.evaluation.answers.settings import check_answering
from selectllm.evaluation.answers.sources import Source, parse_source
from selectllm.evaluation.options import DEFAULT_STORE, EVALUATION, PagePlace, StorePlace, plainly
from selectllm.settings import RankingSettings, RunSettings, Settings, check_batch, flag


@Parameter(name="*", group=EVALUATION)
class MtBenchSettings(Settings):
    """Models' answers to two-turn questions, and what a judge says of them."""

    questions: str = Field(min_length=1, title="Questions")
    """JSONL file of questions in MT-Bench's shape: question_id, category, and one turn or two."""
    models: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], flag("model")] = Field(
        kw_only=True, title="Models"
    )
    """NAME=SELECTOR or NAME=FILE, once for each model; a file is FastChat's model_answer, of its first choice."""
    judge: str | None = Field(None, kw_only=True, title="Judge")
    """The model that judges, any selector with words. Without one, and without judgments, answers are collected."""
    judge_hosts: Annotated[tuple[str, ...], flag("judge-host")] = Field((), kw_only=True, title="Judge's hosts")
    """URLs of the judge's servers. Default: those of --host."""
    judgments: str | None = Field(None, min_length=1, kw_only=True, title="Judgments")
    """FastChat's model_judgment file, in place of a judge."""
    mode: Annotated[Literal["single", "pairwise"], flag("judging")] = Field("single", kw_only=True, title="Judging")
    """single: each answer is rated from 1 to 10. pairwise: each model is compared with the first, in both orders."""
    references: str | None = Field(None, min_length=1, kw_only=True, title="References")
    """Reference answers for math, reasoning and coding, in FastChat's model_answer shape."""
    prompts: str | None = Field(None, min_length=1, kw_only=True, title="Prompts")
    """Judge prompts in FastChat's shape, such as MT-Bench's own. Default: our wording, answered in JSON."""
    max_tokens: int = Field(1024, ge=1, le=100_000, kw_only=True, title="Tokens of an answer")
    """The most tokens of an answer to a question (1 to 100,000)."""
    store: StorePlace = Field(DEFAULT_STORE, kw_only=True)
    out: str | None = Field(None, kw_only=True, title="Output folder")
    """Folder for scores.json, model_answer/ and model_judgment/, as FastChat lays them out; nothing is written over."""
    page: PagePlace = Field(None, min_length=1, kw_only=True)
    ranking: RankingSettings = Field(RankingSettings(), kw_only=True, title="Ranking")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The models in their order."""
        return tuple(map(parse_source, self.models))

    @property
    def judged_by(self) -> str:
        """Who judges, in one line."""
        return self.judge or ("given judgments" if self.judgments is not None else "no judge")

    def run(self, selector: str | None = None, *, judges: bool = False) -> RunSettings:
        """The settings of a run that asks this selector; a model thinks first only when it is told to."""
        ranking = plainly(self.ranking, selector)
        if judges and self.judge_hosts:
            ranking["hosts"] = self.judge_hosts
        own: dict[str, Any] = {"pool": self.questions, "budget": 1, "quality": {"no_validate": True}}
        own |= {"selector": selector} if selector else {}
        return RunSettings.model_validate(own | {"store": self.store, "ranking": ranking})

    @field_validator("models")
    @classmethod
    def _can_be_read(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        sources = list(map(parse_source, models))
        names = [source.name for source in sources]
        if not names or len(set(names)) < len(names):
            raise ValueError("--model is needed at least once, as NAME=SELECTOR or NAME=FILE, each with its own name")
        for source in sources:
            if source.selector is not None:
                check_answering(source.selector)
        return models

    @field_validator("judge")
    @classmethod
    def _judge_has_words(cls, judge: str | None) -> str | None:
        return None if judge is None else check_answering(judge)

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.judge is not None and self.judgments is not None:
            raise ValueError("--judge and --judgments both say what the answers are worth: choose one")
        if self.mode == "pairwise" and len(self.models) < 2:
            raise ValueError("--judging pairwise needs two --model or more: all are compared with the first")
        for source in self.sources:
            if source.selector is not None:
                check_batch(source.selector, self.ranking)
        if self.judge is not None:
            hosts = self.judge_hosts or self.ranking.hosts
            check_batch(self.judge, self.ranking.model_copy(update={"hosts": hosts}))
        return self
