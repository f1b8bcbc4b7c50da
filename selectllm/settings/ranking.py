"""What a model is asked, and how."""

from typing import Annotated, Final, Literal, Self

from cyclopts import Group, Parameter
from pydantic import Field, model_validator

from selectllm.settings.base import Settings, flag

Composition = Literal["matched", "paper", "random", "similar"]
"""How a query is put together: see `selectllm.queries`."""

BATCH_PRICE: Final = 0.5
"""What a token costs in a batch, as a share of its price. Source: OpenAI's guide to its Batch API."""


@Parameter(name="*", group=Group("Queries", sort_key=4))
class QuerySettings(Settings):
    """How the pool is divided into the small groups that a model ranks at once."""

    size: Annotated[int, flag("query-size")] = Field(14, ge=2, le=200, title="Query size")
    """Rows that a model ranks at once, K (2 to 200)."""
    composition: Annotated[Composition, flag("composition")] = Field("matched", title="Composition")
    """How queries are built: matched (unlike rows together), paper (the published way), random, similar (like rows
    together)."""


@Parameter(name="*", group=Group("Ranking", sort_key=5))
class RankingSettings(Settings):
    """How the model is asked."""

    hosts: Annotated[tuple[str, ...], flag("host")] = Field((), title="Hosts")
    """URLs of the model's servers, which share the load. Default: the environment's OLLAMA_HOST (for openai:
    OPENAI_BASE_URL), else the usual one."""
    mode: Literal["auto", "listwise", "pointwise"] = Field("auto", title="Mode")
    """listwise: a query is one question. pointwise: each candidate is one, scored by log-probabilities. auto: listwise,
    but pointwise for the embedded demo."""
    depth: int = Field(3, ge=1, le=200, title="Depth")
    """How many of each query the model ranks at first (1 to 200). Grows by itself when the budget needs more."""
    passes: int = Field(1, ge=1, le=50, title="Passes")
    """How often each query is asked about, shuffled anew; the answers are put together (1 to 50)."""
    gather: Literal["auto", "tiers", "ratings"] = Field("auto", title="Gathering")
    """How answers become N rows. tiers: all the firsts, then all the seconds, as in the paper; exact. ratings: each row
    is rated from all answers about it. auto: ratings, but tiers pointwise, for the composition paper and for scripted
    selectors."""
    looks: float = Field(0.2, ge=0, le=10, title="Further looks")
    """With ratings: the most further questions about rows near the cut, as a share of the queries (0 to 10)."""
    candidate_chars: int = Field(2000, ge=100, le=100_000, title="Characters of a candidate")
    """Longer candidates are shown to the model clipped, and visibly so (100 to 100,000)."""
    think: Literal["auto", "off", "low", "on"] = Field("auto", title="Thinking")
    """Whether a model that can think first does: off, low or on. auto: off where its answers are right without, else
    low, else on; one question decides."""
    concurrency: int = Field(4, ge=1, le=256, title="Concurrency")
    """The most questions under way at once on a host (1 to 256); fewer while it is slow."""
    timeout: float = Field(120, gt=0, title="Timeout")
    """Seconds that one request may take (more than 0); twice as many after one that took longer, up to the deadline."""
    deadline: float = Field(600, gt=0, title="Deadline")
    """Seconds that one question may take with all its retries, and that loading the model may take (more than 0)."""
    retries: int = Field(4, ge=0, le=100, title="Retries")
    """Further tries after failures that can pass (0 to 100)."""
    give_up_after: float = Field(900, ge=0, title="Give up after")
    """Seconds that a server which has answered may then be out, or refuse all questions (0 or more)."""
    batch: bool = Field(False, title="Batch")
    """Send all questions of a round as one batch, at half the price and within a day each (selectors openai:, of a
    server that has OpenAI's Batch API). A run that is stopped or killed takes its batches up when it is run again."""
    reask: bool = Field(False, title="Ask again")
    """Ask once more about queries without a usable answer. A new run does so by itself where the last one failed."""
    max_abstained: float = Field(0.05, ge=0, le=1, title="Most abstentions")
    """Share of queries without a usable answer beyond which the run stops and fails (0 to 1)."""
    max_cost: float | None = Field(None, gt=0, title="Most cost")
    """What this run may cost before it stops, by the prices given (more than 0)."""
    price_in: float = Field(0, ge=0, title="Price of reading")
    """Price of a million tokens of prompts, for estimates and the most cost (0 or more)."""
    price_out: float = Field(0, ge=0, title="Price of writing")
    """Price of a million tokens of answers, for estimates and the most cost (0 or more)."""

    def cost(self, prompt_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost by the prices given, half as much in batches; None without prices."""
        has_prices = self.price_in or self.price_out
        cost = prompt_tokens * self.price_in + output_tokens * self.price_out
        return cost * self._share / 1e6 if has_prices else None

    @property
    def token_prices(self) -> tuple[float, float]:
        """The prices of a prompt's token and of an answer's."""
        return self.price_in * self._share / 1e6, self.price_out * self._share / 1e6

    @property
    def _share(self) -> float:
        return BATCH_PRICE if self.batch else 1.0

    @property
    def request_seconds(self) -> float:
        """The most that one request may take: each try has a limit of its own, which grows."""
        return max(self.timeout, self.deadline)

    def without_batch(self) -> Self:
        """The same, with each question asked by itself."""
        return self.model_copy(update={"batch": False})

    @model_validator(mode="after")
    def _cost_has_prices(self) -> Self:
        if self.max_cost is not None and not (self.price_in or self.price_out):
            raise ValueError("--max-cost needs --price-in or --price-out: without prices nothing costs anything")
        return self
