import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selectllm.cli.printing import print_json
from selectllm.report.chosen_rows import reason_text, shown_rows
from selectllm.report.format import notes
from selectllm.report.plain_table import plain_table
from selectllm.text import fit_line

ROW = {"order": 1, "query_id": 3, "rank": 2, "round": 4}


@pytest.mark.parametrize(
    ("picked_by", "text"),
    [
        ("rank", "ranked 2 in query 3"),
        ("tournament", "ranked 2 in query 3, tournament round 4"),
        ("score", "ranked 2 in query 3, by score"),
    ],
)
def test_every_chosen_row_has_a_reason(picked_by: str, text: str) -> None:
    assert reason_text({**ROW, "picked_by": picked_by}) == text


@pytest.mark.parametrize(
    ("picked_by", "text"), [("random", "drawn at random"), ("length", "by length"), ("own", "own")]
)
def test_rows_that_no_model_ranked_have_a_reason(picked_by: str, text: str) -> None:
    assert reason_text({"order": 1, "query_id": None, "rank": None, "round": None, "picked_by": picked_by}) == text


@given(st.text(), st.integers(20, 80))
def test_row_texts_stay_on_their_own_line(text: str, width: int) -> None:
    shown = fit_line(text, width)
    assert len(shown) <= width
    assert shown.isprintable()


def test_escapes_and_direction_marks_are_removed_for_terminals() -> None:
    shown = fit_line("\x1b[31mred\u202e\u200b\x07 done", 80)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.endswith(" done")


def test_only_the_first_rows_are_shown() -> None:
    rows = [{**ROW, "order": number, "picked_by": "rank", "instruction": "x"} for number in range(1, 101)]
    assert len(shown_rows(pa.Table.from_pylist(rows))) == 20


@pytest.mark.parametrize(
    ("kind", "p", "words"),
    [("demo", None, ["demo"]), ("scripted", 0.5, ["fixed rule"]), ("model", 0.5, []), ("model", 1e-9, ["position"])],
)
def test_a_selection_shows_its_notes(kind: str, p: float | None, words: list[str]) -> None:
    shown = notes({"model": {"kind": kind}, "ranking": {"position_bias_pvalue": p}})
    assert len(shown) == len(words)
    assert all(word in note for word, note in zip(words, shown, strict=True))


def test_a_constant_answer_is_named() -> None:
    constant = {"numbers": [1, 2, 3], "share": 0.98}
    ranking = {"position_bias_pvalue": 1e-9, "constant_answer": constant}
    (note,) = notes({"model": {"kind": "model"}, "ranking": ranking})
    assert note.startswith("The selector answered 1, 2, 3 to 98% of the questions")


def test_a_table_fits_its_width_with_one_line_per_row() -> None:
    rows = [["1", "\u8a66\u9a13 " * 30], ["22", "[red]no markup[/red]"]]
    lines = plain_table({"n": "right", "text": "left"}, rows, 40)
    assert [line[:4] for line in lines] == [" n  ", " 1  ", "22  "]
    assert lines[1].endswith("…")
    assert lines[2] == "22  [red]no markup[/red]"
    assert plain_table({"n": "right", "text": "left"}, [], 40) == [" n  text".strip()]


def test_json_keeps_every_character_in_escaped_form(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": "\x1b]0;t\x07 \x9b2J \u202e \U000e0041 \u2028 é \u8a66", "list": [1, None]}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert all(line.isprintable() for line in printed.split("\n"))
    assert "é \u8a66" in printed
