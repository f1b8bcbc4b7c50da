"""Great Expectations at work: a table of facts and rules in, findings out."""

from collections.abc import Mapping, Sequence
from math import isclose
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from selectllm.errors import ContractError, MissingDependency, QualityError
from selectllm.quality.gx import great_expectations, new_context
from selectllm.quality.quiet import quiet
from selectllm.quality.rules import FactTable, Rule, RuleResult
from selectllm.quality.verdicts import Finding, Key
from selectllm.text import one_line, short_error

if TYPE_CHECKING:
    import pandas as pd

_UNIQUE: Final = {
    "expect_column_values_to_be_unique": "column",
    "expect_compound_columns_to_be_unique": "column_list",
}
"""Of these Great Expectations names every member of a group of repeats; here the first of each is not one."""


class CannotValidate(QualityError):
    """An expectation could not be evaluated: its arguments do not fit the values, or the package has changed."""


def validate(table: FactTable) -> list[Finding]:
    """Validate facts by Great Expectations; a finding for each rule.

    Raises ContractError where it finds anything else than the rule's form in numpy, CannotValidate as `evaluate` does.
    """
    with quiet():
        import pandas as pd

        frame = pd.DataFrame(dict(table.facts))
    results = evaluate(frame, table.key, table.rules)
    for result, check in zip(results, table.check(), strict=True):
        if not _agree(result, check):
            raise ContractError(
                f"the rule {result.rule.name} has two results: Great Expectations finds {_text(result)}, the cheap "
                f"check {_text(check)}. This is a defect: please report it"
            )
    return [result.finding for result in results]


def evaluate(frame: "pd.DataFrame", key: Key, rules: Sequence[Rule]) -> list[RuleResult]:
    """Evaluate rules of any type on a frame, whose column `key` names its rows.

    Raises CannotValidate where an expectation cannot be evaluated.
    """
    try:
        with quiet():
            results = _results(frame, key, rules)
        by_place = {result.expectation_config.meta["place"]: result for result in results}
        return [_result(frame, key, rule, by_place[place]) for place, rule in enumerate(rules)]
    except (CannotValidate, MissingDependency):
        raise
    except Exception as error:  # of any kind: the values may be such as an expectation was not made for
        raise CannotValidate(f"an expectation could not be looked at: {short_error(error)}") from error


def _results(frame: "pd.DataFrame", key: Key, rules: Sequence[Rule]) -> Any:
    expectations = [rule.expectation(place) for place, rule in enumerate(rules)]
    suite = great_expectations().ExpectationSuite(name="suite", expectations=expectations)
    source = new_context().data_sources.add_pandas("frames").add_dataframe_asset("frame")
    batch = source.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    # Without `exclude_unexpected_values` the results would hold the values themselves.
    result_format = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [key],
        "exclude_unexpected_values": True,
    }
    return batch.validate(suite, result_format=result_format).results


def _result(frame: "pd.DataFrame", key: Key, rule: Rule, result: Any) -> RuleResult:
    if error := _error(result.exception_info or {}):
        raise CannotValidate(f"{rule.name} could not be looked at: {error}")
    failing = _failing(result.result, key)
    if failing is not None and rule.type in _UNIQUE:
        repeats = frame.loc[frame.duplicated(rule.arguments[_UNIQUE[rule.type]]), key].to_numpy()
        failing = repeats[np.isin(repeats, failing)]
    if failing is not None:
        return rule.row_result(key, len(frame), bool(result.success), failing)
    counted = frame.loc[frame[rule.counted].astype(bool), key].to_numpy() if rule.counted else None
    return rule.table_result(key, len(frame), bool(result.success), _number(result.result), counted)


def _failing(result: Mapping[str, Any], key: Key) -> npt.NDArray[Any] | None:
    """The keys of the rows that an expectation names; None for an expectation about no single rows."""
    if "unexpected_count" not in result:
        return None
    keys: list[Any] = []
    for entry in result.get("unexpected_index_list") or []:
        value = entry[key]
        keys.extend(value if isinstance(value, (list, np.ndarray)) else [value])
    return np.array(keys)


def _error(info: Mapping[str, Any]) -> str:
    """What an expectation raised, if it did; `info` is about it, or has an entry for each of its metrics."""
    entries = [info] if "raised_exception" in info else list(info.values())
    raised = [entry for entry in entries if isinstance(entry, Mapping) and entry["raised_exception"]]
    return one_line(raised[0].get("exception_message") or "it raised an error", 200).rstrip(".") if raised else ""


def _number(result: Mapping[str, Any]) -> float | None:
    observed = result.get("observed_value")
    if isinstance(observed, (bool, np.bool_)) or not isinstance(observed, (int, float, np.number)):
        return None  # it can be values of the table
    return float(observed)


def _agree(result: RuleResult, check: RuleResult) -> bool:
    theirs, ours = result.finding, check.finding
    if result.failing is not None and check.failing is not None:
        return theirs.success == ours.success and result.failing.tolist() == check.failing.tolist()
    is_same_number = isclose(theirs.observed or 0, ours.observed or 0, rel_tol=1e-9)
    return is_same_number and (theirs.success, theirs.about, theirs.first) == (ours.success, ours.about, ours.first)


def _text(result: RuleResult) -> str:
    return f"that it {'holds' if result.finding.success else 'fails'}, {result.finding.text}"
