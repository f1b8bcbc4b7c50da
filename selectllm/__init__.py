"""SelectLLM picks, from a pool of instructions, the N that are most worth paying people to annotate.

    from selectllm import RunSettings, select

    result = select(RunSettings(pool="pool.jsonl", budget=100, selector="ollama:llama3.1:8b"))
    result.table().to_pandas()

The method is in `selectllm.pipeline`, the tables in `selectllm.schemas`, the options in `selectllm.settings`. Nothing
heavy is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selectllm.pipeline import select
    from selectllm.plan import plan_run
    from selectllm.settings import RunSettings

__all__ = ["RunSettings", "plan_run", "select"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    homes = {"select": "pipeline", "plan_run": "plan", "RunSettings": "settings"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"selectllm.{homes[name]}"), name)
