"""The options of commands that have a model judge: which, how it is asked, and what that may cost."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Group, Parameter
from pydantic import ValidationError

from selectllm.cli.evaluate.dry_run import DryRun, print_forecast
from selectllm.cli.messages import setting_errors
from selectllm.errors import UsageError
from selectllm.settings import RunSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from selectllm.evaluation.judging.judge import Judged
    from selectllm.evaluation.judging.pairs import Pair

JUDGE: Final = Group("Judge", sort_key=5)


@Parameter(name="*", group=JUDGE)
@dataclass(frozen=True)
class JudgeOptions:
    """The model that judges. What is left open comes from the environment, as for `select`."""

    selector: Annotated[
        str | None,
        Parameter(
            help="The judge, as for `select`: ollama:MODEL, openai:MODEL, embedded:PATH. It has to be named, here or "
            "by SELECTLLM_SELECTOR."
        ),
    ] = None
    preference: Annotated[
        Literal["auto", "odds", "choice"],
        Parameter(
            help="odds: a probability, by the judge's log-probabilities. choice: the one or the other. auto: odds "
            "where the server gives them; one question decides."
        ),
    ] = "auto"
    both_orders: Annotated[
        bool, Parameter(help="Ask about each pair twice, each answer first once. Else the seed draws the order.")
    ] = False
    seed: Annotated[int | None, Parameter(help="Decides which answer is shown first. Default: 0.")] = None
    host: Annotated[tuple[str, ...], Parameter(help="URL of the judge's server; may be repeated.")] = ()
    think: Annotated[
        Literal["auto", "off", "low", "on"] | None,
        Parameter(help="Whether it thinks before a choice, as for `select`."),
    ] = None
    concurrency: Annotated[int | None, Parameter(help="The most questions under way at once on a host.")] = None
    timeout: Annotated[float | None, Parameter(help="Seconds that one request may take.")] = None
    max_abstained: Annotated[
        float | None, Parameter(help="Share of questions without a usable answer beyond which the judging stops.")
    ] = None
    reask: Annotated[bool, Parameter(help="Ask once more about what has no usable answer.")] = False
    max_cost: Annotated[float | None, Parameter(help="What the judging may cost before it stops, by the prices.")] = (
        None
    )
    price_in: Annotated[float | None, Parameter(help="Price of a million tokens of prompts.")] = None
    price_out: Annotated[float | None, Parameter(help="Price of a million tokens of answers.")] = None
    store: Annotated[str | None, Parameter(help="The store of replies and judgements, as for `select`.")] = None

    dry_run: DryRun = False

    def settings(self) -> RunSettings:
        """Settings of a run with these options; raises UsageError, also where nobody has named a judge."""
        from selectllm.cli.environment import with_environment

        names = ("think", "concurrency", "timeout", "max_abstained", "max_cost", "price_in", "price_out")
        ranking: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        ranking |= ({"hosts": self.host} if self.host else {}) | ({"reask": True} if self.reask else {})
        own = {name: value for name in ("selector", "seed", "store") if (value := getattr(self, name)) is not None}
        try:
            named = RunSettings.model_validate({"pool": "-", "budget": 1, "ranking": ranking} | own)
        except ValidationError as error:
            raise UsageError(setting_errors(error)) from None
        settings = with_environment(named)
        if "selector" not in settings.model_fields_set:
            raise UsageError(
                "no judge is named: name a model with --selector, such as ollama:llama3.1:8b. The demo model judges "
                "only as --selector embedded, and is a poor judge"
            )
        return settings

    def print_forecast(self, pairs: "Sequence[Pair]", *, json: bool) -> None:
        """Print what the judge has still to be asked about these pairs."""
        from selectllm.evaluation.forecast import together
        from selectllm.evaluation.judging.forecast import forecast_judging
        from selectllm.steps.context import Context
        from selectllm.store import Store

        settings = self.settings()
        context = Context(settings, Store(settings.store))
        found = forecast_judging(context, pairs, self.preference, both_orders=self.both_orders)
        print_forecast(together([found]), json=json)

    def judge(self, pairs: "Sequence[Pair]") -> "Judged":
        """Have these pairs judged, with bars on a terminal."""
        from selectllm import cancellation
        from selectllm.cli.printing import progress_bars
        from selectllm.evaluation.judging.judge import judge
        from selectllm.steps.context import Context
        from selectllm.store import Store

        settings = self.settings()
        with progress_bars(settings) as on_progress, cancellation.propagate_interrupt():
            context = Context(settings, Store(settings.store), on_progress)
            return judge(context, pairs, self.preference, both_orders=self.both_orders)


DEFAULT_JUDGE: Final = JudgeOptions()
