"""What a pool is read, embedded and checked by."""

from typing import Annotated, Final, Literal, Self

from cyclopts import Group, Parameter
from pydantic import Field, field_validator, model_validator

from selectllm.settings.base import Settings, flag

ROLES: Final = ("user", "assistant", "system")
"""What a turn of a conversation can be."""


@Parameter(name="*", group=Group("Columns", sort_key=2))
class ColumnSettings(Settings):
    """Which columns of the pool mean what; columns left empty are recognised (Alpaca, Dolly, prompts, chats)."""

    instruction: Annotated[str | None, flag("instruction-column")] = Field(None, title="Instruction column")
    """Column that holds the instruction, or conversations. Recognised when not given."""
    input: Annotated[str | None, flag("input-column")] = Field(None, title="Input column")
    """Column that holds the instruction's input. Recognised when not given."""
    output: Annotated[str | None, flag("output-column")] = Field(None, title="Output column")
    """Column that holds a known answer; carried along, never shown to a model."""
    turn: Literal["first", "last"] = Field("last", title="Turn")
    """Which user turn of a conversation is to be answered: first or last. The turns before it are its input."""
    role_map: str | None = Field(None, title="Role map")
    """Unusual tags of a conversation's turns, such as user=customer,assistant=agent."""

    @field_validator("role_map")
    @classmethod
    def _known_roles(cls, role_map: str | None) -> str | None:
        pairs = [pair.partition("=") for pair in role_map.split(",")] if role_map is not None else []
        if not all(role.strip() in ROLES and tag.strip() for role, _, tag in pairs):
            raise ValueError(f"--role-map cannot be {role_map!r}: write roles with their tags, as in user=customer")
        return role_map


@Parameter(name="*", group=Group("Embedding", sort_key=3))
class EmbeddingModelSettings(Settings):
    """The model that makes vectors of texts."""

    model: Annotated[str, flag("embedding-model")] = Field("all-MiniLM-L6-v2", min_length=1, title="Embedding model")
    """A sentence-transformers model: a name on the hub, or the path of a folder."""


@Parameter(name="*", group=Group("Embedding", sort_key=3))
class EmbeddingSettings(EmbeddingModelSettings):
    """How instructions become vectors."""

    given: Annotated[str | None, flag("embeddings")] = Field(None, min_length=1, title="Embeddings")
    """Vectors that you have made yourself; no model is loaded then. A file, such as vectors.parquet, with a column `id`
    and one of lists of numbers, or the name of such a column of the pool."""


@Parameter(name="*", group=Group("Quality", sort_key=6))
class QualitySettings(Settings):
    """How Great Expectations validates the data: the pool, its embeddings and the rankings."""

    no_validate: bool = Field(False, title="Do not validate")
    """Do without Great Expectations; the cheap checks between the steps are always made."""
    expectations: str | None = Field(None, title="Expectations")
    """YAML or JSON file of expectations of your own about the pool, in Great Expectations' format."""
    data_docs: str | None = Field(None, title="Data Docs")
    """Folder for Great Expectations' pages about this run; they load assets from the internet."""

    @model_validator(mode="after")
    def _either_or(self) -> Self:
        if self.no_validate and (self.expectations or self.data_docs):
            raise ValueError("--no-validate leaves nothing for --expectations or --data-docs to do: choose one")
        return self
