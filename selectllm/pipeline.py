"""The method, from a file of instructions to N chosen rows."""

from dataclasses import replace

from selectllm import cancellation
from selectllm.execution import Progress, no_progress
from selectllm.report.folders import check_folders
from selectllm.report.result import Result, publish
from selectllm.settings import RunSettings
from selectllm.steps.choose import choose
from selectllm.steps.context import Context
from selectllm.steps.criteria import read_criteria
from selectllm.steps.embed import embed
from selectllm.steps.examples import read_examples
from selectllm.steps.exclude import exclude, excluded_ids
from selectllm.steps.find_committed import find_committed
from selectllm.steps.give_reasons import give_reasons
from selectllm.steps.keep_away import keep_away
from selectllm.steps.model import check_model
from selectllm.steps.read_pool import read_pool
from selectllm.steps.shortlist import find_targets, shortlist
from selectllm.steps.spread import spread_settings
from selectllm.steps.stratify import divide, stratify
from selectllm.steps.validate import keeping_verdicts, start_pool_validation, validate
from selectllm.store import Store
from selectllm.store.history import with_slot
from selectllm.strategies import check_strategy, load_strategy
from selectllm.strategies.strategy import Choice, prefer


def select(settings: RunSettings, on_progress: Progress = no_progress) -> Result:
    """Choose `settings.budget` rows of `settings.pool`; what an earlier run made in the same store is not made again.

    Raises UsageError before anything is asked, RunError when the run cannot be finished.
    """
    with cancellation.propagate_interrupt():
        return run(Context(with_slot(settings), Store(settings.store), on_progress))


def run(context: Context) -> Result:
    """Run all steps of a run, by whichever context: the library's own, or a flow's."""
    check_folders(context.settings)
    check_strategy(context.settings)
    context = replace(context, criteria=read_criteria(context.settings))
    if not find_committed(context):
        with keeping_verdicts(context):
            choose_rows(context)
    if context.settings.reasons and context.log.model:
        context.run(give_reasons)
    return context.run(publish)


def choose_rows(context: Context) -> None:
    """Read the pool, prepare what the strategy needs, have it say which rows it prefers, and choose the first N."""
    strategy, aim = load_strategy(context.settings.strategy), context.settings.aim
    context = with_examples(context)
    pool = context.run(read_pool)
    validation = start_pool_validation(context, pool)
    excluded = context.run(exclude, pool)
    if aim.column is not None:  # what cannot be filled is refused before a model is asked
        divide(context.settings, pool.table(context.store), excluded_ids(context, excluded))
    model = context.run(check_model) if "model" in strategy.needs else None
    is_spread = bool(spread_settings(context.settings))  # the choice needs vectors, whatever the strategy needs
    needs_vectors = is_spread or "embeddings" in strategy.needs
    embeddings = context.run(embed, pool) if needs_vectors or aim.target or aim.away_from else None
    context.finish(validation)
    if embeddings:
        context.run(validate, embeddings, pool)
    too_near = context.run(keep_away, pool, embeddings) if embeddings and aim.away_from else None
    while True:
        if too_near:
            excluded = context.run(exclude, pool, too_near)
        rows, vectors = pool, embeddings if needs_vectors else None
        if embeddings and aim.target:
            rows = context.run(shortlist, pool, context.run(find_targets, pool, embeddings, excluded))
            vectors = context.run(embed, rows) if needs_vectors else None
        strata = context.run(stratify, rows, excluded) if aim.column is not None else None
        results = {"pool": rows, "excluded": excluded, "embeddings": vectors}
        choice = Choice(context, {kind: result for kind, result in results.items() if result}, model)
        choice = replace(choice, own=strategy.prepare(choice))
        preferences = context.run(prefer, strategy, choice)
        if context.run(choose, rows, preferences, excluded, vectors if is_spread else None, strata):
            return
        excluded = context.run(exclude, pool, too_near)  # another run has just taken some of these rows


def with_examples(context: Context) -> Context:
    """The context with the rows of the files that the aim's options name; raises PoolError where one has none."""
    settings, aim = context.settings, context.settings.aim
    target = read_examples(settings, aim.target) if aim.target else None
    return replace(context, target=target, away_from=tuple(read_examples(settings, file) for file in aim.away_from))
