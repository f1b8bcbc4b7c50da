"""A selection as tasks for Label Studio, and the labelling interface that shows them.

The format of tasks and predictions: https://labelstud.io/guide/tasks and https://labelstud.io/guide/predictions.
"""

from collections.abc import Sequence
from typing import Any, Final

from selectllm.export.chosen import Chosen
from selectllm.export.names import ANSWER, ORDER, PROBLEM, PROBLEMS, PROMPT, renamed
from selectllm.export.tool_values import json_list, storable
from selectllm.export.turns import prompt_of
from selectllm.pool.annotated import ROW_ID

TASKS: Final = "tasks.json"
INTERFACE: Final = "interface.xml"

_EXPORTED: Final = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
"""Names under which the exports JSON-MIN and CSV write facts of their own over a task's data: `id` is the task's."""

_SHOWN: Final = ("instruction", "input", "score", "picked_by", "reason")

_TAKEN: Final = (ROW_ID, ORDER, PROMPT, ANSWER, PROBLEM, *_SHOWN, *_EXPORTED)

_INTERFACE: Final = f"""\
<View>
  <Text name="{PROMPT}" value="${PROMPT}"/>
  <TextArea name="{ANSWER}" toName="{PROMPT}" rows="12" editable="true" maxSubmissions="1"
            placeholder="Write the answer that you would want to get"/>
  <Choices name="{PROBLEM}" toName="{PROMPT}" choice="single" showInline="true">
    {"".join(f'<Choice value="{value}"/>' for value in PROBLEMS)}
  </Choices>
</View>
"""


def label_studio_files(chosen: Chosen, *, prefill: bool) -> dict[str, bytes]:
    """The tasks in order of preference, and the labelling interface (XML), whose fields are those of the tasks.

    With `prefill` the pool's own answer is a prediction, which Label Studio can show as a draft.
    """
    names = renamed(chosen.carried, _TAKEN)
    rows = chosen.rows()
    scaled = _scaled([row["score"] for row in rows])
    tasks = []
    for row, score in zip(rows, scaled, strict=True):
        task: dict[str, Any] = {"data": _data(row, names)}
        known = row.get("output") if prefill else None
        if predictions := _predictions(known, score, f"selectllm {row['strategy']}"):
            task["predictions"] = predictions
        tasks.append(storable(task))
    return {TASKS: json_list(tasks), INTERFACE: _INTERFACE.encode()}


def _data(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    data = {ROW_ID: row["id"], ORDER: row["order"], PROMPT: prompt_of(row["instruction"], row["input"])}
    data |= {name: row[name] for name in _SHOWN if row.get(name) is not None}
    return data | {new: row[name] for name, new in names.items()}


def _predictions(known: str | None, score: float | None, version: str) -> list[Any]:
    """The scaled score, by which tasks can be sorted, and the known answer where it is to be shown."""
    if known is None and score is None:
        return []
    shown = {"from_name": ANSWER, "to_name": PROMPT, "type": "textarea", "value": {"text": [known]}}
    scored = {} if score is None else {"score": score}
    return [{"model_version": version, **scored, "result": [] if known is None else [shown]}]


def _scaled(scores: Sequence[float | None]) -> list[float | None]:
    """Scores from 0 to 1, the only ones that a prediction may have: the best chosen row's is 1, the last one's 0."""
    known = [score for score in scores if score is not None]
    lowest, spread = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    return [None if score is None else (score - lowest) / spread if spread else 1.0 for score in scores]
