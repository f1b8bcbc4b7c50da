"""A selection with the model's reasons beside it: the selection's own artifact stays as it is."""

import pyarrow as pa
import pyarrow.compute as pc


def with_reasons(selection: pa.Table, reasons: pa.Table) -> pa.Table:
    """The selection with a column `reason` behind `picked_by`: one line in the model's words, null where it gave none.

    Parameters: `selection` as SELECTION, with any further columns; `reasons` as REASONS.
    """
    texts = reasons["reason"].take(pc.index_in(selection["id"], value_set=reasons["id"].combine_chunks()))
    return selection.add_column(selection.column_names.index("picked_by") + 1, "reason", texts)
