"""A selection as an Argilla 2 dataset: the settings and the records, as its SDK reads them from files."""

import json
import re
from typing import Any, Final

import numpy as np

from selectllm.export.chosen import Chosen
from selectllm.export.names import ANSWER, ORDER, PROBLEM, PROBLEMS, PROMPT, renamed
from selectllm.export.tool_values import json_list, storable
from selectllm.export.turns import prompt_of
from selectllm.text import json_text

SETTINGS: Final = "settings.json"
RECORDS: Final = "records.json"
VECTOR: Final = "embedding"

_GUIDELINES: Final = "Write the answer that you would want to get. Discard what you cannot answer."
_METADATA: Final = (ORDER, "score", "picked_by", "reason")
_NAME: Final = re.compile(r"(?=.*[a-z0-9])[a-z0-9_-]+")  # the server takes no other names of metadata
_DECIMALS: Final = 6  # of a vector's numbers: enough to find similar records, in half the bytes


def argilla_files(chosen: Chosen, *, prefill: bool) -> dict[str, bytes]:
    """The settings and the records: `prompt` is the field, `answer` and `problem` the questions, our id the record's.

    Order, score, reason and carried columns are metadata; vectors are there where the run embedded its rows. With
    `prefill` the pool's own answer is a suggestion.
    """
    vectors = chosen.vectors()
    names = renamed(chosen.carried, _METADATA)
    records = [_record(row, names, prefill=prefill) for row in chosen.rows()]
    if vectors is not None:
        rounded = np.round(vectors.astype(np.float64), _DECIMALS).tolist()
        records = [{**record, "vectors": {VECTOR: vector}} for record, vector in zip(records, rounded, strict=True)]
    settings = _settings(0 if vectors is None else vectors.shape[1], chosen)
    return {SETTINGS: json.dumps(settings, indent=1).encode() + b"\n", RECORDS: json_list(records)}


def _settings(dimensions: int, chosen: Chosen) -> dict[str, Any]:
    types = {ORDER: "integer", "score": "float", "picked_by": "terms"}
    if chosen.table["score"].null_count == len(chosen.table):
        del types["score"]
    options = [{"value": value, "text": value, "description": None} for value in PROBLEMS]
    return {
        "guidelines": _GUIDELINES,
        "fields": [_named(PROMPT, "Prompt", type="text", use_markdown=False)],
        "questions": [
            _named(ANSWER, "Answer", type="text", use_markdown=False),
            _named(PROBLEM, "Problem", type="label_selection", options=options) | {"required": False},
        ],
        "metadata": [
            {"name": name, "title": name, "settings": {"type": type_}, "visible_for_annotators": True}
            for name, type_ in types.items()
        ],
        "vectors": [{"name": VECTOR, "title": "Embedding", "dimensions": dimensions}] if dimensions else [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _named(name: str, title: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "title": title, "description": None, "required": True, "settings": settings}


def _record(row: dict[str, Any], names: dict[str, str], *, prefill: bool) -> dict[str, Any]:
    output = row.get("output") if prefill else None
    suggestion = {"value": output, "score": None, "agent": "pool"}
    record = {
        "id": row["id"],
        "fields": {PROMPT: prompt_of(row["instruction"], row["input"])},
        "metadata": {name: row[name] for name in _METADATA if row.get(name) is not None}
        | {new: _plain(row[name]) for name, new in names.items() if row[name] is not None and _NAME.fullmatch(new)},
        "suggestions": {ANSWER: suggestion} if output else {},
        "responses": {},
        "vectors": {},
        "status": "pending",
        "_server_id": None,
    }
    return dict(storable(record))


def _plain(value: Any) -> Any:
    """A value as metadata: a text, a number, or the JSON text of anything else."""
    return value if isinstance(value, (str, int, float)) and not isinstance(value, bool) else json_text(value)
