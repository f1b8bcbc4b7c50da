"""What goes down through the steps of one run, and how one step is run."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from selectllm.execution import Executor, Inline, Progress, Started, in_background, no_progress
from selectllm.llm.keys import ApiKeys
from selectllm.llm.model import ModelInfo
from selectllm.llm.usage import Usage
from selectllm.quality import PoolCheck, Verdict
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.examples import Examples
from selectllm.store import Store

P = ParamSpec("P")
T = TypeVar("T")
Step = Callable[Concatenate["Context", P], T]
"""A step: a function of the context and of earlier steps' results."""

Tokens = tuple[int, int]
"""Tokens that were paid for: of prompts, and of answers."""

NO_TOKENS: Final[Tokens] = (0, 0)


@dataclass(frozen=True)
class Validation:
    """A verdict, and whether it was in the store already."""

    verdict: Verdict
    cached: bool


class RunLog:
    """What a run has done so far: its steps' results in order, the model that it asks, and its verdicts.

    It stays in the run's own process. Prefect sends a step's parameters to workers along with each of its pieces: there
    it arrives empty. A dataclass would be sent field by field.
    """

    def __init__(self) -> None:
        self.results: list[StepResult] = []
        self.model: ModelInfo | None = None
        self.trial_usage = Usage()  # what the questions took that decide how the model is asked
        self.verdicts: list[Verdict] = []
        self.pool_check: PoolCheck | None = None  # what reading the pool found, for its validation, which comes later
        self.started: list[Started[Any]] = []  # the steps that go on in the background
        self.model_loaded = threading.Event()  # or no step will load the embedding model: see `_validation`

    def __reduce__(self) -> tuple[type["RunLog"], tuple[()]]:
        return RunLog, ()

    def paid(self) -> Usage:
        """What the run has paid for so far: replies, and their tokens, those of trial questions among them."""
        found, steps = Usage(), (*self.results, self.trial_usage)
        for name in ("asked", "paid_prompt_tokens", "paid_output_tokens"):
            setattr(found, name, sum(getattr(step, name) for step in steps))
        return found

    def result(self, kind: str) -> StepResult | None:
        """The latest result of a kind, if there is one."""
        return next((result for result in reversed(self.results) if result.kind == kind), None)


@dataclass(frozen=True)
class Context:
    """One run: its store and settings, who runs its pieces, who hears of its progress, and what it has done so far."""

    settings: RunSettings
    store: Store
    progress: Progress = no_progress
    executor: Executor = field(default_factory=Inline)
    load_keys: Callable[[], ApiKeys] = ApiKeys.from_environment  # called in the process that asks: no key is ever sent
    log: RunLog = field(default_factory=RunLog)
    criteria: str | None = None  # the text that the settings name, read once: a file may change while the run works
    target: Examples | None = None  # the files of the aim's options, read once
    away_from: tuple[Examples, ...] = ()
    paid_elsewhere: Tokens = NO_TOKENS  # by runs that share this one's limit of cost, such as those of other models

    def paid_before(self, so_far: Usage | StepResult | None = None) -> Tokens:
        """The tokens that count against the limit of cost: the run's, and those of a step that is not done yet.

        Those of the questions that decide how a model thinks are among them.
        """
        paid, own = self.log.paid(), so_far or Usage()
        read = self.paid_elsewhere[0] + paid.paid_prompt_tokens + own.paid_prompt_tokens
        return read, self.paid_elsewhere[1] + paid.paid_output_tokens + own.paid_output_tokens

    def run(self, step: Step[P, T], *inputs: P.args, **named: P.kwargs) -> T:
        """Run a step, and note its result."""
        return self._noted(step(self, *inputs, **named))

    def start(self, step: Step[P, T], *inputs: P.args, **named: P.kwargs) -> Started[T]:
        """Start a step in the background, to be waited for with `finish`."""
        started = in_background(lambda: step(self, *inputs, **named))
        self.log.started.append(started)
        return started

    def finish(self, started: Started[T]) -> T:
        """Wait for a step that was started, and note its result; raises what the step raised."""
        self.log.model_loaded.set()
        if started in self.log.started:
            self.log.started.remove(started)
        return self._noted(started.result())

    def _noted(self, result: T) -> T:
        """Note what a step gave, if it is something that a run's record holds."""
        if isinstance(result, StepResult):
            self.log.results.append(result)
        elif isinstance(result, ModelInfo):
            self.log.model = result
        elif isinstance(result, Validation):
            self.log.verdicts.append(result.verdict)
        return result
