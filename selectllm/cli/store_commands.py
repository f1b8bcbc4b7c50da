"""The commands that look into a store: its artifacts, what may go, and why a row was chosen."""

import json as json_module
import sys
from shutil import get_terminal_size
from typing import Annotated, Any

from cyclopts import App, Parameter

from selectllm.settings import RunSettings

_STORE = RunSettings.model_fields["store"]

Location = Annotated[str, Parameter(help="The store to look into, as for `select`: a folder or a URL.")]
Json = Annotated[bool, Parameter(negative=(), help="Print JSON on stdout, with whole keys, and nothing else there.")]

artifacts = App(name="artifacts")


@artifacts.default
def list_all(*, store: Location = _STORE.default, json: Json = False) -> int:
    """List the artifacts of a store, the newest of each kind first, with what each was made from.

    Under them stand the vectors and replies that are kept of each model. An artifact is called damaged when its file is
    not as long as it was written, or its manifest cannot be read: a run that needs it makes it again.

    Example: `selectllm artifacts --store s3://bucket/selections`
    """
    from selectllm.cli.format_store import listed
    from selectllm.store import Store
    from selectllm.store.inventory import take

    found = take(Store(store))
    _print(found.record() if json else listed(found))
    return 0


@artifacts.command
def prune(
    *,
    keep_days: Annotated[float, Parameter(help="Days that an artifact is kept in any case; may be 0, or a fraction.")],
    dry_run: Annotated[bool, Parameter(negative=(), help="Only say what would be removed.")] = False,
    store: Location = _STORE.default,
    json: Json = False,
) -> int:
    """Remove artifacts older than some days that no kept selection was made from.

    Kept are the selections of the latest run, of runs younger than that and of all histories, with everything that they
    were made from; and whatever is less than an hour old, since a run under way may have made it. Replies, vectors,
    queries, runs and histories are never removed: they were paid for, or say what was, and from them all that is
    removed here can be made again without asking a model.

    Example: `selectllm artifacts prune --keep-days 30 --dry-run`
    """
    from selectllm.cli.format_store import pruned
    from selectllm.store import Store
    from selectllm.store.pruning import prune

    done = prune(Store(store), keep_days, dry_run=dry_run)
    _print(done.record() if json else pruned(done))
    return 0


def explain(
    id: Annotated[
        str, Parameter(help="A row's id, at least its first 4 digits; or row:17, its row in the pool's file.")
    ],
    /,
    *,
    run: Annotated[str | None, Parameter(help="Name of a record in the store's `runs`. Default: the latest.")] = None,
    store: Location = _STORE.default,
    json: Json = False,
) -> int:
    """Tell a row's whole way through a run: its query, what the model answered, and why it was chosen or not.

    Examples: `selectllm explain row:17`, `selectllm explain 3f2ab812 --run 20260301T120000Z-0a1b2c3d`
    """
    from selectllm.explain import explain
    from selectllm.explain.render import explained
    from selectllm.store import Store

    found = explain(Store(store), id, run)
    width = max(get_terminal_size().columns, 80) if sys.stdout.isatty() else 120
    _print(found.record() if json else explained(found, width))
    return 0


def _print(told: str | dict[str, Any]) -> None:
    print(told if isinstance(told, str) else json_module.dumps(told, indent=1, ensure_ascii=False))
