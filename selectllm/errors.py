"""Every error that SelectLLM raises on purpose, and the exit code that each one means.

    SelectLLMError                    exit 1
    ├── UsageError                    exit 2: the request cannot be carried out as it was made
    │   ├── PoolError                 the pool cannot be read, or has nothing usable in it
    │   ├── MissingDependency         an optional package is needed; the message names its extra
    │   └── SelectorUnavailable       no such selector, host or model; noticed before any question is asked
    │       └── HostUnreachable       nothing answers where the model should be
    └── RunError                      exit 1: the run had begun and could not be finished
        ├── ModelError                the model cannot be asked any more
        │   ├── TransientError        it cannot be asked now, but may be later: busy, restarting, cut off
        │   ├── ContextLengthExceeded it can be asked, but not this: the prompt does not fit its context
        │   ├── ContentRefused        it can be asked, but not this: the provider refuses what the prompt or answer says
        │   ├── ModelUnavailable      nothing can be asked: an outage, a quota that is used up, a key that is refused
        │   └── ModelChanged          its name stands for other weights than when the run began
        ├── TooFewRanked              the replies do not rank as many rows as the budget wants
        ├── TooManyAbstained          more questions than allowed had no usable answer, or rows were refused
        ├── CostExceeded              the run has cost as much as it may
        ├── Stopped                   the run was cancelled
        ├── ContractError             a table breaks what its reader relies on
        ├── QualityError              a table breaks a critical expectation
        └── StoreError                the store cannot be read or written

Messages are one sentence of what is wrong and, where there is one, a second of what to do next.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel


class SelectLLMError(Exception):
    """The root of all errors raised on purpose; `evidence` records what is wrong with a table that is at fault."""

    exit_code = 1

    def __init__(self, message: str = "", evidence: "BaseModel | None" = None) -> None:
        super().__init__(message)
        self.evidence = evidence


class UsageError(SelectLLMError):
    """The request cannot be carried out as it was made; nothing was started."""

    exit_code = 2


class PoolError(UsageError):
    """The pool cannot be read, or has nothing usable in it."""


class MissingDependency(UsageError):
    """An optional package, as pip knows it, is needed for a purpose; an extra of selectllm brings it."""

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}. Install it with: pip install 'selectllm[{extra}]'")
        self._copy = partial(MissingDependency, package, extra=extra, purpose=purpose)

    def __reduce__(self) -> Any:
        return self._copy, ()


class SelectorUnavailable(UsageError):
    """The selector names no known kind, host or model."""


class HostUnreachable(SelectorUnavailable):
    """Nothing answers where the model should be."""


class RunError(SelectLLMError):
    """The run had begun and could not be finished; what was paid for is kept.

    `paid` are the tokens of prompts and of answers that its last step was paid for.
    """

    paid = (0, 0)


class ModelError(RunError):
    """The model cannot be asked any more."""


class TransientError(ModelError):
    """A request failed in a way that can pass by itself; `kind` names it in a word or two, for the count of errors.

    `retry_after` is how many seconds the server asks to wait before the next request, None where it does not say.
    """

    def __init__(self, message: str, kind: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.retry_after = kind, retry_after

    def __reduce__(self) -> Any:
        return TransientError, (str(self), self.kind, self.retry_after)


class ContextLengthExceeded(ModelError):
    """The prompt does not fit the model's context, and was not cut: this one question has no answer."""


class ContentRefused(ModelError):
    """The provider refuses the content of this one question; it may answer about fewer rows."""


class ModelUnavailable(ModelError):
    """Nothing can be asked, whatever it is: an outage that took too long, a quota, a key, or a model that is gone."""


class ModelChanged(ModelError):
    """The model's name stands for other weights than when the run began."""


class TooFewRanked(RunError):
    """The replies rank fewer rows than the budget wants."""


class TooManyAbstained(RunError):
    """More questions than allowed had no usable answer, or more rows than allowed were refused."""


class CostExceeded(RunError):
    """The run has cost as much as it may."""


class Stopped(RunError):
    """The run was cancelled."""


class ContractError(RunError):
    """A table breaks what its reader relies on: a defect, or a file changed by someone else."""


class QualityError(RunError):
    """A table breaks a critical expectation; the message names the rule, what was observed and the first rows."""


class StoreError(RunError):
    """The store cannot be read or written."""
