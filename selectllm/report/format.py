"""Says in words what a run would do, did and chose.

Pools hold anything: no text of theirs reaches a terminal or a page as it is.
"""

import html
import unicodedata
from typing import Any, Final

import pyarrow as pa
from rich.cells import cell_len, chop_cells

from selectllm.ranking.aggregation import warning
from selectllm.report.result import Result

SHOWN: Final = 20
"""Rows of a selection that are shown; the file has them all."""

MARKS: Final = 4
"""Accents on one letter that are shown; no living script needs more."""

NOTES: Final = {
    "demo": "The embedded demo model ranks by a faint signal: fine for trying things out, not for spending money on. "
    "For real work: --selector ollama:MODEL, or --selector embedded:/path/model.gguf.",
    "scripted": "A scripted selector ranks by a fixed rule, not by judgement: for dry runs and comparison only.",
}


def notes(summary: dict[str, Any]) -> list[str]:
    """What must be said of a selection that no real model made, or that one made by looking at places."""
    said = [NOTES.get(summary["model"]["quality"]), warning(summary["ranking"]["position_p"])]
    return [one for one in said if one]


def reason(row: dict[str, Any]) -> str:
    """Why a row of a selection was chosen."""
    place = f"ranked {row['rank']} in query {row['query_id']}"
    decided = {"rank": "", "tournament": f", tournament round {row['round']}", "score": ", by score"}
    return place + decided[row["picked_by"]]


def one_line(text: str, width: int) -> str:
    """A text fit for one line of `width` columns: nothing that breaks, hides, turns or piles up, and not too long."""
    kinds, shown = "", ""
    for one in " ".join(text.lstrip()[: 10 * width].split()):
        kind = unicodedata.category(one)[0]
        if kind != "M" or not kinds.endswith("M" * MARKS):
            kinds, shown = kinds + kind, shown + (one if kind != "C" else "\N{REPLACEMENT CHARACTER}")
    if len(shown) <= width and cell_len(shown) <= width:
        return shown
    return chop_cells(shown[: width - 1], width - 1)[0] + "…"


def shown_rows(selection: pa.Table, width: int = 120) -> list[dict[str, Any]]:
    """The first rows of a selection: order, why, instruction."""
    return [
        {"order": row["order"], "why": reason(row), "instruction": one_line(row["instruction"], width)}
        for row in selection.slice(0, SHOWN).to_pylist()
    ]


def counts(summary: dict[str, Any]) -> list[str]:
    """The run in a few sentences."""
    pool, ranking, model = summary["pool"], summary["ranking"], summary["model"]
    queries, selected = summary["queries"], summary["selection"]["selected"]
    return [
        f"Chose {selected:,} of {pool['kept']:,} rows ({_read(pool)}{_excluded(summary['selection'])}).",
        f"{queries['count']:,} queries of up to {queries['size']} rows ({queries['composition']}), "
        f"ranked by {model['name']}.",
        f"Asked {ranking['asked']:,} times in this run; {ranking['from_ledger']:,} replies were there already. "
        f"{ranking['repaired']:,} answers repaired, {ranking['reasked']:,} questions asked again, "
        f"{ranking['abstained']:,} without a usable answer.",
        *([_faults(ranking["faults"])] if ranking["faults"] else []),
        *([_validated(summary["validation"])] if summary["validation"] else []),
    ]


def chosen(result: Result, out: str | None, width: int) -> str:
    """A finished run, as plain text of so many columns."""
    rows = shown_rows(result.table(), width - 51)
    lines = [*counts(result.summary), "", f"{'order':>5}  {'why':<42}  instruction"]
    lines += [f"{row['order']:>5}  {row['why']:<42}  {row['instruction']}" for row in rows]
    if (more := result.summary["selection"]["selected"] - len(rows)) > 0:
        lines.append(f"       … and {more:,} more")
    lines += ["", f"Selection: {result.path()}"]
    if out:
        lines.append(f"Output:    {out} (selection.parquet, selection.jsonl, quarantine.parquet, summary.json)")
    return "\n".join(lines)


def markdown(result: Result) -> str:
    """A finished run, as a page in Markdown."""
    lines = [f"> {said}\n" for said in notes(result.summary)]
    lines += [f"- {line}" for line in counts(result.summary)]
    lines += ["", f"**Selection:** `{result.path()}`", "", "| order | why | instruction |", "|---|---|---|"]
    for row in shown_rows(result.table()):
        safe = html.escape(row["instruction"]).translate({ord(one): f"&#{ord(one)};" for one in "|`[]*_\\~:.@"})
        lines.append(f"| {row['order']} | {row['why']} | {safe} |")
    lines += ["", "| step | key | seconds | from the store |", "|---|---|---|---|"]
    for kind, seconds in result.summary["seconds"].items():
        cached = "yes" if kind in result.summary["cached"] else "no"
        lines.append(f"| {kind} | `{result.summary['artifacts'][kind]}` | {seconds:.1f} | {cached} |")
    return "\n".join(lines)


def planned(plan: dict[str, Any]) -> str:
    """A plan, as plain text."""
    pool, queries, ranking = plan["pool"], plan["queries"], plan["ranking"]
    lines = [
        f"Pool       {pool['kept']:,} rows to choose from ({_read(pool)})",
        f"Queries    {queries['count']:,} of up to {queries['size']} rows, {queries['composition']}",
    ]
    if ranking["mode"] == "pointwise":
        lines.append(f"Ranking    {ranking['calls']:,} calls, one for each row (pointwise)")
    else:
        grown = "" if ranking["blocks"] == 1 else ": the budget needs more than the first block"
        lines.append(
            f"Ranking    {ranking['ranking_calls']:,} calls, "
            f"{ranking['blocks']} block(s) of depth {ranking['depth']}{grown}"
        )
        lines.append(f"Tournament {ranking['tournament_calls']:,} calls in {ranking['rounds']} round(s)")
    cost = "" if plan["cost"] is None else f", at most {plan['cost']:,.2f} by the prices given"
    lines += [
        f"Calls      at most {ranking['calls']:,} unless answers have to be asked for again",
        f"Tokens     about {ranking['prompt_tokens']:,} read, at most {ranking['output_tokens']:,} written "
        f"(estimated at four bytes a token){cost}",
        f"Selection  {plan['selection']['budget']:,} rows{_excluded(plan['selection'])}. No model was called",
    ]
    return "\n".join(lines)


def _validated(validation: dict[str, Any]) -> str:
    checked = sum(one["checked"] for one in validation.values())
    failed = [f"{fault['rule']} ({fault['count']:,})" for one in validation.values() for fault in one["failed"]]
    return f"{checked} expectations checked, {', '.join(failed) + ' not met' if failed else 'all met'}."


def _faults(faults: dict[str, int]) -> str:
    return "Faults that were dealt with: " + ", ".join(f"{count:,} {kind}" for kind, count in faults.items()) + "."


def _read(pool: dict[str, int]) -> str:
    return f"{pool['rows_read']:,} read, {pool['quarantined']:,} quarantined, {pool['duplicates']:,} repeated"


def _excluded(selection: dict[str, Any]) -> str:
    return f", {selection['excluded']:,} excluded" if selection["excluded"] else ""
