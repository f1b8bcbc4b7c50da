"""A comparison in words: as Markdown, as lines for a terminal, and as a record for programs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import JustifyMethod

from selectllm.comparison.cells import REFERENCE, strategy_of
from selectllm.comparison.measures import ABOUT
from selectllm.comparison.summary import Comparison, Estimate, Way, overlaps, way_name
from selectllm.evaluation.measures import OTHERS
from selectllm.evaluation.measures.overlap import jaccard_by_chance
from selectllm.paths import redact_url
from selectllm.report.format import safe_markdown
from selectllm.report.plain_table import plain_table
from selectllm.settings import EmbeddingSettings
from selectllm.store import versions
from selectllm.text import one_line

MARKS: Final = {"higher": "▲", "lower": "▼", "not different": "="}
"""How a table shows a verdict."""

PICTURES: Final = {
    "differences": "Which strategies differ from random draws, and by how much?",
    "coverage": "Does a strategy buy diversity with coverage?",
    "recall": "What does finding the rows of known worth cost?",
    "overlap": "Do two strategies choose the same rows?",
}
"""The question that each picture answers."""

MAIN: Final = (
    *("facility_location", "k_center_radius", "cluster_entropy", "coverage_proxy", "vendi", "novelsum", "distinct_2"),
    *("near_duplicate_share", "length_mean", "recall", "worth", "auc", "auc_within_length", "questions"),
)
"""The values that a text shows; the tables for programs have all."""

TERMINAL: Final = {
    "facility_location": "coverage",
    "vendi": "Vendi",
    "novelsum": "NovelSum",
    "length_mean": "length",
    "worth": "worth",
    "auc_within_length": "AUC in length",
    "questions": "questions",
}
"""The values that fit a terminal, and their short names."""

HOW_TO_READ: Final = f"""\
Each number is a mean over seeds. In brackets is the interval of its difference to {REFERENCE}, by a paired bootstrap
over seeds (95 %). ▲ is higher than {REFERENCE}, ▼ lower: the interval leaves out 0, and the mean lies outside of the
band of random draws (2.5 to 97.5 % of them). = is not different. A strategy that no seed changes is done once: its
interval shows only how much random draws vary. Intervals over 5 seeds are too narrow: they cover in about 84 % of
cases. That is why the band counts, too. Nothing here says that a model tuned on these rows gets better: that takes
answers, and a tuning."""


@dataclass(frozen=True)
class Table:
    """A table of a page or a text: its title, a sentence about it, its columns, and rows of texts."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def format_record(record: Mapping[str, Any], width: int) -> str:
    """What a terminal shows: the values with their verdicts, and where the tables are."""
    lines = list[str]()
    for budget in record["budgets"]:
        rows = [row for row in record["estimates"] if row["budget"] == budget]
        cells = {(row["strategy"], row["selector"], row["measure"]): _cell(row) for row in rows}
        shown = [name for name in TERMINAL if any(row["measure"] == name for row in rows)]
        columns: dict[str, JustifyMethod] = {f"{budget:,} rows": "left"}
        for name in shown:
            columns[TERMINAL[name]] = "right"
        ways = dict.fromkeys((row["strategy"], row["selector"]) for row in rows)
        table = [[way_name(way), *(cells.get((*way, name), "-") for name in shown)] for way in ways]
        lines += [*plain_table(columns, table, width), ""]
    lines.append(f"▲ higher, ▼ lower than {REFERENCE}, = not different. Means over {record['seeds']} seeds")
    if record["out"]:
        lines.append(f"Intervals, pictures and all values: {record['out']}")
    return "\n".join(lines)


def to_markdown(comparison: Comparison, pictures: Sequence[str]) -> str:
    """The whole comparison as Markdown; `pictures` are the names of the SVG files beside it."""
    settings = comparison.settings
    lines = [
        f"# Comparison: {', '.join(safe_markdown(_file_name(pool)) for pool in (settings.pool, *settings.more_files))}",
        "",
    ]
    lines += [f"- {name}: {value}" for name, value in facts(comparison).items()] + ["", HOW_TO_READ, ""]
    for name in pictures:
        lines += [f"**{PICTURES[name]}**", "", f"![{PICTURES[name]}]({name}.svg)", ""]
    for table in tables(comparison):
        lines += [f"## {table.title}", "", table.about, ""]
        lines += [f"| {' | '.join(table.columns)} |", "|---" * len(table.columns) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in table.rows] + [""]
    if failed := failures(comparison):
        lines += ["## What could not be chosen", "", *(f"- {safe_markdown(one_line(line))}" for line in failed), ""]
    return "\n".join(lines)


def tables(comparison: Comparison) -> list[Table]:
    """A table for each main value that was measured, one of overlaps, and one of what each strategy needs."""
    measured = {estimate.measure for estimate in comparison.estimates}
    found = [_table(comparison, name) for name in MAIN if name in measured]
    agreements = [_agreements(comparison)] if comparison.agreements else []
    return [*found, _overlaps(comparison), *agreements, _needs(comparison)]


def title_of(value: str) -> str:
    """The name of a value in words."""
    return value.replace("_", " ")


def facts(comparison: Comparison) -> dict[str, str]:
    """What was compared, when and by which versions."""
    settings, own = comparison.settings, versions()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "budgets": ", ".join(f"{budget:,}" for budget in settings.budgets),
        "seeds": f"{settings.seeds}, from {settings.seed}; {REFERENCE}: {_seeds_of_reference(comparison)}",
        "selectors": ", ".join(settings.selectors),
        **_vectors(settings.embedding),
        "versions": ", ".join(f"{name} {version}" for name, version in own.items()),
    }


def _vectors(settings: EmbeddingSettings) -> dict[str, str]:
    given = settings.given
    return {"embedding model": settings.model} if given is None else {"vectors given": redact_url(given)}


def failures(comparison: Comparison) -> list[str]:
    """The cells that could not choose their rows, each with its error."""
    return [f"{outcome.cell.title}: {outcome.error}" for outcome in comparison.outcomes if outcome.error]


def as_record(comparison: Comparison) -> dict[str, Any]:
    """The comparison as values that JSON has words for: what `summary.csv` holds, and what failed."""
    return {
        "budgets": list(comparison.settings.budgets),
        "seeds": comparison.settings.seeds,
        "out": comparison.settings.out,
        "facts": facts(comparison),
        "cells": len(comparison.outcomes),
        "failed": failures(comparison),
        "estimates": [summary_row(estimate) for estimate in comparison.estimates],
    }


def summary_row(estimate: Estimate) -> dict[str, Any]:
    """One estimate as a row of `summary.csv`."""
    strategy, selector = estimate.way
    interval, difference = estimate.interval, estimate.difference
    return {
        "strategy": strategy,
        "selector": selector,
        "budget": estimate.budget,
        "measure": estimate.measure,
        "seeds": len(estimate.by_seed),
        "mean": estimate.mean,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "difference": difference and difference.mean,
        "difference_low": difference and difference.low,
        "difference_high": difference and difference.high,
        "verdict": estimate.verdict,
    }


def _table(comparison: Comparison, name: str) -> Table:
    """Rows: ways; columns: budgets."""
    chosen = [estimate for estimate in comparison.estimates if estimate.measure == name]
    budgets, about = comparison.settings.budgets, ABOUT[name]
    better = "" if about.better == "neither" else f" {about.better.capitalize()} is better."
    text = f"Rewards: {about.rewards}.{better} Gamed by: {about.gamed_by}."
    rows = [
        [way_name(way)] + [_long_cell([e for e in chosen if e.budget == budget and e.way == way]) for budget in budgets]
        for way in _ways(chosen)
    ]
    title = title_of(name)
    return Table(title[:1].upper() + title[1:], text, ["strategy", *(f"{budget:,} rows" for budget in budgets)], rows)


def _overlaps(comparison: Comparison) -> Table:
    """The overlap of all ways with one another, at the largest budget."""
    budget = max(comparison.settings.budgets)
    shares = overlaps(comparison.outcomes, budget)
    ways = list(dict.fromkeys(way for way, _ in shares))
    rows = [[way_name(one), *(f"{shares[one, other]:.2f}" for other in ways)] for one in ways]
    chance = jaccard_by_chance(budget, budget, max(outcome.pool_rows for outcome in comparison.outcomes))
    about = (
        "The rows that both choose, over the rows that either chooses (Jaccard), mean over seeds. Of a strategy with "
        f"itself: between its seeds. Two independent draws would have {chance:.2f}."
    )
    return Table(f"Overlap at {budget:,} rows", about, ["", *map(way_name, ways)], rows)


def _agreements(comparison: Comparison) -> Table:
    """How far the selectors of one strategy agree."""
    rows = [
        [
            *(found.strategy, f"{found.budget:,}", *found.selectors),
            *("-" if value is None else f"{value:.2f}" for value in (found.kendalls_tau, found.top_overlap)),
        ]
        for found in comparison.agreements
    ]
    about = (
        "Kendall's tau over the rows that both place: 1 is the same order, 0 chance. Top overlap: of the first N rows "
        f"of one, the share that are among the first N of the other. Gamed by: {OTHERS['agreement'].gamed_by}."
    )
    columns = ["strategy", "N", "selector", "other selector", "Kendall's tau", "top overlap"]
    return Table("Agreement of selectors", about, columns, rows)


def _needs(comparison: Comparison) -> Table:
    rows = []
    for name in dict.fromkeys(outcome.cell.strategy for outcome in comparison.outcomes):
        strategy = strategy_of(name)
        embeds = "yes" if "embeddings" in strategy.needs else "no"
        asks = "yes" if "model" in strategy.needs else "its weights" if "weights" in strategy.needs else "no"
        gpu = "where the model does" if "model" in strategy.needs else "no"
        rows.append([name, "no", embeds, asks, gpu, strategy.source or "-"])
    columns = ["strategy", "answers", "embeddings", "a model", "a GPU", "source"]
    about = "What a strategy needs besides the texts. Measures need embeddings, whatever the strategy needs."
    return Table("Who needs what", about, columns, rows)


def _ways(estimates: Sequence[Estimate]) -> list[Way]:
    return list(dict.fromkeys(estimate.way for estimate in estimates))


def _cell(row: Mapping[str, Any]) -> str:
    return f"{number(row['mean'])} {MARKS.get(row['verdict'] or '', ' ')}"


def _long_cell(estimates: Sequence[Estimate]) -> str:
    if not estimates:
        return "-"
    estimate, difference = estimates[0], estimates[0].difference
    if difference is None:
        return number(estimate.mean)
    interval = f"{number(difference.low, sign=True)} to {number(difference.high, sign=True)}"
    return f"{number(estimate.mean)} ({interval}) {MARKS[estimate.verdict or 'not different']}"


def number(value: float, *, sign: bool = False) -> str:
    """A number in four digits, or whole where it is large."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:{'+' if sign else ''},.{digits}f}"


def _seeds_of_reference(comparison: Comparison) -> int:
    return len({outcome.cell.seed for outcome in comparison.outcomes if outcome.cell.strategy == REFERENCE})


def _file_name(location: str) -> str:
    return redact_url(location).rstrip("/").rpartition("/")[2]
