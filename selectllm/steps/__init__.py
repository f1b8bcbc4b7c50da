"""The steps of a run, each an artifact: looked up in the store first, and made only when it is not there whole.

Everybody goes through these: the library's own pipeline calls them one after the other, Prefect's tasks wrap them.
"""

from selectllm.steps.embeddings import Shard, embed, embed_shard
from selectllm.steps.exclusion import exclude
from selectllm.steps.filled import filled
from selectllm.steps.made import Made, Tell, quiet
from selectllm.steps.pool import read_pool
from selectllm.steps.queries import divide
from selectllm.steps.rankings import Batch, Ranked, most_at_once, rank, rank_batch
from selectllm.steps.selection import choose
from selectllm.steps.selector import meet_selector
from selectllm.steps.tournament import play
from selectllm.steps.validation import Judgement, judging, validate

__all__ = [
    "Batch",
    "Judgement",
    "Made",
    "Ranked",
    "Shard",
    "Tell",
    "choose",
    "divide",
    "embed",
    "embed_shard",
    "exclude",
    "filled",
    "judging",
    "meet_selector",
    "most_at_once",
    "play",
    "quiet",
    "rank",
    "rank_batch",
    "read_pool",
    "validate",
]
