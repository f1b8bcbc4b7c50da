"""Rows with answers, from every layout that holds some."""

import json
from pathlib import Path
from typing import Any

import pytest

from selectllm.errors import PoolError
from selectllm.pool import Columns
from selectllm.tuning.examples import read_examples

ASKED = {"role": "user", "content": "Name a colour."}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Name a colour.", "input": "", "output": "Red."},
        {"instruction": "Name a colour.", "response": "Red."},
        {"prompt": "Name a colour.", "completion": "Red."},
        {"messages": [ASKED, {"role": "assistant", "content": "Red."}]},
        {"conversations": [{"from": "human", "value": "Name a colour."}, {"from": "gpt", "value": "Red."}]},
    ],
)
def test_every_layout_gives_the_same_example(row: Any, tmp_path: Path) -> None:
    (example,) = read_examples(write(tmp_path / "rows.jsonl", row), Columns()).rows
    assert example.messages == (ASKED,)
    assert example.answer == "Red."


def test_all_layouts_of_one_row_have_one_id(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Name a colour.", "output": "Red."},
        {"messages": [ASKED, {"role": "assistant", "content": "Red."}]},
    ]
    ids = {read_examples(write(tmp_path / f"{n}.jsonl", row), Columns()).rows[0].id for n, row in enumerate(rows)}
    assert len(ids) == 1


def test_a_conversation_keeps_its_turns_and_is_answered_once(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, ASKED, {"role": "assistant", "content": "Red."}]
    turns += [{"role": "user", "content": "Another."}, {"role": "assistant", "content": "Blue."}]
    (example,) = read_examples(write(tmp_path / "rows.jsonl", {"messages": turns}), Columns()).rows
    assert list(example.messages) == turns[:-1]
    assert example.answer == "Blue."


def test_an_input_stands_below_its_instruction(tmp_path: Path) -> None:
    row = {"instruction": "Translate.", "input": "rouge", "output": "red"}
    (example,) = read_examples(write(tmp_path / "rows.jsonl", row), Columns()).rows
    assert example.messages[0]["content"] == "Translate.\n\nrouge"


def test_rows_without_an_answer_are_left_out_with_a_reason(tmp_path: Path) -> None:
    rows = [
        {"messages": [ASKED]},
        {"messages": [ASKED, {"role": "assistant", "content": " "}]},
        {"messages": [{"role": "assistant", "content": "Red."}]},
        {"messages": [ASKED, {"role": "tool", "content": "x"}, {"role": "assistant", "content": "Red."}]},
        {"messages": [ASKED, {"role": "assistant", "content": "Red."}]},
        {"messages": "nothing"},
    ]
    examples = read_examples(write(tmp_path / "rows.jsonl", *rows), Columns())
    assert [example.answer for example in examples.rows] == ["Red."]
    assert set(examples.left_out) == {1, 2, 3, 4, 6}
    assert examples.left_out[1] == examples.left_out[2] == "no answer"


def test_a_file_without_answers_says_what_to_do(tmp_path: Path) -> None:
    location = write(tmp_path / "rows.jsonl", {"instruction": "Name a colour."})
    with pytest.raises(PoolError, match=r"row 1: no answer\. Give a file that `selectllm annotations --to`"):
        read_examples(location, Columns())
    renamed = write(tmp_path / "renamed.jsonl", {"instruction": "Name a colour.", "reply": "Red."})
    assert read_examples(renamed, Columns(output="reply")).rows[0].answer == "Red."
