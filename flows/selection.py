"""The method as a Prefect flow: from a file of instructions to N chosen rows, every step cached in the store."""

import sys
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from selectllm import cancellation
from selectllm.settings import RunSettings
from tasks.configuration import configuration
from tasks.embeddings import embed
from tasks.history import find_committed, with_own_slot
from tasks.pool import exclude, read_pool
from tasks.queries import divide
from tasks.rankings import check_model, rank
from tasks.selection import choose, publish
from tasks.tournament import play
from tasks.validation import judging, validate


@flow(
    name="select-instructions",
    flow_run_name="{run.budget} rows by {run.selector}",
    persist_result=False,
    result_serializer="json",  # else Prefect pickles the error of a run that failed
)
def select_instructions(run: Annotated[RunSettings, Field(json_schema_extra={"title": "Run"})]) -> dict[str, Any]:
    """Choose the N instructions of a pool that are most worth annotating.

    Args:
        run: What to choose from, how many, and how. Steps whose result is in the store are not made again.
    """
    with cancellation.propagate_interrupt(), configuration(run) as run:
        run = with_own_slot(run)
        if before := find_committed(run):
            return publish.submit(run, *before, []).result()
        with judging(run) as verdicts:
            pool = read_pool.submit(run).result()
            verdicts += [validate.submit(run, pool).result()]
            excluded = exclude.submit(run, pool).result()
            selector = check_model.submit(run).result()
            vectors = embed.submit(run, pool).result()
            verdicts += [validate.submit(run, vectors, pool).result()]
            queries = divide.submit(run, pool, vectors).result()
            rankings = rank.submit(run, selector, pool, queries, excluded).result()
            verdicts += [validate.submit(run, rankings, queries).result()]
            played = play.submit(run, selector, pool, rankings, excluded).result()
            chosen = choose.submit(run, pool, rankings, played, excluded).result()
        made = [pool, excluded, vectors, queries, rankings, played, chosen]
        return publish.submit(run, selector, made, verdicts).result()


if __name__ == "__main__":
    from flows.command_line import main

    sys.exit(main(select_instructions))
