"""The tables that pass between the steps, and that other programs read: every step is a table in and a table out.

Tables are joined by `id` alone. `POOL` and `SELECTION` carry the input's further columns behind their own.
"""

from collections.abc import Collection
from typing import Final

import pyarrow as pa


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields)


POOL: Final = _schema(
    pa.field("id", pa.string(), nullable=False),  # 32 hex digits: selectllm.pool.row_id
    pa.field("row", pa.int64(), nullable=False),  # line (JSONL, CSV, TSV) or record (JSON, Parquet), from 1
    pa.field("instruction", pa.string(), nullable=False),
    pa.field("input", pa.string()),
    pa.field("output", pa.string()),
)

QUARANTINE: Final = _schema(
    pa.field("row", pa.int64(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("text", pa.string(), nullable=False),  # the row as it stood, as far as it can be written as text
)

EXCLUDED: Final = _schema(
    pa.field("id", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),  # the file that names it, or the history that chose it
)

TOO_NEAR: Final = _schema(  # of each test set the pool's rows that are too near to one of its rows
    pa.field("id", pa.string(), nullable=False),
    pa.field("file", pa.int32(), nullable=False),  # from 0: the place of the test set among those that were named
    pa.field("place", pa.string(), nullable=False),  # where the nearest test stands in it, as "row 17"
    pa.field("cosine", pa.float64(), nullable=False),  # of the two rows; 1 where the row itself stands in the test set
)

TARGETS: Final = _schema(  # the rows that may be chosen: those of the shortlist in their order, then the others
    pa.field("id", pa.string(), nullable=False),
    pa.field("place", pa.int64()),  # on the shortlist, from 1; null where it is not on it
    pa.field("example", pa.int64(), nullable=False),  # row of the file: the example that took it, else the nearest one
    pa.field("cosine", pa.float64(), nullable=False),  # of the row and that example
    pa.field("score", pa.float64(), nullable=False),  # the mean of the row's three best cosines to examples
)

STRATA: Final = _schema(  # the rows that may be chosen, where each value of a column has its number of rows
    pa.field("id", pa.string(), nullable=False),
    pa.field("stratum", pa.int32(), nullable=False),  # from 0: its place in the list of the artifact's facts
    pa.field("value", pa.string(), nullable=False),  # the row's value of the column, as JSON
)

QUERIES: Final = _schema(
    pa.field("query_id", pa.int64(), nullable=False),  # from 0
    pa.field("position", pa.int32(), nullable=False),  # the row's place in its query, from 0
    pa.field("id", pa.string(), nullable=False),
)

RANKINGS: Final = _schema(
    pa.field("query_id", pa.int64(), nullable=False),
    pa.field("rank", pa.int32(), nullable=False),  # from 1, without gaps, over all blocks of a query
    pa.field("id", pa.string(), nullable=False),
    pa.field("score", pa.float64()),  # pointwise mode only
    pa.field("reply", pa.string(), nullable=False),  # key of the reply that said so
)

PASSES: Final = _schema(  # where each query was asked about several times
    pa.field("query_id", pa.int64(), nullable=False),
    pa.field("ranked", pa.int32(), nullable=False),  # rows of the query that had a rank, and so were not shown
    pa.field("number", pa.int32(), nullable=False),  # of the pass, among those with a usable answer, from 1
    pa.field("place", pa.int32(), nullable=False),  # from 1
    pa.field("id", pa.string(), nullable=False),
)

LOOKS: Final = _schema(  # each row that was shown again, in each pass with a usable answer
    pa.field("question", pa.int64(), nullable=False),  # from 0
    pa.field("round", pa.int32(), nullable=False),  # from 1
    pa.field("number", pa.int32(), nullable=False),  # of the pass, among those with a usable answer, from 1
    pa.field("place", pa.int32()),  # from 1; null where the answer does not place the row
    pa.field("id", pa.string(), nullable=False),
    pa.field("reply", pa.string(), nullable=False),  # keys of the replies that said so, with commas between them
)

RATINGS: Final = _schema(  # every row of the pool, in its order
    pa.field("id", pa.string(), nullable=False),
    pa.field("rating", pa.float64(), nullable=False),  # the mean of all rows is 0, and their spread 1
    pa.field("spread", pa.float64(), nullable=False),  # the standard deviation of what is not known of the rating
    pa.field("answers", pa.int64(), nullable=False),  # how many were about the row; without any, the rating is 0
    pa.field("round", pa.int32(), nullable=False),  # the last round of further questions that showed it, or 0
    pa.field("reply", pa.string(), nullable=False),  # keys of the replies about it, with commas between them
)

ROW_RATINGS: Final = _schema(  # each row that a model was asked about by itself, on each dimension with an answer
    pa.field("id", pa.string(), nullable=False),
    pa.field("dimension", pa.string(), nullable=False),  # what was rated, in a word
    pa.field("score", pa.float64(), nullable=False),
    pa.field("reply", pa.string(), nullable=False),  # keys of the replies that said so, with commas between them
)

LIKELIHOODS: Final = _schema(  # every row of the pool, in its order
    pa.field("id", pa.string(), nullable=False),
    pa.field("log_probability", pa.float64(), nullable=False),  # natural logarithm, the mean of the tokens read
    pa.field("tokens", pa.int64(), nullable=False),  # of the row's text
    pa.field("read", pa.int64(), nullable=False),  # of these, the first that fit the model's context
)

TOURNAMENT: Final = _schema(
    pa.field("place", pa.int64(), nullable=False),  # from 1: the order of the level's rows
    pa.field("id", pa.string(), nullable=False),
    pa.field("round", pa.int32(), nullable=False),  # the last round that the row was in, from 1
    pa.field("rank", pa.int32()),  # its rank in that round's query; null where the query abstained
    pa.field("reply", pa.string()),
)

PREFERENCES: Final = _schema(
    pa.field("place", pa.int64(), nullable=False),  # from 1: a selection takes the first places that it may choose
    pa.field("id", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),  # in a word: rank | tournament | score | random | length | ...
    pa.field("score", pa.float64()),  # what the strategy orders by, where that is a number
    pa.field("query_id", pa.int64()),  # the next three, where a model ranked the row in a query
    pa.field("rank", pa.int32()),
    pa.field("round", pa.int32()),
    pa.field("reply", pa.string()),  # keys of the replies that said so, with commas between them
)

NEAR_DUPLICATES: Final = _schema(  # the preferences that were passed over, in their order
    pa.field("place", pa.int64(), nullable=False),  # as in PREFERENCES
    pa.field("id", pa.string(), nullable=False),
    pa.field("near", pa.string(), nullable=False),  # the id of the chosen row that says nearly the same
    pa.field("cosine", pa.float64(), nullable=False),  # of the vectors of the two
)

SELECTION: Final = _schema(
    pa.field("order", pa.int64(), nullable=False),  # from 1 to the budget
    pa.field("id", pa.string(), nullable=False),
    pa.field("instruction", pa.string(), nullable=False),
    pa.field("input", pa.string()),
    pa.field("output", pa.string()),
    pa.field("strategy", pa.string(), nullable=False),
    pa.field("score", pa.float64()),  # as in PREFERENCES
    pa.field("query_id", pa.int64()),  # null where no model ranked the row in a query, like the next two
    pa.field("round", pa.int32()),  # tournament round reached; 0 where none was needed
    pa.field("rank", pa.int32()),  # rank in the row's own query
    pa.field("picked_by", pa.string(), nullable=False),  # the reason of PREFERENCES
)

REASONS: Final = _schema(
    pa.field("id", pa.string(), nullable=False),  # of each chosen row, in the selection's order
    pa.field("reason", pa.string()),  # one line in the model's words; null where no answer could be used
    pa.field("reply", pa.string()),  # key of the reply that says so; null where none came
)

JUDGEMENTS: Final = _schema(  # each pair of answers in each order that a judge was asked about, and equal answers once
    pa.field("number", pa.int64(), nullable=False),  # the pair's place among those that were judged, from 1
    pa.field("id", pa.string(), nullable=False),  # 32 hex digits: a digest of the instruction and both answers
    pa.field("model_first", pa.bool_()),  # whether the model's answer was shown first; null where nobody was asked
    pa.field("preference", pa.float64()),  # for the model's answer, 0 to 1; null where the judge gave none
    pa.field("reply", pa.string()),  # key of the reply that said so
)

ANSWERS: Final = _schema(  # each question by each seed: in the questions' order, seeds within
    pa.field("id", pa.string(), nullable=False),
    pa.field("question_id", pa.string(), nullable=False),  # what other programs call the question
    pa.field("seed", pa.int64(), nullable=False),
    pa.field("answer", pa.string()),  # null where there is none
    pa.field("is_cut", pa.bool_()),  # at the most tokens; null where nobody says
    pa.field("reply", pa.string()),  # key of the reply that it is; null where a file holds it
)

OVERLAPS: Final = _schema(  # each answer beside its question's reference
    pa.field("id", pa.string(), nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
    pa.field("rouge_l", pa.float64()),  # F-measure, 0 to 1; null, like the next, without an answer or a reference
    pa.field("cosine", pa.float64()),  # of the vectors of the two, -1 to 1
)

CONVERSATIONS: Final = _schema(  # a model's answers to questions of several turns, all first turns first
    pa.field("question_id", pa.string(), nullable=False),
    pa.field("turn", pa.int32(), nullable=False),  # from 1
    pa.field("answer", pa.string()),  # null where there is none
    pa.field("is_cut", pa.bool_()),  # at the most tokens
    pa.field("reply", pa.string()),
)

MT_BENCH_JUDGMENTS: Final = _schema(  # what a judge says of answers at a turn
    pa.field("question_id", pa.string(), nullable=False),
    pa.field("turn", pa.int32(), nullable=False),
    pa.field("model", pa.string(), nullable=False),  # of two, the one that was shown first
    pa.field("other", pa.string()),  # the second of two
    pa.field("prompt", pa.string(), nullable=False),  # its name
    pa.field("score", pa.float64()),  # 1 to 10; of two 1, 0 or 0.5, as the first wins, loses or ties; null if it failed
    pa.field("judgment", pa.string()),  # the judge's words
    pa.field("reply", pa.string()),
)

CLUSTERS: Final = _schema(
    pa.field("id", pa.string(), nullable=False),  # every row of the pool, in its order
    pa.field("cluster", pa.int64(), nullable=False),  # from 0
)

MEASURED: Final = _schema(
    pa.field("measure", pa.string(), nullable=False),
    pa.field("value", pa.float64()),  # null where there is none
    pa.field("reason", pa.string()),  # why there is none
)

_CELL: Final = (
    pa.field("strategy", pa.string(), nullable=False),
    pa.field("selector", pa.string()),  # null where the strategy asks no model
    pa.field("budget", pa.int64(), nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
)

COMPARISON: Final = _schema(  # one row for each value that was measured
    *_CELL,
    pa.field("measure", pa.string(), nullable=False),
    pa.field("value", pa.float64()),  # null where there is none
    pa.field("reason", pa.string()),  # why there is none
)

SELECTIONS: Final = _schema(
    *_CELL,
    pa.field("order", pa.int64(), nullable=False),  # from 1 to the budget
    pa.field("id", pa.string(), nullable=False),
)

RESERVED: Final = frozenset(
    {name for schema in (POOL, QUERIES, RANKINGS, TOURNAMENT, PREFERENCES, SELECTION) for name in schema.names}
    | {"vector", "reason", "pool_file", "pool_row"}
)
"""Names that mean something here: an input's column of such a name is carried as `source_<name>`."""


def own_name(column: str, names: Collection[str]) -> str:
    """What a column of an input is called in its pool, among whose `names` it may stand as `source_<name>`."""
    carried = f"source_{column}"
    return carried if column in RESERVED and column not in names and carried in names else column


def embeddings(dimension: int) -> pa.Schema:
    """The schema of vectors of `dimension` float32 numbers, one row for each row of the pool, in the pool's order."""
    return _schema(pa.field("id", pa.string(), nullable=False), _vector(dimension))


def centroids(dimension: int) -> pa.Schema:
    """The schema of the centroids, from 0, that a pool's queries were formed by, and those of its new rows will be."""
    return _schema(pa.field("cluster", pa.int32(), nullable=False), _vector(dimension))


def _vector(dimension: int) -> pa.Field:
    return pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False)
