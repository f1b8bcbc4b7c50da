"""`selectllm plan`: what a run would do and take."""

from selectllm.cli.printing import Json, print_json
from selectllm.settings import RunSettings


def plan(settings: RunSettings, *, json: Json = False) -> int:
    """Show what a run would do and take: rows, queries, rounds, calls and tokens. Calls no model."""
    from selectllm.plan import plan_run
    from selectllm.report.format import format_plan

    result = plan_run(settings)
    if json:
        print_json(result)
    else:
        print(format_plan(result))
    return 0
