"""`selectllm artifacts`: what is in a store, and what may be removed from it."""

from typing import Annotated

from cyclopts import App, Parameter

from selectllm.cli.printing import Json, print_either
from selectllm.settings import RunSettings

DEFAULT_STORE = RunSettings.model_fields["store"].default

Location = Annotated[str, Parameter(help="The store to look into, as for `select`: a folder or a URL.")]

artifacts = App(name="artifacts")


@artifacts.default
def list_artifacts(*, store: Location = DEFAULT_STORE, json: Json = False) -> None:
    """List the artifacts of a store, the newest of each kind first, with what each was made from.

    Under them are the vectors and replies that are kept of each model. An artifact is called damaged when its files
    are not as long as they were written, or its manifest cannot be read: a run that needs it makes it again.

    Example: `selectllm artifacts --store s3://bucket/selections`
    """
    from selectllm.cli.format_store import format_inventory
    from selectllm.store import Store
    from selectllm.store.inventory import scan

    inventory = scan(Store(store))
    print_either(inventory.record(), format_inventory(inventory), json=json)


@artifacts.command
def prune(
    *,
    keep_days: Annotated[float, Parameter(help="Days that an artifact is kept in any case; may be 0, or a fraction.")],
    dry_run: Annotated[bool, Parameter(help="Only say what would be removed.")] = False,
    store: Location = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Remove artifacts older than some days that no kept selection was made from.

    Kept are the selections of the latest run, of runs younger than that and of all histories, with everything that they
    were made from; and whatever is less than an hour old, since a run under way may have made it. Replies, vectors,
    queries, runs and histories are never removed: they were paid for, or say what was, and from them all that is
    removed here can be made again without asking a model. Reports are kept of runs younger
    than that, and of the latest.

    Example: `selectllm artifacts prune --keep-days 30 --dry-run`
    """
    from selectllm.cli.format_store import format_pruned
    from selectllm.store import Store
    from selectllm.store.pruning import prune

    result = prune(Store(store), keep_days, dry_run=dry_run)
    print_either(result.record(), format_pruned(result), json=json)
