"""Says in words what a run would do and take."""

import json
from collections.abc import Mapping
from typing import Any

from selectllm.report.format import excluded, given_vectors, of_strata, rows_read
from selectllm.report.spent import money
from selectllm.text import escape_unprintable


def format_plan(plan: dict[str, Any]) -> str:
    """A plan, as plain text."""
    pool, queries, ranking, by_row = (plan[name] for name in ("pool", "queries", "ranking", "row_ratings"))
    lines = [f"Pool       {pool['kept']:,} rows to choose from ({rows_read(pool)})"]
    if ranking:
        lines.append(f"Queries    {queries['count']:,} of up to {queries['size']} rows, {queries['composition']}")
        lines += _ranking_plan(ranking) + _calls_plan(ranking, plan)
    elif by_row:
        lines.append(f"Strategy   {plan['strategy']}: {by_row['calls']:,} calls, {_by_row(by_row)}")
        lines += _calls_plan(by_row, plan)
    elif plan["model"]:
        lines.append(f"Strategy   {plan['strategy']}: it does not say how much it asks")
    else:
        lines.append(f"Strategy   {plan['strategy']}: no model is asked")
    if plan["batches"]:
        lines.append(
            f"Batches    at most {plan['batches']:,} one after the other, each within 24 hours, unless answers have to "
            "be asked for again; prices are halved"
        )
    if plan["embeddings"]:
        lines.append(f"Vectors    given: {given_vectors(plan['embeddings'])}. No row is embedded")
    lines += _aim_plan(plan)
    lines.append(f"Selection  {plan['selection']['budget']:,} rows{excluded(plan['selection'])}. No model was called")
    if plan["prompt"]:
        lines += _prompt(plan["prompt"])
    return "\n".join(lines)


def _aim_plan(plan: Mapping[str, Any]) -> list[str]:
    """What is known of the run's aim without embeddings."""
    lines = [f"Quotas     {line}" for line in of_strata(plan["strata"])]
    if target := plan["target"]:
        lines.append(
            f"Target     a shortlist of at most {target['shortlisted']:,} rows, near to {target['examples']:,} "
            "examples: only embeddings tell which"
        )
    if away := plan["away_from"]:
        lines.append(
            f"Tests      {away['in_tests']:,} rows stand in {away['test_rows']:,} rows of test sets: only embeddings "
            "tell which others are too near to one"
        )
    return lines


def _prompt(prompt: dict[str, Any]) -> list[str]:
    """A question as it is sent; marks that could move a terminal are written as JSON's escapes."""
    if prompt["messages"] is None or prompt["rows"] == 1:
        about = "about the first row of the pool"
    else:
        about = f"about the first {prompt['rows']:,} rows of the pool: only embeddings tell which rows share a query"
    lines = [f"Prompt     one question of the run, {about}"]
    if prompt["messages"] is None:
        lines += ["", "[text, to be continued by one token]", prompt["continued"]]
    for message in prompt["messages"] or ():
        lines += ["", f"[message of the role {message['role']}]", message["content"]]
    if prompt["schema"]:
        lines += ["", "[schema of the answer]", json.dumps(prompt["schema"])]
    lines += [
        "",
        "[options]",
        f"at most {prompt['max_tokens']:,} token(s) of answer, temperature {prompt['temperature']:g}, "
        f"seed {prompt['seed']}, thinking {prompt['think']}",
    ]
    return [escape_unprintable(line) for line in lines]


def _by_row(asked: dict[str, Any]) -> str:
    """What a strategy asks about each row, and how."""
    names, how = asked["dimensions"], f" ({asked['mode']})" if asked["mode"] == "pointwise" else ""
    return f"{len(names)} for each row that may be chosen: {', '.join(names)}{how}"


def _ranking_plan(ranking: dict[str, Any]) -> list[str]:
    if ranking["mode"] == "pointwise":
        return [f"Ranking    {ranking['calls']:,} calls, one for each row (pointwise)"]
    more = "" if ranking["pages"] == 1 else ": the budget needs more than the first page"
    return [
        f"Ranking    {ranking['ranking_calls']:,} calls, {ranking['pages']} page(s) of depth {ranking['depth']}{more}",
        f"Looks      at most {ranking['look_calls']:,} calls about rows near the cut"
        if ranking["look_calls"]
        else f"Tournament {ranking['tournament_calls']:,} calls in {ranking['rounds']} round(s)",
    ]


def _calls_plan(asked: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    """What all questions of a run take together."""
    reasons, cost, list_prices_of = plan["reasons"], plan["cost"], plan["list_prices_of"]
    lines = [f"Reasons    {reasons['calls']:,} calls, one for each chosen row"] if reasons else []
    calls, read, written = (
        asked[name] + (reasons[name] if reasons else 0) for name in ("calls", "prompt_tokens", "output_tokens")
    )
    price = "" if cost is None else f", at most {money(cost)} {_by_prices(list_prices_of)}"
    return [
        *lines,
        f"Calls      at most {calls:,} unless answers have to be asked for again",
        f"Tokens     about {read:,} read, at most {written:,} written (estimated at four bytes a token){price}",
        *_longest(asked["longest"]),
    ]


def _by_prices(list_prices_of: str | None) -> str:
    if list_prices_of is None:
        return "by the prices given"
    return f"USD by list prices of {list_prices_of}, which may have changed: give yours by --price-in and --price-out"


def _longest(longest: dict[str, Any]) -> list[str]:
    question = f"Longest    a question of about {longest['prompt_tokens']:,} tokens"
    if longest["seconds"] is None:
        return [f"{question} (how long it takes: see `selectllm doctor`)"]
    speed = f"{longest['tokens_read_per_second']:,.0f} tokens read a second, as in earlier replies"
    warning = [f"           NOTE: {longest['warning']}"] if longest["warning"] else []
    return [f"{question}: about {longest['seconds']:,.0f} s ({speed})", *warning]
