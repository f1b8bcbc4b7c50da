"""What a run costs, by prices given or by list prices, and what its progress says of that while it runs."""

import dataclasses
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from selectllm import plan_run, select
from selectllm.cli.main import main
from selectllm.cli.printing import progress_bars
from selectllm.errors import CostExceeded
from selectllm.execution import no_progress, note_spent
from selectllm.llm.model import Request
from selectllm.llm.prices import LOOKED_UP
from selectllm.report.format_plan import format_plan
from selectllm.report.spent import spent_text
from selectllm.settings import RunSettings
from tests.conftest import FakeModel, by_id

MakeRun = Callable[..., RunSettings]
MakeModel = Callable[..., FakeModel]
pytestmark = pytest.mark.usefixtures("quick_embedding")

ESTIMATE = f"USD by list prices of {LOOKED_UP}"
PAID = {"price_in": 1000, "price_out": 5000}  # with a question's ten tokens and two, 0.02


@pytest.fixture(autouse=True)
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


class Recorded:
    """A progress that notes what it hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int, int]] = []
        self.paid: list[tuple[int, int]] = []

    def __call__(self, step: str, done: int, total: int) -> None:
        self.steps.append((step, done, total))

    def spent(self, prompt_tokens: int, output_tokens: int) -> None:
        self.paid.append((prompt_tokens, output_tokens))


def is_reason(request: Request) -> bool:
    return request.question.startswith("reason for ")


def answer(request: Request) -> str:
    return (
        json.dumps({"reason": "It asks for a clear explanation of one definite thing."})
        if is_reason(request)
        else by_id(request)
    )


def test_a_plan_is_estimated_by_list_prices_and_says_so(make_run: MakeRun) -> None:
    plan = plan_run(make_run(selector="openai:gpt-4o-mini"))
    ranking = plan["ranking"]
    expected = (ranking["prompt_tokens"] * 0.15 + ranking["output_tokens"] * 0.6) / 1e6
    assert plan["cost"] == pytest.approx(expected, abs=1e-4)
    assert plan["list_prices_of"] == LOOKED_UP
    text = format_plan(plan)
    assert f"at most {plan['cost']:.4f} {ESTIMATE}, which may have changed: give yours by --price-in" in text


@pytest.mark.parametrize(
    ("fields", "has_cost"),
    [
        ({"selector": "openai:gpt-4o-mini", "ranking": {"price_in": 7}}, True),
        ({"selector": "openai:gpt-4o-mini", "ranking": {"hosts": ["http://127.0.0.1:1/v1"]}}, False),
        ({"selector": "ollama:gpt-4o-mini"}, False),
        ({"selector": "openai:gpt-4o-mini", "strategy": "random"}, False),
    ],
)
def test_a_plan_without_list_prices_names_no_date(fields: dict[str, Any], has_cost: bool, make_run: MakeRun) -> None:
    plan = plan_run(make_run(**fields))
    assert (plan["cost"] is not None, plan["list_prices_of"]) == (has_cost, None)
    assert "list prices" not in format_plan(plan)


def test_the_cost_of_a_run_is_called_an_estimate_where_it_is_one(make_run: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model()
    summary = select(make_run(selector="openai:gpt-4o-mini")).summary
    cost = round(len(model.asked) * (10 * 0.15 + 2 * 0.6) / 1e6, 6)
    assert cost > 0
    assert summary["cost"] == {"this_run": cost, "selection": cost, "estimate": ESTIMATE}
    given = select(make_run(selector="openai:gpt-4o-mini", ranking=PAID)).summary
    assert given["cost"] == {"this_run": 0, "selection": round(len(model.asked) * 0.02, 6)}


def test_progress_hears_of_all_that_the_run_has_paid_for(make_run: MakeRun, fake_model: MakeModel) -> None:
    model, progress = fake_model(answer), Recorded()
    settings = make_run(rows=120, budget=10, reasons=True, ranking={"concurrency": 1}, selector="ollama:m")
    select(settings, progress)
    assert {step for step, _, _ in progress.steps} == {"embeddings", "rankings", "looks", "reasons"}
    assert progress.paid == sorted(progress.paid)
    assert progress.paid[-1] == (10 * len(model.asked), 2 * len(model.asked))
    again = Recorded()
    select(settings.model_copy(update={"budget": 11}), again)
    assert again.paid[-1] < progress.paid[-1], "replies that were there are not paid for"


def test_a_plain_function_is_progress_too(make_run: MakeRun, fake_model: MakeModel) -> None:
    fake_model()
    steps: list[str] = []
    select(make_run(selector="ollama:m"), lambda step, done, total: steps.append(step))
    assert "rankings" in steps
    note_spent(no_progress, (1, 1), 1, 1)


@pytest.mark.parametrize(
    ("fields", "tokens", "text"),
    [
        ({"selector": "ollama:m"}, (0, 0), ""),
        ({"selector": "ollama:m"}, (999, 1), "999 + 1 tokens"),
        ({"selector": "ollama:m"}, (1_234_567, 34_000), "1.2M + 34.0k tokens"),
        ({"selector": "ollama:m", "ranking": PAID}, (10, 2), "10 + 2 tokens, 0.0200"),
        ({"selector": "ollama:m", "ranking": PAID}, (1_000_000, 0), "1.0M + 0 tokens, 1,000.00"),
        ({"selector": "openai:gpt-4o-mini"}, (2_000_000, 0), "2.0M + 0 tokens, ~0.3000 USD"),
    ],
)
def test_what_was_spent_in_a_few_words(fields: dict[str, Any], tokens: tuple[int, int], text: str) -> None:
    assert spent_text(RunSettings.model_validate({"pool": "p", "budget": 1, **fields}), *tokens) == text


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_bars_show_what_was_spent_on_a_terminal(monkeypatch: pytest.MonkeyPatch, make_run: MakeRun) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    with progress_bars(make_run(selector="ollama:m", ranking=PAID)) as bars:
        note_spent(bars, (0, 0), 1, 1)  # before any step: there is no bar to show it
        bars("rankings", 3, 4)
        note_spent(bars, (1_000, 200), 500, 100)
        bars("looks", 0, 2)
    shown = terminal.getvalue().replace("\n", " ")
    assert "rankings" in shown
    assert "3/4" in shown
    assert "1.5k + 300 tokens, 3.00" in shown
    terminal.truncate(0)
    with progress_bars() as bars:
        bars("cells", 1, 2)
        note_spent(bars, (0, 0), 1, 1)
    assert "tokens" not in terminal.getvalue()


def test_nothing_is_shown_where_the_output_is_piped(
    make_run: MakeRun, fake_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_model()
    settings = make_run(selector="ollama:m")
    arguments = [settings.pool, "--budget", "3", "--selector", "ollama:m", "--store", settings.store]
    assert main(["select", *arguments, "--price-in", "1"]) == 0
    assert capsys.readouterr().err == ""


def asked_once_to_think(fake_model: MakeModel) -> FakeModel:
    """A model that may think, whose trial shows at once that it need not: the trial costs what a question costs."""

    def reply(request: Request) -> str:
        return '{"ranking": [1, 2]}' if "whether thinking" in request.question else by_id(request)

    model = fake_model(reply)
    model.info = dataclasses.replace(model.info, may_think=True)
    return model


def test_the_limit_of_cost_holds_for_the_question_whether_to_think_too(
    make_run: MakeRun, fake_model: MakeModel
) -> None:
    model, asked = asked_once_to_think(fake_model), {"concurrency": 1, "price_in": 100_000}  # a question costs 1
    with pytest.raises(CostExceeded, match=r"has cost 3\.00, and --max-cost is 3\.00"):
        select(make_run(budget=5, ranking={**asked, "max_cost": 3}))
    assert ["whether thinking" in request.question for request in model.asked] == [True, False, False]
    with pytest.raises(CostExceeded, match=r"has cost 2\.00"):
        select(make_run(budget=5, ranking={**asked, "max_cost": 2}))
    assert len(model.asked) == 5, "the trial is kept, and costs no more"


@pytest.mark.parametrize("gather", ["tiers", "ratings"])
def test_what_is_asked_after_the_ranking_counts_the_trial_too(
    gather: str, make_run: MakeRun, fake_model: MakeModel
) -> None:
    asked_once_to_think(fake_model)
    heard = Recorded()
    asked = {"concurrency": 1, "price_in": 100_000, "gather": gather, "looks": 2.0}
    result = select(make_run(rows=60, budget=13, ranking=asked), heard)
    after = "looks" if gather == "ratings" else "tournament"
    assert after in {step for step, _, _ in heard.steps}
    assert heard.paid[-1][0] == 10 * result.summary["cost"]["this_run"], "ten tokens of a prompt cost 1"
    limit = result.summary["cost"]["this_run"] - 1
    with pytest.raises(CostExceeded, match=rf"has cost {limit:.2f}, and"):
        select(make_run(rows=60, budget=13, store=make_run().store + "-new", ranking={**asked, "max_cost": limit}))


def test_ways_to_think_that_are_tried_share_the_limit(make_run: MakeRun, fake_model: MakeModel) -> None:
    model = fake_model(lambda _: "no ranking")
    model.info = dataclasses.replace(model.info, may_think=True)
    with pytest.raises(CostExceeded, match=r"has cost 2\.00, and --max-cost is 2\.00"):
        select(make_run(budget=5, ranking={"price_in": 100_000, "max_cost": 2}))
    assert [request.think for request in model.asked] == [False, "low"]
