"""A selection as tasks for Label Studio, and the labelling interface that shows them.

The format of tasks and predictions: https://labelstud.io/guide/tasks and https://labelstud.io/guide/predictions.
"""

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

_SHOWN: Final = ("instruction", "input", "picked_by", "reason")

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
    tasks = [_task(row, names, prefill=prefill) for row in chosen.rows()]
    return {TASKS: json_list(tasks), INTERFACE: _INTERFACE.encode()}


def _task(row: dict[str, Any], names: dict[str, str], *, prefill: bool) -> dict[str, Any]:
    data = {ROW_ID: row["id"], ORDER: row["order"], PROMPT: prompt_of(row["instruction"], row["input"])}
    data |= {name: row[name] for name in _SHOWN if row.get(name) is not None}
    data |= {new: row[name] for name, new in names.items()}
    task: dict[str, Any] = {"data": data}
    if predictions := _predictions(row, prefill=prefill):
        task["predictions"] = predictions
    return dict(storable(task))


def _predictions(row: dict[str, Any], *, prefill: bool) -> list[dict[str, Any]]:
    """The strategy's score, by which tasks can be sorted, and the known answer where it is to be shown."""
    output = row.get("output") if prefill else None
    if output is None and row["score"] is None:
        return []
    result = {"from_name": ANSWER, "to_name": PROMPT, "type": "textarea", "value": {"text": [output]}}
    score = {} if row["score"] is None else {"score": row["score"]}
    return [{"model_version": f"selectllm {row['strategy']}", **score, "result": [result] if output else []}]
