"""Ollama's requests, as the embedded server accepts them, and those parts of its answers that need no server.

Fields that are not named here are ignored, as Ollama does; a field of the wrong type is an error. An empty string or
list means that the field was not given: the official client sends `""` for text that it has not.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from selectllm.llm.engine import Completion

# The commonest values of GGUF's general.file_type.
FILE_TYPES: Final = {1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 15: "Q4_K_M", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"}


class Wire(BaseModel):
    """What all requests have in common: types are strict, so that `"10"` is no number."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Options(Wire):
    """How to sample. Other options have no effect here: `num_ctx` is fixed when the server starts, see /api/ps."""

    temperature: float | None = None
    seed: int | None = None
    num_predict: int | None = None
    stop: str | list[str] | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    num_ctx: int | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given, `stop` always as a list."""
        options = self.model_dump(exclude_none=True)
        if isinstance(self.stop, str):
            options["stop"] = [self.stop]
        return options


class Named(Wire):
    """A request that names a model."""

    model: str

    def unsupported(self) -> str | None:
        """Return what is asked for that the embedded server does not do, if anything."""
        return None


class Generation(Named):
    """What /api/chat and /api/generate have in common."""

    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    stream: bool | None = None
    think: bool | str | None = None
    keep_alive: str | float | None = None  # without effect: the model stays loaded as long as the server runs
    # Both have no effect: a prompt that is too long is always refused. Ollama's default is to cut its middle out
    # without a word, which a batch of thousands of prompts cannot notice.
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)

    @property
    def json_schema(self) -> dict[str, Any] | None:
        """The JSON schema to hold the answer to, if any."""
        return {"type": "object"} if self.format == "json" else self.format or None

    def unsupported(self) -> str | None:
        """Return what is asked for that the embedded server does not do, if anything."""
        return "thinking" if self.think else None


class Message(Wire):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    images: list[str] | None = None
    tool_calls: list[Any] | None = None


class ChatRequest(Generation):
    """The body of /api/chat; without messages it only loads the model."""

    messages: list[Message] | None = None
    tools: list[Any] | None = None

    def unsupported(self) -> str | None:
        """Return what is asked for that the embedded server does not do, if anything."""
        if self.tools or any(message.tool_calls for message in self.messages or ()):
            return "tools"
        if any(message.images for message in self.messages or ()):
            return "images"
        return super().unsupported()

    def turns(self) -> list[dict[str, str]]:
        """Return the conversation for the engine."""
        return [{"role": message.role, "content": message.content} for message in self.messages or ()]


class GenerateRequest(Generation):
    """The body of /api/generate; without a prompt it only loads the model."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[str] | None = None

    def unsupported(self) -> str | None:
        """Return what is asked for that the embedded server does not do, if anything."""
        if self.raw and self.format:
            return "format with a raw prompt"
        if self.raw and self.system:
            return "system with a raw prompt"
        for field in ("suffix", "template", "context", "images"):
            if getattr(self, field):
                return field
        return super().unsupported()

    def turns(self) -> list[dict[str, str]]:
        """Return the prompt as a conversation for the engine."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt or ""}]


class EmbedRequest(Named):
    """The body of /api/embed; a text that is too long is refused, whatever `truncate` says."""

    input: str | list[str]
    truncate: bool | None = None
    dimensions: int | None = None
    options: Options | None = None
    keep_alive: str | float | None = None

    def unsupported(self) -> str | None:
        """Return what is asked for that the embedded server does not do, if anything."""
        return "dimensions" if self.dimensions else None

    def texts(self) -> list[str]:
        """Return the texts to embed."""
        return [self.input] if isinstance(self.input, str) else self.input


def tagged(name: str) -> str:
    """Return a model's name with its tag, which is `latest` where none is written."""
    return name if ":" in name else f"{name}:latest"


def details(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the lists say of a model, as far as the header of its GGUF file tells it."""
    family = header["general.architecture"]
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": header.get("general.size_label", "unknown"),
        "quantization_level": FILE_TYPES.get(header.get("general.file_type", -1), "unknown"),
    }


def counters(completion: Completion) -> dict[str, Any]:
    """Return why a generation ended, its tokens, and its nanoseconds, as the last event tells them."""
    return {
        "done_reason": completion.finish,
        "prompt_eval_count": completion.prompt_tokens,
        "prompt_eval_duration": completion.prompt_ns,
        "eval_count": completion.output_tokens,
        "eval_duration": completion.output_ns,
    }
