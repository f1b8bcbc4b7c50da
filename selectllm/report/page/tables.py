"""The page's small tables: what the run took, gave and was made from."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from selectllm.report.page.source import RunSource
from selectllm.report.page.texts import cut, visible
from selectllm.report.spent import money
from selectllm.store.runs import StepRecord

MOST_REASONS: Final = 30
"""Reasons of the quarantine that are shown, the most frequent first."""

SHOWN_ROWS: Final = 5  # of each reason

OUTCOMES: Final = {
    "ranked": "questions with a usable answer",
    "repaired": "answers that were repaired",
    "reasked": "questions that were asked again",
    "abstained": "questions without a usable answer",
    "split": "lists that did not fit the context, and were halved",
    "clipped": "texts that were cut to --candidate-chars",
    "ties": "ties between neighbours, broken by rule",
}


@dataclass(frozen=True)
class Table:
    """A table: its heads, its rows of texts, and from which column on they are numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers_from: int = 1


def steps_table(source: RunSource) -> Table:
    """Each step: seconds, whether it was in the store already, and what this run asked and paid for."""
    rows = [
        (step.kind, f"{step.seconds:,.1f}", "yes" if step.cached else "no", *_counts([step]))
        for step in source.record.steps
    ]
    total = sum(step.seconds for step in source.record.steps)
    rows.append(("all steps", f"{total:,.1f}", "", *_counts(source.record.steps)))
    head = ("step", "seconds", "from the store", "questions asked", "tokens read", "tokens written")
    return Table(head, tuple(rows))


def _counts(steps: Iterable[StepRecord]) -> tuple[str, str, str]:
    asked, read, written = zip(*((s.asked, s.paid_prompt_tokens, s.paid_output_tokens) for s in steps), strict=True)
    return f"{sum(asked):,}", f"{sum(read):,}", f"{sum(written):,}"


def outcomes_table(facts: dict[str, Any]) -> Table | None:
    """What became of the questions that the selection rests on, whichever run asked them; None where none ranked."""
    if not facts:
        return None
    rows = [(text, f"{facts.get(name, 0):,}") for name, text in OUTCOMES.items()]
    rows += [(f"errors that were dealt with: {visible(str(kind))}", f"{n:,}") for kind, n in _errors(facts).items()]
    if refused := facts.get("refused_rows"):
        rows.append(("rows whose content the provider refused", f"{len(refused):,}"))
    rows += [(f"tokens {verb}", f"{facts.get(name, 0):,}") for name, verb in _TOKENS.items()]
    return Table(("outcome", "count"), tuple(rows))


_TOKENS: Final = {"prompt_tokens": "read", "output_tokens": "written"}


def _errors(facts: dict[str, Any]) -> dict[str, int]:
    return dict(facts.get("errors_by_kind") or {})


def quarantine_table(source: RunSource) -> Table | None:
    """The rows that could not be used, by reason; None where there are none, or the table is gone."""
    if not source.has("quarantine", "row", "reason"):
        return None
    counts, first = Counter[str](), dict[str, list[int]]()
    for batch in source.batches("quarantine", "row", "reason"):
        for number, reason in zip(batch["row"].to_pylist(), batch["reason"].to_pylist(), strict=True):
            kind = re.sub(r"(?<=duplicate of row )[0-9]+", "…", reason)
            counts[kind] += 1
            if len(first.setdefault(kind, [])) < SHOWN_ROWS:
                first[kind].append(number)
    rows = [(cut(kind, 300), f"{count:,}", ", ".join(map(str, first[kind]))) for kind, count in counts.most_common()]
    if len(rows) > MOST_REASONS:
        others = sum(counts.values()) - sum(count for _, count in counts.most_common(MOST_REASONS))
        rows = [*rows[:MOST_REASONS], (f"{len(counts) - MOST_REASONS:,} further reasons", f"{others:,}", "")]
    return Table(("reason", "rows", "the first of them"), tuple(rows)) if rows else None


def validation_table(source: RunSource) -> Table | None:
    """The expectations that are not met, by table, and how many were checked; None where nothing was."""
    rows: list[tuple[str, ...]] = []
    for boundary, verdict in (source.summary.get("validation") or {}).items():
        rows.append((boundary, "holds" if verdict["success"] else "fails", f"{verdict['checked']:,}", ""))
        rows += [
            (boundary, f"not met ({each['severity']})", f"{each['count']:,}", visible(each["rule"]))
            for each in verdict["failed"]
        ]
    return Table(("table", "verdict", "expectations, or rows", "rule"), tuple(rows), 4) if rows else None


def artifacts_table(source: RunSource) -> Table:
    """The artifacts that the run's selection was made from."""
    rows = []
    for kind, key in source.summary["artifacts"].items():
        manifest = source.manifests.get(kind)
        size = (f"{manifest.rows:,}", manifest.created[:19]) if manifest else ("", source.missing.get(kind, "is gone"))
        rows.append((kind, str(key), *size))
    return Table(("artifact", "key", "rows", "made, in UTC"), tuple(rows), 4)


def versions_table(source: RunSource) -> Table:
    """The versions of the packages that decide results."""
    return Table(
        ("package", "version"), tuple((name, str(text)) for name, text in source.summary["versions"].items()), 2
    )


def settings_text(source: RunSource) -> str:
    """The settings, which hold no secrets, as JSON."""
    return visible(json.dumps(source.record.settings, indent=1, ensure_ascii=False, default=str))


def headline(source: RunSource) -> Sequence[tuple[str, str]]:
    """What was chosen from what, by whom, when, and for how much."""
    summary, record = source.summary, source.record
    model, cost = summary.get("model"), summary.get("cost")
    facts = [
        ("Pool", f"{record.settings.get('pool', '')}: {summary['pool']['kept']:,} usable rows"),
        ("Strategy", record.strategy),
        ("Model", f"{model['name']} ({model['selector']}, {model['mode']})" if model else "none: no model was asked"),
        ("Chosen on", _when(record.created or record.run)),
    ]
    if model:
        facts.append(("Cost", _cost(cost)))
    facts += [("Seed", str(summary.get("seed", ""))), ("Run", record.run)]
    return [(name, visible(text)) for name, text in facts]


def _cost(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return "unknown: no prices were given (--price-in, --price-out)"
    text = f"{money(cost['this_run'])} in this run, {money(cost['selection'])} for all that the selection rests on"
    return f"{text} (about, in {cost['estimate']})" if "estimate" in cost else text


def _when(text: str) -> str:
    match = re.match(r"(\d{4})-?(\d\d)-?(\d\d)T(\d\d):?(\d\d)", text)
    return "{}-{}-{} {}:{} UTC".format(*match.groups()) if match else text
