"""Settings of the flow only: where the pieces of a step run, and whether there is a report."""

from typing import Literal

from cyclopts import Group, Parameter
from pydantic import Field

from selectllm.settings import Settings


@Parameter(name="*", group=Group("Workers", sort_key=7))
class FlowSettings(Settings):
    """Where a flow embeds shards and ranks batches, and whether it leaves a report."""

    runner: Literal["threads", "dask", "ray"] = Field(
        "threads",
        kw_only=True,
        title="Runner",
        description="Where the flow embeds shards and ranks batches: threads of its own process, or workers of Dask or "
        "Ray (the extras dask and ray).",
    )
    runner_address: str | None = Field(
        None,
        kw_only=True,
        title="Runner's address",
        description="Of a Dask scheduler or a Ray cluster, such as tcp://host:8786 or ray://host:10001. "
        "Default: workers on this machine, for as long as the run lasts.",
    )
    workers: int = Field(
        2,
        ge=1,
        le=1000,
        kw_only=True,
        title="Workers",
        description="Processes that dask or ray spread the work over (1 to 1,000). Also needed with an address: no "
        "more of a cluster are used, and the concurrency is shared among them.",
    )
    no_report: bool = Field(
        False,
        kw_only=True,
        title="No report",
        description="Do not keep the report of the selection beside the artifacts. `selectllm report` makes it "
        "at any time.",
    )
