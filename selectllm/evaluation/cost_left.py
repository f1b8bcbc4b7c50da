"""One limit of cost for all that an evaluation asks: what a model, or a judge, may still cost."""

from selectllm.errors import CostExceeded
from selectllm.settings import RunSettings


def with_cost_left(run: RunSettings, paid: float) -> RunSettings:
    """The same run with what `--max-cost` leaves after others have `paid`; raises CostExceeded for nothing left."""
    limit = run.ranking.max_cost
    if limit is None:
        return run
    if paid >= limit:
        raise CostExceeded(
            f"this run has cost {paid:.2f}, and --max-cost is {limit:.2f}, of all models and judges together. All "
            "replies are kept: raise it and run again to go on from here"
        )
    return run.model_copy(update={"ranking": run.ranking.model_copy(update={"max_cost": limit - paid})})
