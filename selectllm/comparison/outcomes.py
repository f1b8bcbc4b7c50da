"""What a cell of a comparison came to: the chosen rows, and what they measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from selectllm.comparison.cells import Cell
from selectllm.comparison.measures import cluster, cost_values, measure
from selectllm.errors import TooFewRanked, TooManyAbstained
from selectllm.pipeline import choose_rows
from selectllm.steps.context import NO_TOKENS, Context, Tokens
from selectllm.steps.criteria import read_criteria
from selectllm.steps.embed import embed
from selectllm.steps.validate import keeping_verdicts


@dataclass(frozen=True)
class Outcome:
    """What a cell came to; `ids` are the chosen rows in order, none where an `error` ended the cell.

    `values` are the measures by name, None where one does not apply, for which `missing` has the reason. `paid` are the
    tokens that this process paid for the cell. `preferences` is the key of the artifact of that kind.
    """

    cell: Cell
    ids: tuple[str, ...] = ()
    values: Mapping[str, float | None] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    pool_rows: int = 0
    preferences: str = ""
    paid: Tokens = NO_TOKENS
    is_cached: bool = False
    error: str = ""


def run_cell(context: Context, cell: Cell, labels: str | None) -> Outcome:
    """Choose the cell's rows as any run does, and measure them; what an earlier run kept is not made again.

    Where the strategy or its model names too few rows, the outcome says so: the other cells are of use without it.
    All other errors are raised.
    """
    context = replace(context, criteria=read_criteria(context.settings))
    try:
        with keeping_verdicts(context):
            choose_rows(context)
    except (TooFewRanked, TooManyAbstained) as error:
        return Outcome(cell, paid=_paid(context, error.paid), error=str(error))
    results = {result.kind: result for result in context.log.results}
    # A comparison is about the whole pool: where there is a target, its shortlist is a later result of the same kind.
    first = {result.kind: result for result in reversed(context.log.results)}
    results["pool"] = first["pool"]
    results["embeddings"] = first.get("embeddings") or context.run(embed, first["pool"])
    results["clusters"] = context.run(cluster, results["embeddings"])
    measured = context.run(measure, results, labels)
    table = measured.table(context.store)
    kept = {row["measure"]: (row["value"], row["reason"]) for row in table.to_pylist()}
    took = {value.name: (value.value, value.reason) for value in cost_values(context, results)}
    found = kept | {name: value for name, value in took.items() if name not in kept}
    return Outcome(
        cell,
        ids=tuple(results["selection"].table(context.store)["id"].to_pylist()),
        values={name: value for name, (value, _) in found.items()},
        missing={name: reason for name, (_, reason) in found.items() if reason is not None},
        pool_rows=results["pool"].manifest.rows,
        preferences=results["preferences"].artifact.key,
        paid=_paid(context),
        is_cached=measured.cached,
    )


def paid_tokens(outcomes: Sequence[Outcome]) -> Tokens:
    """The tokens that cells were paid for: all share one limit of cost, beyond which kept replies are still read."""
    return sum(outcome.paid[0] for outcome in outcomes), sum(outcome.paid[1] for outcome in outcomes)


def _paid(context: Context, by_error: Tokens = NO_TOKENS) -> Tokens:
    """What the cell's finished steps were paid for, and the step that an error has ended."""
    paid = context.log.paid()
    return paid.paid_prompt_tokens + by_error[0], paid.paid_output_tokens + by_error[1]
