"""`selectllm explain`: a row's way through a run."""

from typing import Annotated

from cyclopts import Parameter

from selectllm.cli.artifacts import DEFAULT_STORE, Location
from selectllm.cli.printing import Json, output_width, print_either

Run = Annotated[str | None, Parameter(help="Name of a record in the store's `runs`. Default: the latest.")]


def explain(
    id: Annotated[
        str, Parameter(help="A row's id, at least its first 4 digits; or row:17, its row in the pool's file.")
    ],
    /,
    *,
    run: Run = None,
    store: Location = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Show a row's whole way through a run: its query, what the model answered, and why it was chosen or not.

    Examples: `selectllm explain row:17`, `selectllm explain 3f2ab812 --run 20260301T120000Z-0a1b2c3d`
    """
    from selectllm.explain.explain import explain
    from selectllm.explain.render import render_explanation
    from selectllm.store import Store

    explanation = explain(Store(store), id, run)
    print_either(explanation.record(), render_explanation(explanation, output_width()), json=json)
