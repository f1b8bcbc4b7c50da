"""A user's own expectations, from a file in Great Expectations' format: docs/data-quality.md shows one."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pyarrow as pa

from selectllm.errors import UsageError
from selectllm.pool import KeptRows, ParsedPool
from selectllm.pool.carried import is_json, original_values
from selectllm.quality.engine import CannotValidate, evaluate
from selectllm.quality.gx import great_expectations, quiet
from selectllm.quality.rules import FactTable, Rule, RuleResult
from selectllm.quality.verdicts import Severity
from selectllm.store import digest
from selectllm.text import join_names, one_line, short_error, type_name

_KNOWN: Final = {"type", "kwargs", "severity", "description", "meta", "notes", "id", "rendered_content"}
_OURS: Final = {"result_format", "catch_exceptions"}  # a user cannot change the form of results: texts stay out
_COLUMNS: Final = ("column", "column_A", "column_B", "column_list", "column_set")
# These ask whether columns are there: one that is missing is an answer, not a mistake.
_ABOUT_COLUMNS: Final = ("expect_column_to_exist", "expect_table_columns_to_match_")


@dataclass(frozen=True)
class Suite:
    """A user's rules, the file that they came from, and a digest of what they say, whatever the layout of the file."""

    path: str
    rules: tuple[Rule, ...]
    digest: str


def load_suite(path: str | Path) -> Suite:
    """Read a suite of expectations about the pool from a YAML or JSON file.

    Raises UsageError where there is none, or one that Great Expectations would not take; MissingDependency without it.
    """
    great_expectations()
    name = one_line(path)
    content = _content(Path(path).expanduser(), name)
    entries = content.get("expectations") if isinstance(content, Mapping) else content
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{name} holds no expectations: write them as a list under the key 'expectations'")
    rules: list[Rule] = []
    for place, entry in enumerate(entries, start=1):
        rule = _rule(entry, f"expectation {place} of {name}")
        twins = sum(earlier.name.split(" #")[0] == rule.name for earlier in rules)
        rule_name = f"{rule.name} #{twins + 1}" if twins else rule.name
        reason = ": ".join(filter(None, [f"fails {rule_name}", rule.reason]))
        rules.append(replace(rule, name=rule_name, reason=reason))
    # as canonical JSON in ASCII; dates, which YAML knows, as text
    parts = [[rule.name, rule.type, dict(rule.arguments), rule.severity, rule.reason] for rule in rules]
    canonical = json.dumps(json.loads(json.dumps(parts, default=str)), sort_keys=True)
    return Suite(name, tuple(rules), digest("expectations", canonical))


def suite_digest(path: str | Path) -> str:
    """A digest of the bytes of a suite's file: enough to know whether the file has changed."""
    return digest("expectations", _bytes(Path(path).expanduser(), one_line(path)).hex())


def check_own(parsed: ParsedPool, suite: Suite) -> list[RuleResult]:
    """Hold the rows whose texts can be used to a suite, with the file's further columns.

    Raises UsageError where the suite does not fit the pool.
    """
    table = KeptRows(parsed, np.ones(len(parsed.rows), dtype=bool)).whole()
    columns = table.column_names
    needed = [rule.arguments for rule in suite.rules if not rule.type.startswith(_ABOUT_COLUMNS)]
    if missing := [name for arguments in needed for name in _columns_of(arguments) if name not in columns]:
        raise UsageError(
            f"{suite.path} expects something of a column {one_line(missing[0], 80)!r}, which the pool does not have: "
            f"name one of {join_names(columns)}"
        )
    with quiet():
        facts = {field.name: _series(field, table[field.name]) for field in table.schema}
    try:
        return evaluate(FactTable("row", facts, suite.rules))
    except CannotValidate as error:
        raise UsageError(f"{suite.path}: {error}. Mend the expectation") from error


def _series(field: pa.Field, column: pa.ChunkedArray) -> Any:
    """A column as pandas holds it, with the user's own values: lists as lists, whole numbers with nulls as such."""
    import pandas as pd

    if not is_json(field) and not pa.types.is_nested(field.type):
        if pa.types.is_integer(field.type) and column.null_count:  # else they would become floats
            return pd.Series(column.to_pylist(), dtype="UInt64" if field.type == pa.uint64() else "Int64")
        with suppress(pa.ArrowException, ValueError, OverflowError, LookupError):  # what pandas cannot hold
            column.validate(full=True)  # text that is not UTF-8 would be found later, when nobody can say where
            return column.to_pandas(use_threads=False)
    return pd.Series(original_values(field, column), dtype=object)


def _content(path: Path, name: str) -> Any:
    from ruamel.yaml import YAML  # Great Expectations brings it along
    from ruamel.yaml.error import YAMLError

    form, load = ("JSON", json.loads) if path.suffix.lower() == ".json" else ("YAML", YAML(typ="safe", pure=True).load)
    try:
        return load(_bytes(path, name).decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"the expectations {name} cannot be read: {short_error(error)}. Check the path") from error
    except (ValueError, YAMLError, RecursionError) as error:
        raise UsageError(f"{name} is not {form} that can be read: {short_error(error)}. Mend it") from error


def _bytes(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        why = error.strerror or short_error(error)
        raise UsageError(f"the expectations {name} cannot be read: {why}. Check the path") from error


def _rule(entry: Any, where: str) -> Rule:
    """The rule of an entry, with its description for a reason; the expectation is built, to see that it can be."""
    if mistake := _mistake(entry):
        raise UsageError(f"{where} {mistake}")
    arguments = {str(key): value for key, value in (entry.get("kwargs") or {}).items() if key not in _OURS}
    meta = entry.get("meta")
    columns = ", ".join(map(str, _columns_of(arguments)))
    name = meta.get("rule") if isinstance(meta, Mapping) else None
    name = one_line(name or (f"{entry['type']}({columns})" if columns else entry["type"]), 200)
    reason = one_line(entry.get("description") or "", 200)
    rule = Rule(name, entry["type"], arguments, entry.get("severity", "critical"), reason)
    try:
        with quiet():
            rule.expectation()
    except Exception as error:  # of a dozen kinds, from several libraries
        raise UsageError(f"{where} is not one that Great Expectations takes: {_message(rule, error)}") from error
    return rule


def _mistake(entry: Any) -> str:
    """What is wrong with the form of an entry, if anything is."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
        return "has no type: write it as {type: expect_..., kwargs: {...}}"
    if unknown := [str(key) for key in entry if key not in _KNOWN]:
        return f"has a key {one_line(unknown[0], 80)!r}, which means nothing: {join_names(sorted(_KNOWN))} do"
    arguments, severity = entry.get("kwargs") or {}, entry.get("severity", "critical")
    if not isinstance(arguments, Mapping):
        return f"has kwargs that are {type_name(arguments)}: write them as {{name: value}}"
    if misplaced := [str(key) for key in arguments if key in _KNOWN]:
        return f"has {misplaced[0]!r} among its kwargs: write it beside them"
    if severity not in get_args(Severity):
        return f"has the severity {one_line(severity, 80)!r}: it can be critical, warning or info"
    return ""


def _columns_of(arguments: Mapping[str, Any]) -> list[Any]:
    """The columns that an expectation looks at."""
    named = [arguments[key] for key in _COLUMNS if arguments.get(key) is not None]
    return [name for value in named for name in (value if isinstance(value, (list, tuple, set)) else [value])]


def _message(rule: Rule, error: Exception) -> str:
    if type(error).__name__ == "ExpectationNotFoundError":
        known = great_expectations("expectations.registry").list_registered_expectation_implementations()
        close = get_close_matches(rule.type, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ": see https://greatexpectations.io/expectations"
        return f"it knows no {one_line(rule.type, 80)}{hint}"
    if callable(errors := getattr(error, "errors", None)):  # pydantic's, without its many lines
        return one_line("; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in errors()), 300)
    return short_error(error)
