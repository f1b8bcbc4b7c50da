"""Says in words what a run did; no text of a pool reaches a terminal or a page as it is."""

import html
from collections.abc import Mapping
from typing import Any, Final

from rich.console import JustifyMethod

from selectllm.ranking.aggregation import position_bias_warning
from selectllm.ranking.thinking import name_of
from selectllm.report.chosen_rows import REASON_WIDTH, SHOWN, shown_rows
from selectllm.report.finished import FinishedRun
from selectllm.report.plain_table import plain_table
from selectllm.text import fit_line

CRITERIA_WIDTH: Final = 300
"""Characters of the criteria that a page shows; the summary has them all."""

VALUE_WIDTH: Final = 40
"""Columns of a name or value of the pool in a sentence."""

MARKDOWN: Final = "|`[]*_\\~:.@"
"""Characters that mean something in Markdown, or that make a link."""

NOTES: Final = {
    "demo": "The embedded demo model ranks by a faint signal: fine for trying things out, not for spending money on. "
    "For real work: --selector ollama:MODEL, or --selector embedded:/path/model.gguf.",
    "scripted": "A scripted selector ranks by a fixed rule, not by judgement: for dry runs and comparison only.",
}


POOR_VECTORS: Final = {
    "unknown": "Rows without a word that the embedding model knows: {:,}. Nothing says which rows they are like. "
    "For other languages: --embedding-model.",
    "alike": "Rows that have the vector of an earlier row: {:,}. The embedding model cannot tell them apart. It may "
    "read only the beginning of a text. For long texts: --embedding-model.",
}
"""What is said of rows whose vectors say little, by the summary's name for their count."""

GIVEN_ALIKE: Final = "Rows that have the vector of an earlier row: {:,}. The vectors given cannot tell them apart."


def notes(summary: dict[str, Any]) -> list[str]:
    """What must be said of a selection that no real model made, a model that goes by positions, or poor vectors."""
    embeddings = summary.get("embeddings") or {}
    poor = {"alike": GIVEN_ALIKE} if "given" in embeddings else POOR_VECTORS
    of_vectors = [text.format(embeddings[name]) for name, text in poor.items() if embeddings.get(name)]
    of_model = NOTES.get(summary["model"]["kind"]) if summary["model"] else None
    of_ranking = _of_ranking(summary["ranking"]) if summary["ranking"] else None
    return [note for note in (of_model, of_ranking, *of_vectors) if note]


def _of_ranking(ranking: dict[str, Any]) -> str | None:
    if constant := ranking.get("constant_answer"):
        numbers = ", ".join(map(str, constant["numbers"]))
        return (
            f"The selector answered {numbers} to {constant['share']:.0%} of the questions, whatever candidates stood "
            "there: the choice is as good as drawn by lot. Choose a stronger model, or try --mode pointwise."
        )
    return position_bias_warning(ranking["position_bias_pvalue"])


def counts(summary: dict[str, Any]) -> list[str]:
    """The run in a few sentences."""
    pool, selected = summary["pool"], summary["selection"]["selected"]
    sentences = [f"Chose {selected:,} of {pool['kept']:,} rows ({rows_read(pool)}{excluded(summary['selection'])})."]
    sentences += _of_aim(summary) + _of_spread(summary["selection"])
    if "given" in (summary.get("embeddings") or {}):  # which records of older runs may not have
        sentences.append(f"Vectors were given: {given_vectors(summary['embeddings'])}.")
    if near_repeats := summary.get("near_repeats"):  # which records of older runs do not have
        sentences.append(
            f"{near_repeats:,} of the chosen rows nearly repeat another: they share at least half of their wording."
        )
    if ranking := summary["ranking"]:
        queries = summary["queries"]
        sentences += [
            f"{queries['count']:,} queries of up to {queries['size']} rows ({queries['composition']}), "
            f"ranked by {summary['model']['name']}{_thinking(summary['model'])}.",
            f"Asked {ranking['asked']:,} times in this run; {ranking['from_ledger']:,} replies were there already. "
            f"{ranking['repaired']:,} answers repaired, {ranking['reasked']:,} questions asked again, "
            f"{ranking['abstained']:,} without a usable answer.",
        ]
        if ratings := summary.get("ratings"):
            saved = f", {ratings['looks_saved']:,} saved" if ratings["looks_saved"] else ""
            is_plain = not _of_spread(summary["selection"]) and not summary.get("strata")
            rated = "chosen rows" if is_plain else f"{selected:,} best rated rows"
            sentences.append(
                f"Gathered by ratings, with {ratings['looks']:,} further questions about rows near the cut{saved}. "
                f"About {ratings['expected_wrong']:,.0f} of the {rated} are expected not to be among the best "
                f"{selected:,} by the model's own judgement."
            )
        if reasked := ranking["reasked_old"]:
            sentences.append(f"{reasked:,} of them were asked again because an earlier run got no usable answer.")
        if undecided := ranking["undecided"]:
            sentences.append(
                f"No usable answer places {undecided:,} rows of the tournament: there they stand last, by id."
            )
        if refused := ranking["refused_rows"]:
            ids = fit_line(", ".join(refused), 120)
            sentences.append(f"The provider refused the content of {len(refused):,} rows, which are not ranked: {ids}.")
        if errors := ranking["errors_by_kind"]:
            listed = ", ".join(f"{count:,} {kind}" for kind, count in errors.items())
            sentences.append(f"Errors that were dealt with: {listed}.")
    elif rows := summary.get("row_ratings"):
        sentences += _of_rows(rows, summary)
    elif likelihoods := summary.get("likelihoods"):
        cut = f"; {likelihoods['truncated']:,} were longer than it reads, and cut" if likelihoods["truncated"] else ""
        sentences.append(
            f"By the strategy {summary['strategy']}: {likelihoods['model']} has read the {likelihoods['rows']:,} rows "
            f"of the pool, {likelihoods['measured']:,} of them in this run{cut}."
        )
    else:
        sentences.append(f"By the strategy {summary['strategy']}, which asks no model.")
    if reasons := summary.get("reasons"):
        sentences.append(_of_reasons(reasons))
    if verdicts := summary["validation"].values():
        checked = sum(verdict["checked"] for verdict in verdicts)
        failed = [f"{rule['rule']} ({rule['count']:,})" for verdict in verdicts for rule in verdict["failed"]]
        sentences.append(f"{checked} expectations checked, {', '.join(failed) + ' not met' if failed else 'all met'}.")
    return sentences


def _of_rows(rows: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """What asking about single rows took and gave."""
    sentences = [
        f"By the strategy {summary['strategy']}: {summary['model']['name']}{_thinking(summary['model'])} was asked "
        f"about {rows['rows']:,} rows one by one.",
        f"Asked {rows['asked']:,} times in this run; {rows['from_ledger']:,} replies were there already. "
        f"{rows['reasked']:,} questions asked again, {rows['abstained']:,} without a usable answer.",
    ]
    tied = ", ".join(f"{count:,} ({name})" for name, count in rows["tied_rows"].items() if count)
    if tied:
        sentences.append(f"Rows that share their score with another, and stand by id among these: {tied}.")
    if refused := rows["refused_rows"]:
        ids = fit_line(", ".join(refused), 120)
        sentences.append(f"The provider refused the content of {len(refused):,} rows, which have no score: {ids}.")
    if errors := rows["errors_by_kind"]:
        sentences.append(f"Errors that were dealt with: {', '.join(f'{n:,} {kind}' for kind, n in errors.items())}.")
    return sentences


def _of_aim(summary: Mapping[str, Any]) -> list[str]:
    """How the pool was narrowed down before the strategy chose, where that was asked for."""
    sentences = []
    if away := summary.get("away_from"):
        sentences.append(
            f"{away['too_near']:,} rows were too near to {away['test_rows']:,} rows of test sets (cosine of at least "
            f"{away['above']:g}), and not to be chosen."
        )
    if target := summary.get("target"):
        sentences.append(
            f"Chosen from a shortlist of {target['shortlisted']:,} rows, near to {target['examples']:,} examples."
        )
    return sentences


def _of_spread(selection: Mapping[str, Any]) -> list[str]:
    """How rows were chosen that do not say the same, and what was passed over, where that was asked for."""
    sentences = []
    if diversity := selection.get("diversity"):
        sentences.append(f"Chosen by rating and diversity together (diversity {diversity:g}).")
    if (passed := selection.get("passed_over")) is not None:
        near = f"cosine of at least {selection['near_duplicate']:g}"
        sentences.append(f"{passed:,} rows were passed over: they are nearly the same as a chosen row ({near}).")
    return sentences


def of_strata(strata: Mapping[str, Any] | None) -> list[str]:
    """How many rows of each value were chosen, where they had quotas: words of the pool are in it."""
    if not strata:
        return []
    shares = [
        f"{value['wanted']:,} of {value['rows']:,} with "
        f"{'any other value' if value['value'] is None else fit_line(value['value'], VALUE_WIDTH)}"
        for value in strata["values"]
    ]
    more = f", and {len(shares) - SHOWN:,} values more" if len(shares) > SHOWN else ""
    return [f"By {fit_line(strata['column'], VALUE_WIDTH)}: {', '.join(shares[:SHOWN])}{more}."]


def _of_reasons(reasons: Mapping[str, Any]) -> str:
    """How many rows have a reason of the model, and why others have none."""
    given, asked, missing = reasons["given"], reasons["asked"], reasons["missing"]
    sentence = f"The model says of {given:,} chosen rows why, asked {asked:,} times in this run"
    if errors := reasons["errors_by_kind"]:
        sentence += f" (errors: {', '.join(f'{count:,} {kind}' for kind, count in errors.items())})"
    if missing:
        sentence += f"; {missing:,} have no reason"
    if reasons["stopped"]:
        sentence += f", since {reasons['stopped']}: run again to go on"
    return f"{sentence}."


def _thinking(model: Mapping[str, Any]) -> str:
    """How the model was asked to think, where it could."""
    return f" (thinking: {name_of(model['think'])})" if model["may_think"] or model["think"] else ""


def format_selection(result: FinishedRun, out: str | None, width: int) -> str:
    """A finished run, as plain text of so many columns."""
    rows = shown_rows(result.chosen(), width, width // 2)
    columns: dict[str, JustifyMethod] = {"order": "right", "why": "left", "instruction": "left"}
    table = plain_table(columns, ([str(cell) for cell in row.values()] for row in rows), width)
    lines = [*counts(result.summary), *of_strata(result.summary.get("strata")), "", *table]
    if (more := result.summary["selection"]["selected"] - len(rows)) > 0:
        lines.append(f"{'…':>5}  and {more:,} more")
    lines += ["", f"Selection: {result.path()}"]
    if result.run:
        lines.append(f"Run:       {result.run}")
    if criteria := result.summary.get("criteria"):
        lines.append(f"Criteria:  {fit_line(criteria, width - 11)}")
    if out:
        lines.append(f"Output:    {out} (selection.parquet, selection.jsonl, quarantine.parquet, summary.json)")
    return "\n".join(lines)


def markdown(result: FinishedRun) -> str:
    """A finished run, as a page in Markdown."""
    lines = [f"> {note}\n" for note in notes(result.summary)]
    lines += [f"- {line}" for line in counts(result.summary)]
    lines += [f"- {safe_markdown(line)}" for line in of_strata(result.summary.get("strata"))]
    lines += ["", "**Selection:**", "", f"    {result.path()}"]  # a block, which a page scrolls where it is narrow
    if criteria := result.summary.get("criteria"):
        lines += ["", f"**Criteria:** {safe_markdown(fit_line(criteria, CRITERIA_WIDTH))}"]
    lines += ["", "| order | why | instruction |", "|---|---|---|"]
    for row in shown_rows(result.chosen()):
        lines.append(f"| {row['order']} | {safe_markdown(row['why'])} | {safe_markdown(row['instruction'])} |")
    lines += ["", "| step | key | seconds | from the store |", "|---|---|---|---|"]
    for kind, seconds in result.summary["seconds"].items():
        cached = "yes" if kind in result.summary["cached"] else "no"
        lines.append(f"| {kind} | `{result.summary['artifacts'][kind]}` | {seconds:.1f} | {cached} |")
    return "\n".join(lines)


def safe_markdown(text: str) -> str:
    """A line of text that means nothing in Markdown or HTML."""
    return html.escape(text).translate({ord(mark): f"&#{ord(mark)};" for mark in MARKDOWN})


def rows_read(pool: Mapping[str, int]) -> str:
    """How many rows were read, and what became of those that are not in the pool."""
    return f"{pool['rows_read']:,} read, {pool['quarantined']:,} quarantined, {pool['duplicates']:,} repeated"


def excluded(selection: Mapping[str, Any]) -> str:
    """How many rows were excluded, where any were."""
    return f", {selection['excluded']:,} excluded" if selection["excluded"] else ""


def given_vectors(embeddings: Mapping[str, Any]) -> str:
    """Where given vectors come from, and how long they are."""
    return f"{fit_line(embeddings['given'], REASON_WIDTH)}, {embeddings['dimension']:,} numbers each"
