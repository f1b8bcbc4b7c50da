"""Great Expectations at work: a table of facts and rules in, findings out."""

from collections.abc import Iterable, Mapping
from math import isclose
from typing import TYPE_CHECKING, Any

import numpy as np

from selectllm.errors import ContractError, QualityError
from selectllm.quality.gx import great_expectations, new_context, quiet
from selectllm.quality.rules import UNIQUE, FactTable, Rule, RuleResult
from selectllm.quality.verdicts import Boundary, Finding, Verdict, merged
from selectllm.text import one_line, short_error

if TYPE_CHECKING:
    import pandas as pd


class CannotValidate(QualityError):
    """An expectation could not be evaluated: its arguments do not fit the values, or the package has changed."""


def validate_tables(boundary: Boundary, tables: Iterable[FactTable]) -> Verdict:
    """Validate tables of facts one by one, but none after one about columns that fails; raises as `validate` does."""
    findings: list[Finding] = []
    for table in tables:
        by_rule = {finding.rule: finding for finding in merged([validate(part) for part in table.parts()])}
        findings += [by_rule[rule.name] for rule in table.rules]
        if table.key == "column" and not all(finding.success for finding in findings):
            break
    return Verdict.of(boundary, findings)


def validate(table: FactTable) -> list[Finding]:
    """Validate facts by Great Expectations; a finding for each rule.

    Raises ContractError where it finds anything else than the rule's form in numpy, CannotValidate as `evaluate` does.
    """
    results = evaluate(table) if table.rules else []
    for result, check in zip(results, table.check(), strict=True):
        theirs, ours = result.finding, check.finding
        is_close = isclose(theirs.observed or 0, ours.observed or 0, rel_tol=1e-9)
        is_same = is_close and theirs.model_copy(update={"observed": ours.observed}) == ours
        if result.failing is not None and check.failing is not None:
            is_same = is_same and np.array_equal(result.failing, check.failing)
        if not is_same:
            texts = [f"that it {'holds' if each.success else 'fails'}, {each.text}" for each in (theirs, ours)]
            raise ContractError(
                f"the rule {theirs.rule} has two results: Great Expectations finds {texts[0]}, the cheap check "
                f"{texts[1]}. This is a defect: please report it"
            )
    return [result.finding for result in results]


def evaluate(table: FactTable) -> list[RuleResult]:
    """Evaluate rules of any type.

    Raises CannotValidate where an expectation cannot be evaluated, MissingDependency without Great Expectations.
    """
    great_expectations()
    try:
        with quiet():
            import pandas as pd

            frame = pd.DataFrame(dict(table.facts))
            expectations = [rule.expectation(place) for place, rule in enumerate(table.rules)]
            suite = great_expectations().ExpectationSuite(name="suite", expectations=expectations)
            source = new_context().data_sources.add_pandas("frames").add_dataframe_asset("frame")
            batch = source.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
            # Without `exclude_unexpected_values` the results would hold the values themselves.
            form = {"result_format": "COMPLETE", "unexpected_index_column_names": [table.key]}
            results = batch.validate(suite, result_format=form | {"exclude_unexpected_values": True}).results
        by_place = {result.expectation_config.meta["place"]: result for result in results}
        return [_result(frame, table, rule, by_place[place]) for place, rule in enumerate(table.rules)]
    except CannotValidate:
        raise
    except Exception as error:  # of any kind: the values may be such as an expectation was not made for
        raise CannotValidate(f"an expectation could not be looked at: {short_error(error)}") from error


def _result(frame: "pd.DataFrame", table: FactTable, rule: Rule, result: Any) -> RuleResult:
    info = result.exception_info or {}  # about the expectation, or with an entry for each of its metrics
    for entry in [info] if "raised_exception" in info else info.values():
        if isinstance(entry, Mapping) and entry["raised_exception"]:
            message = one_line(entry.get("exception_message") or "it raised an error", 200).rstrip(".")
            raise CannotValidate(f"{rule.name} could not be looked at: {message}")
    success, content = bool(result.success), result.result
    if "unexpected_count" in content:
        named = [entry[table.key] for entry in content.get("unexpected_index_list") or []]
        failing = np.array([key for keys in named for key in np.ravel(keys)])
        if rule.type in UNIQUE:  # it names every member of a group of repeats; here the first of each is not one
            repeats = table.keys[frame.duplicated(rule.arguments[UNIQUE[rule.type]]).to_numpy()]
            failing = repeats[np.isin(repeats, failing)]
        return rule.result(table, success, failing)
    observed = content.get("observed_value")
    if isinstance(observed, (bool, np.bool_)) or not isinstance(observed, (int, float, np.number)):
        return rule.result(table, success)  # it can be values of the table
    return rule.result(table, success, observed=float(observed))
