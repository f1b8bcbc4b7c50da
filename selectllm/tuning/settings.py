"""What one fine-tuning is made of: the options of `selectllm tune`, and of its flow's form."""

from typing import Literal

from cyclopts import Group, Parameter
from pydantic import Field

from selectllm.settings import ColumnSettings, Settings


@Parameter(name="*", group=Group("Tuning", sort_key=1))
class TuningSettings(Settings):
    """One fine-tuning: a base model, rows with answers to train on, and rows with answers to test on."""

    train: str = Field(min_length=1, title="Training file")
    """Rows with answers to train on: what `selectllm annotations --to` writes, or a pool with a column of outputs."""
    out: str = Field(min_length=1, kw_only=True, title="Output folder")
    """Folder for checkpoints, scores and the tuned model. The same command goes on where it was stopped."""
    test: str | None = Field(None, min_length=1, kw_only=True, title="Held-out file")
    """Rows with answers that are not trained on: the loss of their answers is measured before and after."""
    base: str | None = Field(None, min_length=1, kw_only=True, title="Base model")
    """The model to tune: a GGUF file of the architecture llama, or a folder of transformers. The demo model when not
    given."""
    epochs: int = Field(1, ge=1, le=1000, kw_only=True, title="Epochs")
    """How often each row is trained on (1 to 1,000)."""
    batch: int = Field(4, ge=1, le=1024, kw_only=True, title="Rows of a step")
    """How many rows one step reads (1 to 1,024)."""
    learning_rate: float = Field(2e-4, gt=0, le=1, kw_only=True, title="Learning rate")
    """The step size of AdamW at the first step; it falls to 0 in a straight line."""
    max_tokens: int = Field(512, ge=8, le=131_072, kw_only=True, title="Most tokens")
    """Longer rows lose the end of their answers; rows whose questions alone are longer are left out (8 to 131,072)."""
    precision: Literal["float32", "bfloat16"] = Field("float32", kw_only=True, title="Precision")
    """What training computes in; bfloat16 is faster where the processor has it. Scores are always in float32."""
    checkpoint_every: int = Field(20, ge=1, kw_only=True, title="Steps between checkpoints")
    """After how many steps the state is written down (1 or more)."""
    seed: int = Field(0, ge=0, lt=2**31, kw_only=True, title="Seed")
    """Decides the first adapters and the order of the rows (0 to 2,147,483,647)."""
    no_export: bool = Field(False, kw_only=True, title="No export")
    """Write no tuned model, only its scores and the checkpoint."""
    columns: ColumnSettings = Field(ColumnSettings(), kw_only=True, title="Columns")
