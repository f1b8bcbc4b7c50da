"""A selection as a Hugging Face dataset: a folder of Parquet with a card that says how the rows were chosen."""

import json
from pathlib import PurePosixPath
from typing import Any, Final

from selectllm.export.chosen import Chosen
from selectllm.paths import redact_url
from selectllm.store.tables import to_parquet
from selectllm.text import one_line

DATA: Final = "data/train-00000-of-00001.parquet"

_SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

_PROSE: Final = """
# A selection of {rows} instructions

SelectLLM chose these rows out of a pool of instructions, as those most worth paying people to annotate. They hold no
answers but those that the pool had.

How they were chosen:

{facts}

`order` is the order of preference, `picked_by` says why a row was chosen, and `id` is a digest of the row's text.
The licence of the texts is the pool's, which SelectLLM does not know: state it before you publish.
"""


def dataset_files(chosen: Chosen) -> dict[str, bytes]:
    """The Parquet and the card, whose YAML says that the licence is unknown, and how the rows were chosen."""
    return {DATA: to_parquet(chosen.table), "README.md": _card(chosen).encode()}


def _card(chosen: Chosen) -> str:
    facts = how_chosen(chosen)
    rows = len(chosen.table)
    metadata = {
        "license": "unknown",
        "pretty_name": f"A selection of {rows} instructions",
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in _SIZES if rows < limit), "n>1M")],
        "tags": ["selectllm", "instruction-tuning"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": DATA}]}],
        "selectllm": facts,
    }
    # JSON is YAML, and an indented block is shown as it is: no text of a pool or of criteria becomes markup.
    lines = [f"{name}: {_yaml(value)}" for name, value in metadata.items()]
    shown = [f"    {name}: {one_line(value, 10_000)}" for name, value in facts.items() if value is not None]
    return "\n".join(["---", *lines, "---", _PROSE.format(rows=f"{rows:,}", facts="\n".join(shown))])


def how_chosen(chosen: Chosen) -> dict[str, Any]:
    """How a run chose its rows: method, selector and model, seed, budget, the pool's counts, and the criteria."""
    record, summary = chosen.record, chosen.record.summary
    settings, model = record.settings, record.model or {}
    pools = [settings.get("pool", ""), *settings.get("more_files", ())]
    counts = summary.get("pool") or {}
    is_rule = str(settings.get("selector")).startswith("scripted:")  # it goes by no criteria
    return {
        "run": record.run,
        "created": record.created,
        "selectllm": (summary.get("versions") or {}).get("selectllm"),
        "strategy": record.strategy,
        "selector": settings.get("selector") if model else None,  # without a model none was asked
        "model": model.get("name"),
        "model_digest": model.get("digest"),
        "criteria": summary.get("criteria") or (None if is_rule or not model else "built-in"),
        "seed": settings.get("seed"),
        "budget": settings.get("budget"),
        "near_duplicate": settings.get("near_duplicate"),
        "diversity": settings.get("diversity"),
        "pool": [PurePosixPath(redact_url(pool)).name for pool in pools],
        "pool_rows_read": counts.get("rows_read"),
        "pool_quarantined": counts.get("quarantined"),
        "pool_duplicates": counts.get("duplicates"),
        "pool_kept": counts.get("kept"),
    }


def _yaml(value: Any) -> str:
    """A value as JSON that is YAML too, which knows no unprintable characters, and escapes of its own for wide ones."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(mark if mark.isprintable() else f"\\U{ord(mark):08x}" for mark in text)
