"""The package Great Expectations, imported when a first table is validated, and without a sound.

Its import takes seconds; a context draws progress bars. Neither is seen here.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from selectllm.errors import MissingDependency
from selectllm.quality.quiet import quiet


def great_expectations() -> Any:
    """The package; raises MissingDependency without it."""
    if find_spec("great_expectations") is None:
        raise MissingDependency(
            "great-expectations", extra="quality", purpose="validation (which --no-validate leaves out)"
        )
    with quiet():
        return import_module("great_expectations")


def module(name: str) -> Any:
    """A module of the package."""
    great_expectations()
    with quiet():
        return import_module(f"great_expectations.{name}")


def new_context(**config: Any) -> Any:
    """A context in memory, without progress bars and analytics.

    It becomes the current one of the whole process: make it and use it within `quiet`, which lets one thread at a time.
    """
    base = module("data_context.types.base")
    settings = base.DataContextConfig(
        store_backend_defaults=base.InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=base.ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
        **config,
    )
    return great_expectations().get_context(mode="ephemeral", project_config=settings)
