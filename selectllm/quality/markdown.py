"""A verdict as a table in Markdown, for people: rules, numbers, row numbers and ids, all of them made inert."""

import re
from typing import Final

from selectllm.quality.verdicts import Finding, Verdict

_COLUMNS: Final = ("rule", "severity", "holds", "observed", "failing", "first")
_MARKS: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$-])")


def markdown(verdict: Verdict) -> str:
    """The verdict's findings, those that fail first; a rule's name is a user's to choose, so its marks are escaped."""
    failed = sum(not one.success for one in verdict.findings)
    head = f"**{verdict.boundary}**: {verdict.checked} expectations, {failed} not met"
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, sorted(verdict.findings, key=lambda one: one.success))]
    return "\n".join([head, "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _cells(one: Finding) -> tuple[str, ...]:
    failing = f"{one.count:,} of {one.rows:,}" if one.rows else ""
    observed = "" if one.observed is None else f"{one.observed:.6g}"
    holds = "yes" if one.success else "**no**"
    return (_inert(one.rule), one.severity, holds, observed, failing, _inert(one.named()))


def _inert(text: str) -> str:
    return _MARKS.sub(r"\\\1", " ".join(text.split()))
