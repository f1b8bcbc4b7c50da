"""What a comparison would do and take at most, without embedding a row or asking a model."""

from typing import Any

from selectllm.comparison.cells import cell_settings, list_cells, warn_of_unused
from selectllm.comparison.settings import ComparisonSettings
from selectllm.comparison.summary import way_name
from selectllm.llm.prices import is_free
from selectllm.plan import plan_run
from selectllm.text import join_names


def plan_comparison(settings: ComparisonSettings) -> dict[str, Any]:
    """Count the cells of each way, and the questions and tokens that they take at most.

    What one budget of a seed was asked serves the others: of each seed the largest budget is counted. Pointwise, all
    seeds ask the same. `cost` is by the prices given, or else an estimate in USD by list prices, whose date
    `list_prices_of` is then; of all it is the sum of those that are known, and `without_price` names the others that
    ask. Raises UsageError, and PoolError.
    """
    cells = list_cells(settings)
    warn_of_unused(settings, cells)
    ways, dates = [], set[str]()
    for way in dict.fromkeys((cell.strategy, cell.selector) for cell in cells):
        own = [cell for cell in cells if (cell.strategy, cell.selector) == way]
        seeds = {cell.seed for cell in own}
        plan = plan_run(cell_settings(settings, max(own, key=lambda cell: cell.budget)))
        asked = plan["ranking"] or plan["row_ratings"] or {}
        times = 1 if plan["ranking"] and asked["mode"] == "pointwise" else len(seeds)
        counts = {name: times * asked.get(name, 0) for name in ("calls", "prompt_tokens", "output_tokens")}
        cost = plan["cost"] and round(plan["cost"] * times, 4)
        dates |= {plan["list_prices_of"]} - {None}
        ways.append(
            {"strategy": way[0], "selector": way[1], "cells": len(own), "seeds": len(seeds), **counts, "cost": cost}
        )
    costs = [way["cost"] for way in ways if way["cost"] is not None]
    return {
        "cells": len(cells),
        "ways": ways,
        "calls": sum(way["calls"] for way in ways),
        "cost": round(sum(costs), 4) if costs else None,
        "without_price": [
            _name(way) for way in ways if way["calls"] and way["cost"] is None and not is_free(way["selector"])
        ],
        "list_prices_of": min(dates, default=None),
    }


def format_comparison_plan(plan: dict[str, Any]) -> str:
    """A plan as lines of text."""
    lines = []
    for way in plan["ways"]:
        asks = f", at most {way['calls']:,} questions" if way["calls"] else ", no question"
        cost = "" if way["cost"] is None else f", cost up to {way['cost']:,.2f}"
        lines.append(f"{_name(way)}: {way['cells']:,} cells, {way['seeds']} seeds{asks}{cost}")
    total = "" if plan["cost"] is None else f", cost up to {plan['cost']:,.2f}"
    if plan["list_prices_of"]:
        total += f" in USD by list prices of {plan['list_prices_of']}: see --price-in and --price-out"
    if plan["cost"] is not None and plan["without_price"]:
        names = join_names(plan["without_price"])
        total += f". The cost is without {names}: no price is known. --price-in and --price-out are of all models"
    return "\n".join([*lines, f"All: {plan['cells']:,} cells, at most {plan['calls']:,} questions{total}"])


def _name(way: dict[str, Any]) -> str:
    return way_name((way["strategy"], way["selector"]))
