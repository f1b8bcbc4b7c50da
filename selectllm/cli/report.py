"""`selectllm report`: a run as one page of HTML."""

from typing import Annotated

from cyclopts import Parameter

from selectllm.cli.artifacts import DEFAULT_STORE, Location
from selectllm.cli.printing import Json, print_either
from selectllm.errors import UsageError

DEFAULT_OUT = "report.html"


def report(
    name: Annotated[
        str | None, Parameter(name="RUN", help="Name of a record in the store's `runs`. Default: the latest.")
    ] = None,
    /,
    *,
    run: Annotated[str | None, Parameter(help="The run, instead of RUN.")] = None,
    out: Annotated[str, Parameter(help="The file to write. A report that is there is replaced.")] = (DEFAULT_OUT),
    no_umap: Annotated[bool, Parameter(help="Draw no map by UMAP, even where umap-learn is installed.")] = False,
    store: Location = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Write the report of a run: one page of HTML with what was chosen, from what, and why. It needs no network.

    It is made from the store alone: no model is asked. Needs the extra `report`.

    Examples: `selectllm report`, `selectllm report 20260301T120000Z-0a1b2c3d --out selection/report.html`
    """
    from selectllm.report.page.build import check_page, make_page, write_page
    from selectllm.store import Store
    from selectllm.store.runs import load_run

    if name is not None and run not in (None, name):
        raise UsageError(f"two runs are named, {name} and --run {run}: leave one of them out")
    path = check_page(out)
    opened = Store(store)
    page = make_page(opened, load_run(opened, name or run), umap=not no_umap)
    write_page(path, page.html)
    size = len(page.html.encode())
    record = {"run": page.run, "report": str(path), "bytes": size}
    print_either(record, f"The report of run {page.run}: {path} ({size / 1e6:.1f} MB)", json=json)
