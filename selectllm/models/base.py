"""The seam behind which every language model stands: a request goes in, a reply comes out."""

from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from selectllm.prompts import Prompt
from selectllm.store import digest

Mode = Literal["listwise", "pointwise"]
Think = Literal["low"] | bool
Quality = Literal["model", "demo", "scripted"]


THINKING_TOKENS: Final = 4096
"""Room for thinking before an answer, where a model is let think."""


def answer_tokens(wanted: int) -> int:
    """The most tokens of an answer that ranks so many candidates, or, for 0, of a single word."""
    return 32 + 8 * wanted if wanted else 1


def most_tokens(wanted: int, think: Think = False) -> int:
    """The most tokens of an answer, with what the model may think before it."""
    return answer_tokens(wanted) + (THINKING_TOKENS if think else 0)


@dataclass(frozen=True)
class ModelCard:
    """Who is asked. `digest` stands for the weights, so that replies of one model are never taken for another's."""

    selector: str
    name: str
    digest: str
    server_version: str
    quality: Quality
    mode: Mode

    @property
    def key(self) -> str:
        """The name of the model's folder in the store: the same, whatever the model is called."""
        return digest(self.digest)


@dataclass(frozen=True)
class Request:
    """One question to a model. What decides the reply is in `key`; hosts, timeouts and context sizes are not.

    `number` counts the passes over the same candidates, from 1; `room` multiplies the tokens that an answer may take.
    """

    prompt: Prompt
    seed: int = 0
    attempt: int = 1
    number: int = 1
    think: Think = False
    room: int = 1

    @property
    def num_predict(self) -> int:
        """The most tokens that the answer may take."""
        return most_tokens(self.prompt.wanted, self.think) * self.room

    def key(self, card: ModelCard) -> str:
        """The reply key, 32 hex digits: replies of equal key answer the same question to the same model."""
        decides = {
            "prompt": self.prompt.digest,
            "model": card.digest,
            "schema": self.prompt.schema,
            "temperature": 0,
            "seed": self.seed,
            "think": self.think,
            "num_predict": self.num_predict,
            "pass": self.number,
        }
        return digest(decides)


@dataclass(frozen=True)
class Reply:
    """What came back, as it came back. Durations are nanoseconds, as the server counted them; 0 where it did not."""

    text: str
    done_reason: str
    prompt_tokens: int = 0
    output_tokens: int = 0
    total_duration: int = 0
    load_duration: int = 0
    prompt_duration: int = 0
    output_duration: int = 0
    thinking: str = ""
    logprobs: dict[str, float] = field(default_factory=dict)  # of the first token's likeliest alternatives


class ChatModel(Protocol):
    """A language model that can be asked. Open it with `selectllm.models.open_model`, and close it."""

    @property
    def card(self) -> ModelCard:
        """Who this is."""

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer share, once it is prepared; None where nobody tells."""

    async def prepare(self, longest: int, room: int) -> None:
        """Get ready for prompts of up to `longest` bytes of UTF-8, and answers of up to `room` tokens.

        Raises PassingError or ModelError when it cannot.
        """

    async def answer(self, request: Request) -> Reply:
        """Answer one request, with a single try.

        Raises PassingError for what may pass, PromptTooLong when it does not fit, ModelError for all else.
        """

    async def probe(self) -> None:
        """Find out, cheaply, whether the host answers at all.

        Raises PassingError or ModelError when it does not.
        """

    async def close(self) -> None:
        """Let go of connections and weights."""
