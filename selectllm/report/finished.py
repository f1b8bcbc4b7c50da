"""What is shown of a finished run, wherever it comes from."""

from typing import Any, Protocol

import pyarrow as pa


class FinishedRun(Protocol):
    """A run's summary, and its tables."""

    @property
    def run(self) -> str | None:
        """The name of the run's record; None where that is not known."""

    @property
    def summary(self) -> dict[str, Any]:
        """What the run did, in numbers."""

    def path(self, kind: str = "selection") -> str:
        """Where the Parquet of one of the run's artifacts is."""

    def chosen(self) -> pa.Table:
        """The selection, with the model's reasons where there are any."""
