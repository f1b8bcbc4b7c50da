"""What one run is made of: `RunSettings` is the one table of options, for both command lines and the UI's form."""

from typing import Annotated, Any, Final, Literal, Self

from cyclopts import Group, Parameter
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from selectllm.quota import Quota, parse_quota

Composition = Literal["matched", "paper", "random", "similar"]
"""How a query is put together: see `selectllm.queries`."""

NAME: Final = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"
"""What a history or a slot may be called: it becomes the name of a file."""

ROLES: Final = ("user", "assistant", "system")
"""What a turn of a conversation can be."""

BATCH_PRICE: Final = 0.5
"""What a token costs in a batch, as a share of its price. Source: OpenAI's guide to its Batch API."""

SCRIPTED_RULES: Final = ("longest", "first")
SELECTOR_FORMS: Final = (
    "ollama:MODEL, embedded, embedded:/path/model.gguf, openai:MODEL, scripted:longest, scripted:first"
)


def flag(name: str) -> Parameter:
    """The name of a field on the command line, where it is not the field's own name."""
    return Parameter(name=f"--{name}")


def prefect_form_schema(schema: dict[str, Any]) -> None:
    """Make what may be left open a plain field: a form sends none that is empty, and Prefect takes null for it, too."""
    for field in schema.get("properties", {}).values():
        if "description" in field:
            field["description"] = " ".join(field["description"].split())  # on one line, as a form shows it
        match field:
            case {"anyOf": [schema_of_value, {"type": "null"}]}:
                del field["anyOf"], field["default"]
                field.update(schema_of_value)
            case {"$ref": _}:
                field.pop("default", None)  # the group's fields have their own; this one would send null for open ones


def check_batch(selector: str, ranking: "RankingSettings") -> None:
    """Raise ValueError where a selector is to be asked in batches, and cannot be."""
    if ranking.batch and not selector.startswith("openai:"):
        raise ValueError(f"--batch needs a selector openai:MODEL: {selector} takes no batches")
    if ranking.batch and len(ranking.hosts) > 1:
        raise ValueError("--batch needs one --host: a batch is asked where it was sent")


def check_selector(selector: str) -> str:
    """The selector itself; raises ValueError where it is of no known form."""
    kind, _, name = selector.partition(":")
    is_model = kind in ("ollama", "embedded", "openai") and name
    if not (is_model or selector == "embedded" or (kind == "scripted" and name in SCRIPTED_RULES)):
        raise ValueError(f"unknown selector {selector!r}: use one of {SELECTOR_FORMS}")
    return selector


class Settings(BaseModel):
    """A part of a run's settings: cannot be changed, and knows no field but its own."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,  # the text under a field is its description: in `--help`, and in the UI's form
        json_schema_extra=prefect_form_schema,
    )


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


@Parameter(name="*", group=Group("Aim", sort_key=2.5))
class AimSettings(Settings):
    """What the chosen rows are to be like, by any strategy: quotas, examples to be near to, tests to keep from."""

    stratify: str | None = Field(None, min_length=1, title="Stratify")
    """Column whose values each get their share of the chosen rows: as large as their share of the rows that may be
    chosen."""
    quota: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), title="Quotas")
    """Any number of COLUMN:VALUE=N, all of one column: exactly N rows with that value. What they leave of the budget
    goes to the other values."""

    target: str | None = Field(None, min_length=1, title="Target")
    """File of examples of what to choose, in any format of a pool: the rows nearest to them make a shortlist, out of
    which the strategy chooses."""
    target_rows: int | None = Field(None, ge=1, title="Rows of the shortlist")
    """How many rows the shortlist has (1 or more, and no fewer than the budget). Default: ten times the budget."""
    away_from: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), title="Away from")
    """Any number of files of tests, in any format of a pool: rows that stand in one, or are too near to one of its
    rows, are not chosen."""
    away_above: float = Field(0.9, gt=0, le=1, title="Too near")
    """The cosine to a test from which on a row is too near (more than 0 and up to 1)."""

    @field_validator("quota")
    @classmethod
    def _quotas_agree(cls, quota: tuple[str, ...]) -> tuple[str, ...]:
        if len(columns := {parse_quota(text).column for text in quota}) > 1:
            raise ValueError(f"all --quota are of one column, not of {', '.join(map(ascii, sorted(columns)))}")
        return quota

    @model_validator(mode="after")
    def _one_division(self) -> Self:
        if self.stratify is not None and self.quota:
            raise ValueError("--stratify and --quota both say how many rows of each value are chosen: choose one")
        return self

    @model_validator(mode="after")
    def _rows_of_a_target(self) -> Self:
        if self.target_rows is not None and self.target is None:
            raise ValueError("--target-rows needs --target: without examples there is no shortlist")
        return self

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What the quotas say."""
        return tuple(map(parse_quota, self.quota))

    @property
    def column(self) -> str | None:
        """The column whose values get so many rows each, if there is one."""
        return self.quotas[0].column if self.quota else self.stratify


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


@Parameter(name="*", group=Group("Run", sort_key=1))
class RunSettings(Settings):
    """One run, from a pool to `budget` chosen rows."""

    pool: str = Field(min_length=1, title="Pool")
    """File of instructions: JSONL, JSON, CSV, TSV, Parquet or Arrow, also compressed; a path, URL or
    hf://datasets/..., a folder or pattern (*) of such files, or - for standard input."""
    more_files: tuple[Annotated[str, Field(min_length=1)], ...] = Field((), title="More files")
    """Any number of files, folders or patterns more, of any of these formats, whose rows stand behind the pool's."""
    budget: int = Field(ge=1, kw_only=True, title="Budget")
    """How many rows to choose, N (from 1 to the rows of the pool)."""
    selector: str = Field(
        "embedded",
        kw_only=True,
        title="Selector",
        description=f"The model that ranks: {SELECTOR_FORMS}. 'embedded' is a small demo model.",
    )
    criteria: str | None = Field(None, kw_only=True, title="Criteria")
    """What is worth paying for, in your own words: a domain, a language, a skill to strengthen. A text, or the path of
    a file that holds it (UTF-8, at most 4,000 characters). It takes the place of the five built-in criteria."""
    reasons: bool = Field(False, kw_only=True, title="Reasons")
    """Have the model say, in one sentence for each chosen row, why it is worth it: one more question a row."""
    strategy: str = Field("selectllm", min_length=1, kw_only=True, title="Strategy")
    """How rows are chosen. By a model: selectllm (it ranks the rows of small queries), qdit, alpagasus, deita,
    open-endedness; by a model's weights: perplexity-low, -mid, -high; by neither: random, longest, shortest,
    stratified, kcenter, facility, probcover, novelselect, rouge-diversity. An installed package can bring others along:
    an unknown name lists them."""
    diversity: float = Field(0, ge=0, le=1, kw_only=True, title="Diversity")
    """How much it counts, against ratings, that the chosen rows are unlike and together cover the others (0 to 1). 0:
    the rows that come first are chosen."""
    near_duplicate: float | None = Field(None, gt=0, le=1, kw_only=True, title="Near-duplicates")
    """Pass over rows whose vectors have this cosine, or a higher one, to that of a chosen row (more than 0 and up to
    1), such as 0.95. Default: no row is passed over."""
    seed: int = Field(0, ge=0, lt=2**32, kw_only=True, title="Seed")
    """Fixes clustering, matching and the order that candidates are shown in (0 to 4,294,967,295)."""
    store: str = Field("./artifacts", min_length=1, kw_only=True, title="Store")
    """Folder or URL where every step keeps its Parquet, shared by all runs."""
    exclude: tuple[str, ...] = Field((), kw_only=True, title="Exclude")
    """Any number of files of rows not to choose: lists of ids, earlier selections, annotations."""
    history: Annotated[str, Field(pattern=NAME)] | None = Field(None, kw_only=True, title="History")
    """Name of a history in the store: rows that runs of this name have chosen are not chosen again."""
    slot: Annotated[str, Field(pattern=NAME)] | None = Field(None, kw_only=True, title="Slot")
    """Which run of the history this is: run again for the same slot it returns the same rows. Default: a new one on the
    command line; of a flow, its scheduled time or its id."""
    requery: bool = Field(False, kw_only=True, title="Build queries anew")
    """Divide the whole pool anew, instead of keeping the queries of the pool that it grew from."""
    out: str | None = Field(None, kw_only=True, title="Output folder")
    """Folder for selection.parquet, selection.jsonl, quarantine.parquet, summary.json."""
    columns: ColumnSettings = Field(ColumnSettings(), kw_only=True, title="Columns")
    aim: AimSettings = Field(AimSettings(), kw_only=True, title="Aim")
    embedding: EmbeddingSettings = Field(EmbeddingSettings(), kw_only=True, title="Embedding")
    queries: QuerySettings = Field(QuerySettings(), kw_only=True, title="Queries")
    ranking: RankingSettings = Field(RankingSettings(), kw_only=True, title="Ranking")
    quality: QualitySettings = Field(QualitySettings(), kw_only=True, title="Quality")

    @property
    def pools(self) -> tuple[str, ...]:
        """All locations of the pool's files, in order."""
        return self.pool, *self.more_files

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        if self.slot is not None and self.history is None:
            raise ValueError("--slot needs --history: a slot is a run's place in a history")
        if self.selector.startswith("scripted:") and self.ranking.mode == "pointwise":
            raise ValueError("--mode pointwise needs a model with log-probabilities: scripted selectors rank lists")
        if self.reasons and self.selector.startswith("scripted:"):
            raise ValueError("--reasons needs a model: scripted selectors go by a rule, and have no words")
        if (wanted := sum(quota.wanted for quota in self.aim.quotas)) > self.budget:
            raise ValueError(f"the quotas sum to {wanted:,}, and the budget is {self.budget:,}: lower one of them")
        if self.aim.target_rows is not None and self.aim.target_rows < self.budget:
            raise ValueError(f"--target-rows cannot be {self.aim.target_rows:,}: the budget is {self.budget:,}")
        check_batch(self.selector, self.ranking)
        return self

    @field_validator("selector")
    @classmethod
    def _known_selector(cls, selector: str) -> str:
        return check_selector(selector)
