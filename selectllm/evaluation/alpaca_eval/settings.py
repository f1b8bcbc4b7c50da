"""What `evaluate alpaca-eval` is told."""

from typing import Self

from cyclopts import Parameter
from pydantic import Field, model_validator

from selectllm.evaluation.judging.settings import JudgeSettings
from selectllm.evaluation.options import EVALUATION


@Parameter(name="*", group=EVALUATION)
class AlpacaEvalSettings(JudgeSettings):
    """A model's answers beside a baseline's, and what a judge says of them, or has said."""

    outputs: str | None = Field(None, min_length=1, kw_only=True, title="Outputs")
    """The model's answers, to be judged: `instruction`, `output`, `generator`."""
    baseline: str | None = Field(None, min_length=1, kw_only=True, title="Baseline")
    """The baseline's answers to the same instructions."""
    out: str | None = Field(None, min_length=1, kw_only=True, title="Output file")
    """A new file for the annotations, in AlpacaEval's format."""
    annotations: str | None = Field(None, min_length=1, kw_only=True, title="Annotations")
    """File of annotations, in place of answers: AlpacaEval's annotations.json, or a table with `preference` (0 to 1),
    `len_baseline` and `len_model`."""
    model: str | None = Field(None, min_length=1, kw_only=True, title="Model")
    """The model to score, in a file of annotations of several."""
    difficulty: str | None = Field(None, min_length=1, kw_only=True, title="Difficulty")
    """Table with `index` and `difficulty` of each question. Without it, the fit goes without."""
    regularizer: str | None = Field(None, min_length=1, kw_only=True, title="Regulariser")
    """Table of rows that were played for length: `std_delta_len`, `preference` (0 to 1), `difficulty`. Without it, the
    fit goes without."""

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.annotations is not None and (self.outputs or self.baseline or self.out):
            raise ValueError("--annotations holds judgements already: leave out --outputs, --baseline and --out")
        if self.annotations is None and self.model is not None:
            raise ValueError("--model is of a file of --annotations: answers are all of one model")
        if self.out is not None and "://" in self.out:
            raise ValueError(f"--out {self.out} is a URL: name a path of this machine")
        return self
