"""`--dry-run` of the commands that ask models: what is still to be asked, and what that takes."""

from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from selectllm.cli.printing import OUTPUT, print_either
from selectllm.errors import UsageError

DryRun = Annotated[
    bool,
    Parameter(
        group=OUTPUT,
        help="Count the questions whose replies are not kept yet, their tokens and cost. Asks nothing, writes nothing.",
    ),
]


def check_asks(annotations: str | None) -> None:
    """Raise UsageError where judgements are there already, and no judge is asked."""
    if annotations is not None:
        raise UsageError("--annotations holds judgements already, and nobody is asked: leave out --dry-run")


def print_forecast(record: Mapping[str, Any], *, json: bool) -> None:
    """Print what is still to be asked."""
    print_either(record, format_forecast(record), json=json)


def format_forecast(record: Mapping[str, Any]) -> str:
    """The questions of each model and of all, in lines for people."""
    from selectllm.text import fit_line, join_names, sanitize

    lines = []
    for one in record["models"]:
        lines.append(f"{fit_line(one['name'], 60)} ({fit_line(one['selector'], 80)}): {_counts(one)}")
        lines += [f"  note: {note}" for note in one["notes"]]
    if len(record["models"]) != 1:
        lines.append(f"All: {_counts(record)}")
    if record["cost"] is not None and record["without_price"]:
        names = join_names(fit_line(name, 60) for name in record["without_price"])
        lines.append(
            f"  the cost of all is without {names}: no price is known. --price-in and --price-out are of all models"
        )
    if record["list_prices_of"]:
        lines.append(f"  cost in USD by list prices of {record['list_prices_of']}: see --price-in and --price-out")
    return "\n".join(map(sanitize, lines))


def _counts(counts: Mapping[str, Any]) -> str:
    if not counts["to_ask"]:
        return f"{counts['questions']:,} questions, none still to ask"
    cost = "" if counts["cost"] is None else f", cost up to {counts['cost']:,.4f}"
    tokens = f"about {counts['prompt_tokens']:,} tokens to read, at most {counts['output_tokens']:,} to write"
    return f"{counts['questions']:,} questions, {counts['to_ask']:,} still to ask: {tokens}{cost}"
