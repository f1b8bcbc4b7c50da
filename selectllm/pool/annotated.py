"""Where the ids of rows stand in files that come back from annotation tools and from batches."""

from collections.abc import Mapping
from typing import Any, Final

from selectllm.pool.records import Records, values

ROW_ID: Final = "row_id"
"""A row's id in the data of a Label Studio task, whose own exports call the task `id`."""

ID_NAMES: Final = (ROW_ID, "custom_id", "id")
"""The columns that hold ids of rows, best first: `custom_id` is that of OpenAI's batches."""


def record_ids(records: Records) -> list[Any]:
    """All that may be an id of a row: of the columns of that name, in capitals too, and of Label Studio's tasks."""
    columns = [column for name, column in records.columns.items() if name.strip().casefold() in ID_NAMES]
    named = [value for column in columns for value in values(column)]
    tasks = values(records.columns.get("data", []))
    return named + [task.get(ROW_ID) for task in tasks if isinstance(task, Mapping)]
