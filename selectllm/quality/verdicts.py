"""What the validation of a table found: one finding for each rule, as data to be stored, shown and summed up.

Row numbers and ids stand in it, never a row's text: a text may hold anything, markup and orders included.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from selectllm.errors import QualityError

Boundary: TypeAlias = Literal["pool", "embeddings", "rankings"]
Severity: TypeAlias = Literal["critical", "warning", "info"]
Key: TypeAlias = Literal["row", "id", "query_id", "column"]

FIRST: Final = 10
"""Rows that a finding names."""

_SHOWN: Final = 3  # of them, in an error message

_KEYS: Final[dict[Key, str]] = {"row": "rows", "id": "ids", "query_id": "queries", "column": "columns"}

_HEADER: Final = ("rule", "severity", "holds", "observed", "failing", "first")
_MARKS: Final = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$-])")

_REMOVE: Final = "remove its artifact and run again, so that it is made anew"
_ADVICE: Final[dict[Boundary, str]] = {
    "pool": "mend the file, lower the severity of an expectation of your own",
    "embeddings": _REMOVE,
    "rankings": _REMOVE,
}


class Finding(BaseModel):
    """Whether a table holds to one rule, and which rows do not.

    `count` of `rows` break it, which a rule may allow; `first` names at most ten of them by their `key`. `observed` is
    the number that a rule about the table looks at; of a rule about rows it is the share that breaks it. `expectation`
    and `arguments` are the rule as Great Expectations knows it.
    """

    model_config = ConfigDict(frozen=True)

    rule: str
    success: bool
    severity: Severity
    about: Literal["rows", "table"]
    observed: float | None = None
    count: int = 0
    rows: int = 0
    key: Key
    first: tuple[int | str, ...] = ()
    expectation: str
    arguments: dict[str, Any] = {}

    @property
    def is_failure(self) -> bool:
        """Whether a critical rule fails."""
        return not self.success and self.severity == "critical"

    def first_text(self, most: int = FIRST) -> str:
        """The first of the rows that break the rule, by their keys: "rows 2, 3, ..."."""
        if not self.first:
            return ""
        more = ", ..." if self.count > len(self.first[:most]) else ""
        return f"{_KEYS[self.key]} {', '.join(map(str, self.first[:most]))}{more}"

    @property
    def count_text(self) -> str:
        """How many rows break the rule, and the first few of them."""
        return f"{self.count:,} of {self.rows:,}, {self.first_text(_SHOWN)}"

    @property
    def text(self) -> str:
        """The finding in a few words: the rule, what was observed and the rows that break it."""
        parts = [] if self.about == "rows" or self.observed is None else [f"observed {self.observed:.6g}"]
        parts += [self.count_text] if self.first else []
        return f"{self.rule} ({'; '.join(parts)})" if parts else self.rule


class Verdict(BaseModel):
    """The findings about one table. It is a success unless a critical rule fails."""

    model_config = ConfigDict(frozen=True)

    boundary: Boundary
    success: bool
    checked: int
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, boundary: Boundary, findings: list[Finding]) -> "Verdict":
        """The verdict that follows from findings."""
        success = not any(finding.is_failure for finding in findings)
        return cls(boundary=boundary, success=success, checked=len(findings), findings=tuple(findings))

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings of rules that do not hold, of any severity."""
        return tuple(finding for finding in self.findings if not finding.success)

    def summary(self) -> dict[str, Any]:
        """The verdict in the numbers that a run's summary holds."""
        failed = [{"rule": each.rule, "count": each.count, "severity": each.severity} for each in self.failures]
        return {"success": self.success, "checked": self.checked, "failed": failed}

    def require(self) -> None:
        """Raise QualityError where a critical rule fails."""
        if broken := [finding.text for finding in self.findings if finding.is_failure]:
            raise QualityError(
                f"the {self.boundary} table does not meet its expectations: {'; '.join(broken)}. To go on, "
                f"{_ADVICE[self.boundary]}, or pass --no-validate",
                self,
            )


def merged(parts: Sequence[Sequence[Finding]]) -> list[Finding]:
    """The findings about a whole table, from those about its parts in their order; one for each rule.

    A rule about a whole table must stand in one part alone.
    """
    by_rule: dict[str, list[Finding]] = {}
    for finding in (finding for part in parts for finding in part):
        by_rule.setdefault(finding.rule, []).append(finding)
    return [found[0] if len(found) == 1 else _merged(found) for found in by_rule.values()]


def _merged(found: Sequence[Finding]) -> Finding:
    count, rows = sum(finding.count for finding in found), sum(finding.rows for finding in found)
    return found[0].model_copy(
        update={
            "success": all(finding.success for finding in found),
            "observed": count / rows if rows else None,
            "count": count,
            "rows": rows,
            "first": tuple(key for finding in found for key in finding.first)[:FIRST],
        }
    )


def verdict_markdown(verdict: Verdict) -> str:
    """A verdict as a table in Markdown, what fails first; names are a user's to choose, so their marks are escaped."""
    findings = sorted(verdict.findings, key=lambda finding: finding.success)
    rows = [_HEADER, ("---",) * len(_HEADER), *map(_cells, findings)]
    head = f"**{verdict.boundary}**: {verdict.checked} expectations, {len(verdict.failures)} not met"
    return "\n".join([head, "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _cells(finding: Finding) -> tuple[str, ...]:
    rule, first = (_MARKS.sub(r"\\\1", " ".join(text.split())) for text in (finding.rule, finding.first_text()))
    failing = f"{finding.count:,} of {finding.rows:,}" if finding.rows else ""
    observed = "" if finding.observed is None else f"{finding.observed:.6g}"
    return (rule, finding.severity, "yes" if finding.success else "**no**", observed, failing, first)
