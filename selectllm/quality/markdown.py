"""A verdict as a table in Markdown, for people: rules, numbers, row numbers and ids, with all marks escaped."""

import re
from typing import Final

from selectllm.quality.verdicts import Finding, Verdict

_COLUMNS: Final = ("rule", "severity", "holds", "observed", "failing", "first")
_MARKS: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$-])")


def markdown(verdict: Verdict) -> str:
    """The verdict's findings, those that fail first; a rule's name is a user's to choose, so its marks are escaped."""
    failed = sum(not finding.success for finding in verdict.findings)
    head = f"**{verdict.boundary}**: {verdict.checked} expectations, {failed} not met"
    rows = [
        _COLUMNS,
        ("---",) * len(_COLUMNS),
        *map(_cells, sorted(verdict.findings, key=lambda finding: finding.success)),
    ]
    return "\n".join([head, "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _cells(finding: Finding) -> tuple[str, ...]:
    failing = f"{finding.count:,} of {finding.rows:,}" if finding.rows else ""
    observed = "" if finding.observed is None else f"{finding.observed:.6g}"
    holds = "yes" if finding.success else "**no**"
    return (_escaped(finding.rule), finding.severity, holds, observed, failing, _escaped(finding.first_text()))


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", " ".join(text.split()))
