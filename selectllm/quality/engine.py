"""Great Expectations, held to what is wanted of it: a frame and rules in, findings out, and not a sound.

Its import takes seconds and hides every later warning of the process; a context draws progress bars. None of that
happens here, and nothing of it is loaded before a first table is judged.
"""

import logging
import math
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from selectllm.errors import MissingDependency, QualityError
from selectllm.quality.verdicts import FIRST, Finding, Key, Severity
from selectllm.text import one_line, short_error

_LOCK: Final = threading.RLock()  # a context makes itself the current one of the whole process

_UNIQUE: Final = {
    "expect_column_values_to_be_unique": "column",
    "expect_compound_columns_to_be_unique": "column_list",
}
"""Of these Great Expectations names every member of a group of repeats; here the first of each is none."""


class CannotBeJudged(QualityError):
    """An expectation could not be looked at: its arguments do not fit the values, or the package has changed."""


@dataclass(frozen=True)
class Rule:
    """One expectation: a name of ours, its type and arguments as Great Expectations knows them, and its severity.

    A rule about the whole table names rows as well where `where` is a column that is true of those that count.
    `reason` is what a row's quarantine says when the row breaks the rule.
    """

    name: str
    expectation: str
    arguments: Mapping[str, Any]
    severity: Severity = "critical"
    where: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """A finding and the keys of all rows that break the rule, in the frame's order; None for a rule about no rows."""

    rule: Rule
    finding: Finding
    failing: npt.NDArray[Any] | None = field(repr=False)


def great_expectations() -> Any:
    """The package; raises MissingDependency without it."""
    if "great_expectations" in sys.modules:
        return sys.modules["great_expectations"]
    if find_spec("great_expectations") is None:
        raise MissingDependency(
            "great-expectations", extra="quality", purpose="validation (which --no-validate leaves out)"
        )
    with quiet():
        were_captured = getattr(warnings.showwarning, "__module__", "") == "logging"
        package = import_module("great_expectations")
        if not were_captured:
            logging.captureWarnings(False)
        return package


@contextmanager
def quiet() -> Iterator[None]:
    """Let one thread at a time deal with the package, and let none hear its warnings: they are about its own code."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def module(name: str) -> Any:
    """A module of the package."""
    great_expectations()
    return import_module(f"great_expectations.{name}")


def context(**config: Any) -> Any:
    """A context of its own, in memory, without progress bars and analytics."""
    base = module("data_context.types.base")
    settings = base.DataContextConfig(
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
        **config,
    )
    return great_expectations().get_context(mode="ephemeral", project_config=settings)


def judge(frame: pd.DataFrame, key: Key, rules: Sequence[Rule]) -> list[Found]:
    """Judge a frame, whose column `key` names its rows, by each rule.

    Raises CannotBeJudged where an expectation could not be looked at.
    """
    try:
        with quiet():
            results = _results(frame, key, rules)
        by_place = {result.expectation_config.meta["place"]: result for result in results}
        return [_found(frame, key, rule, by_place[place]) for place, rule in enumerate(rules)]
    except (CannotBeJudged, MissingDependency):
        raise
    except Exception as error:  # whatever an expectation meets in values that it was not made for
        raise CannotBeJudged(f"an expectation could not be looked at: {short_error(error)}") from error


def _results(frame: pd.DataFrame, key: Key, rules: Sequence[Rule]) -> Any:
    gx = great_expectations()
    suite = gx.ExpectationSuite(name="suite", expectations=[built(rule, place) for place, rule in enumerate(rules)])
    source = context().data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = source.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    # Without `exclude_unexpected_values` the results would hold the values themselves.
    told = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [key],
        "exclude_unexpected_values": True,
    }
    return batch.validate(suite, result_format=told).results


def built(rule: Rule, place: int = 0) -> Any:
    """The expectation of a rule; raises what Great Expectations does for a type or arguments that it does not know."""
    configuration = module("expectations.expectation_configuration").ExpectationConfiguration
    given = {"type": rule.expectation, "kwargs": dict(rule.arguments), "severity": rule.severity}
    return configuration(**given, meta={"place": place}).to_domain_obj()


def _found(frame: pd.DataFrame, key: Key, rule: Rule, result: Any) -> Found:
    trouble = _trouble(result.exception_info or {})
    if trouble:
        raise CannotBeJudged(f"{rule.name} could not be looked at: {trouble}")
    failing = _failing(result.result, key)
    if failing is not None and rule.expectation in _UNIQUE:
        repeats = frame.loc[frame.duplicated(rule.arguments[_UNIQUE[rule.expectation]]), key].to_numpy()
        failing = repeats[np.isin(repeats, failing)]
    named = failing
    if named is None and rule.where:
        named = frame.loc[frame[rule.where].astype(bool), key].to_numpy()
    count = 0 if named is None else len(named)
    observed = count / len(frame) if failing is not None and len(frame) else _number(result.result)
    finding = Finding(
        rule=rule.name,
        success=bool(result.success),
        severity=rule.severity,
        about="table" if failing is None else "rows",
        observed=observed,
        count=count,
        rows=len(frame),
        key=key,
        first=() if named is None else tuple(map(_name, named[:FIRST])),
        expectation=rule.expectation,
        arguments=dict(rule.arguments),
    )
    return Found(rule, finding, failing)


def _failing(result: Mapping[str, Any], key: Key) -> npt.NDArray[Any] | None:
    """The keys of the rows that an expectation names; None for an expectation that looks at no single rows."""
    if "unexpected_count" not in result:
        return None
    keys: list[Any] = []
    for entry in result.get("unexpected_index_list") or []:
        value = entry[key]
        keys.extend(value if isinstance(value, (list, np.ndarray)) else [value])
    return np.array(keys)


def _trouble(info: Mapping[str, Any]) -> str:
    """What an expectation raised, if it did: told flat, or once for each of its metrics."""
    each = [info] if "raised_exception" in info else list(info.values())
    messages = (one.get("exception_message") for one in each if isinstance(one, Mapping) and one["raised_exception"])
    return next((one_line(message or "it raised an error", 200).rstrip(".") for message in messages), "")


def _number(result: Mapping[str, Any]) -> float | None:
    observed = result.get("observed_value")
    if isinstance(observed, (bool, np.bool_)) or not isinstance(observed, (int, float, np.number)):
        return None  # values of the table among them
    return float(observed) if math.isfinite(observed) else None


def _name(value: Any) -> int | str:
    return int(value) if isinstance(value, (int, np.integer)) else one_line(value, 80)
