"""The seam behind which every language model stands: a request goes in, a reply comes out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal, Protocol

from selectllm.llm.keys import without_key
from selectllm.store import digest

Mode = Literal["listwise", "pointwise"]
Think = Literal["low"] | bool
Kind = Literal["model", "demo", "scripted"]
Role = Literal["system", "user", "assistant"]
Turn = tuple[Role, str]
"""Who says something in a conversation, and what."""

THINKING_TOKENS: Final = 4096
"""Room for thinking before an answer, for a model that may think."""


@dataclass(frozen=True)
class ModelInfo:
    """The model that is asked. `digest` stands for the weights, so that replies of two models are never confused."""

    selector: str
    name: str
    digest: str
    server_version: str
    kind: Kind
    mode: Mode
    may_think: bool = False  # before it answers, as far as its server says
    think: Think = False  # how it is asked to, once that is decided

    @property
    def key(self) -> str:
        """The name of the model's folder in the store: the same, whatever the model is called."""
        return digest(self.digest)


@dataclass(frozen=True)
class Request:
    """One question to a model.

    What decides the reply is in `key`: the text with what was said before it, the schema, the seed, the temperature,
    `think`, `max_tokens` and the pass. Hosts, timeouts and context sizes are not. The other fields are notes for the
    ledger: `question` says what the request is for ("query 17, pass 2"), `shown` names what the text shows, in its
    order, `attempt` counts the tries from 1, and `describe` names, in a word or two, what reading the reply gives.
    """

    text: str
    schema: dict[str, Any] | None = None
    """The JSON schema that the answer is held to."""
    logprobs: bool = False
    """Whether the text is continued as it stands by one token, whose log-probabilities are the answer."""
    max_tokens: int = 1
    seed: int = 0
    before: tuple[Turn, ...] = ()
    """What was said before the text, in order: a system prompt, earlier questions and their answers."""
    temperature: float = 0  # the whole number 0 where nothing is drawn: keys are digests of what is written so
    think: Think = False
    pass_index: int = 1
    question: str = ""
    shown: tuple[str, ...] = ()
    attempt: int = 1
    describe: Callable[["Reply"], str] | None = field(default=None, compare=False)

    @cached_property
    def text_digest(self) -> str:
        """32 hex digits that stand for the text, and for what was said before it."""
        return digest(self.text, [list(turn) for turn in self.before]) if self.before else digest(self.text)

    @cached_property
    def whole_text(self) -> str:
        """All that the model has to read."""
        return "\n".join([*(text for _, text in self.before), self.text])

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation that a chat is asked to go on with."""
        return [{"role": role, "content": text} for role, text in (*self.before, ("user", self.text))]

    def key(self, info: ModelInfo) -> str:
        """The reply key, 32 hex digits: replies of equal key answer the same question to the same model."""
        decides = {
            "prompt": self.text_digest,
            "model": info.digest,
            "schema": self.schema,
            "temperature": self.temperature,
            "seed": self.seed,
            "think": self.think,
            "num_predict": self.max_tokens,
            "pass": self.pass_index,
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


def without_secret(reply: Reply, secret: str) -> Reply:
    """A reply without a key that its server has repeated: replies are kept, and shown."""
    if secret and secret in f"{reply.text}{reply.thinking}":
        return replace(reply, text=without_key(reply.text, secret), thinking=without_key(reply.thinking, secret))
    return reply


class ChatModel(Protocol):
    """A language model that can be asked. Open it with `selectllm.llm.open_model`, and close it."""

    @property
    def info(self) -> ModelInfo:
        """Who this is."""

    @property
    def host(self) -> str:
        """Where it is, for messages: the URL of its server, without secrets."""

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer share, once it is prepared; None where nobody says."""

    async def prepare(self, longest: int, max_tokens: int) -> None:
        """Get ready for prompts of up to `longest` bytes of UTF-8, and answers of up to `max_tokens` tokens.

        Raises TransientError or ModelError when it cannot.
        """

    async def answer(self, request: Request) -> Reply:
        """Answer one request, with a single try.

        Raises TransientError for what may pass, ContextLengthExceeded when it does not fit, ModelError for all else.
        """

    async def probe(self) -> None:
        """Find out, cheaply, whether the host answers at all; raises TransientError or ModelError when it does not."""

    async def verify(self) -> None:
        """Raise ModelChanged when the host has other weights under the model's name by now, where it says so.

        Raises TransientError or ModelError when it does not answer.
        """

    async def close(self) -> None:
        """Release connections and weights."""
