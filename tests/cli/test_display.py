import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selectllm.report.format import notes, reason_text, shown_rows
from selectllm.text import fit_line

ROW = {"order": 1, "query_id": 3, "rank": 2, "round": 4}


@pytest.mark.parametrize(
    ("picked_by", "said"),
    [
        ("rank", "ranked 2 in query 3"),
        ("tournament", "ranked 2 in query 3, tournament round 4"),
        ("score", "ranked 2 in query 3, by score"),
    ],
)
def test_every_pick_has_a_reason(picked_by: str, said: str) -> None:
    assert reason_text({**ROW, "picked_by": picked_by}) == said


@pytest.mark.parametrize(
    ("picked_by", "text"), [("random", "drawn at random"), ("length", "by length"), ("own", "own")]
)
def test_rows_that_no_model_ranked_have_a_reason(picked_by: str, text: str) -> None:
    assert reason_text({"order": 1, "query_id": None, "rank": None, "round": None, "picked_by": picked_by}) == text


@given(st.text(), st.integers(20, 80))
def test_no_text_breaks_out_of_its_line(text: str, width: int) -> None:
    shown = fit_line(text, width)
    assert len(shown) <= width
    assert shown.isprintable()


def test_escapes_and_direction_marks_do_not_reach_a_terminal() -> None:
    shown = fit_line("\x1b[31mred\u202e\u200b\x07 done", 80)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.endswith(" done")


def test_only_the_first_rows_are_shown() -> None:
    rows = [{**ROW, "order": number, "picked_by": "rank", "instruction": "x"} for number in range(1, 101)]
    assert len(shown_rows(pa.Table.from_pylist(rows))) == 20


@pytest.mark.parametrize(
    ("kind", "p", "said"),
    [("demo", None, ["demo"]), ("scripted", 0.5, ["fixed rule"]), ("model", 0.5, []), ("model", 1e-9, ["position"])],
)
def test_what_must_be_said_of_a_selection_is_said(kind: str, p: float | None, said: list[str]) -> None:
    found = notes({"model": {"kind": kind}, "ranking": {"position_bias_pvalue": p}})
    assert len(found) == len(said)
    assert all(word in note for word, note in zip(said, found, strict=True))
