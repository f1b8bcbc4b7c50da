"""The steps of a run, each an artifact: looked up in the store first, and made only when it is not there whole.

Everybody goes through these: the library's own pipeline calls them one after the other, Prefect's tasks wrap them.
"""

from selectllm.steps.build_queries import divide
from selectllm.steps.cache import Progress, StepResult, quiet
from selectllm.steps.check_model import check_model
from selectllm.steps.choose import choose
from selectllm.steps.committed import find_committed
from selectllm.steps.embed import Shard, embed, embed_shard
from selectllm.steps.exclude import exclude
from selectllm.steps.rank import Batch, Ranked, most_at_once, rank, rank_batch
from selectllm.steps.read_pool import read_pool
from selectllm.steps.run_tournament import play
from selectllm.steps.validate import Judgement, judging, validate

__all__ = [
    "Batch",
    "Judgement",
    "Progress",
    "Ranked",
    "Shard",
    "StepResult",
    "check_model",
    "choose",
    "divide",
    "embed",
    "embed_shard",
    "exclude",
    "find_committed",
    "judging",
    "most_at_once",
    "play",
    "quiet",
    "rank",
    "rank_batch",
    "read_pool",
    "validate",
]
