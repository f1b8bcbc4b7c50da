import json
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selectllm.llm.model import Reply
from selectllm.ranking import answers
from selectllm.ranking.prompts import Candidate, listwise


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ('{"ranking": [3, 1, 2]}', (3, 1, 2)),
        (' {"ranking":\n[3,1,2]} ', (3, 1, 2)),
    ],
)
def test_a_strict_answer_is_used_unchanged(text: str, numbers: tuple[int, ...]) -> None:
    assert answers.read(text, 3, 5) == answers.Answer(numbers)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"ranking": [3, 1, 2]}\n```',
        'Here you are: {"ranking": [3, 1, 2]}.',
        '<think>maybe [1, 2, 3]?</think>{"ranking": [3, 1, 2]}',
        'I think that 5 is weak. </think> {"ranking": [3, 1, 2]}',
        "```\n[3, 1, 2]\n```",
        "[3, 1, 2]",
        "3, 1, 2",
        "3 > 1 > 2",
        '{"ranking": ["3", "candidate 1", "#2"]}',
        '{"best": [3, 1, 2]}',
        '{"ranking": [3, 1, 2, 5]}',
        '{"ranking": [3, 1, 3, 2]}',
        "[３, １, ２]",
        "[٣, ١, ٢]",
    ],
)
def test_an_unambiguous_answer_is_repaired(text: str) -> None:
    assert answers.read(text, 3, 5) == answers.Answer((3, 1, 2), repaired=True)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("I cannot decide.", "not one JSON list"),
        ("The best are 3, 1 and 2.", "not one JSON list"),
        ("1. 3\n2. 1\n3. 2", "not one JSON list"),
        ("1 3 2 1 3 2", "not one JSON list"),
        ("[3, 1, 2] or [1, 2, 3]", "not one JSON list"),
        ("Not [1, 2, 3]; choose 4, 5 and 1.", "not one JSON list"),
        ('I would not say {"ranking": [1, 2, 3]}, since 4 is best.', "not one JSON list"),
        ("1234567 3 1 2", "not one JSON list"),
        ("<think>" * 3000, "not one JSON list"),
        ("The worst are [1, 2, 3].", "not one JSON list"),
        ('{"ranking": [1, 2, 3], "ranking": [3, 2, 1]}', "not one JSON list"),
        ('{"ranking": [1, 2, 3]} no, {"ranking": [3, 2, 1]}', "not one JSON list"),
        ('{"worst": [1, 2, 3], "why": "vague"}', "not one JSON list"),
        ("<think>First guess [1, 2, 3]. But no", "not one JSON list"),
        ("I guess [1, 2, 3] </think> so 3, 2 and 1", "not one JSON list"),
        ('{"ranking": [3, 1, true]}', "not one JSON list"),
        ('{"ranking": [3.0, 1, 2]}', "not one JSON list"),
        ('{"ranking": [3, 1, 6]}', "not from 1 to 5"),
        ('{"ranking": [0, 1, 2]}', "not from 1 to 5"),
        ('{"ranking": [3, 1]}', "2 candidates instead of 3"),
        ('{"ranking": []}', "instead of 3"),
        ('{"ranking": [3, 3, 3]}', "after repeats"),
        ("[" * 5000, "not one JSON list"),
        ("9" * 10_000, "not one JSON list"),
    ],
)
def test_any_other_answer_has_an_error_message(text: str, fault: str) -> None:
    answer = answers.read(text, 3, 5)
    assert answer.numbers == ()
    assert fault in (answer.fault or "")


@pytest.mark.parametrize(
    "text",
    [
        '{"ranking": [3, 1, 2' + "\t " * 50,
        '{"ranking": [3, 1, 2' + "\t" * 30_000,
        '{"ranking": [3, 1, 2]' + "\n" * 200,
        '{"ranking": [3, 1, 2]}' + "\n" * 200,
        '{"ranking":\n\n[3,\n\n1,\n\n2,',
        '{"ranking": [3, 1, 2',
        '```json\n{"ranking": [3, 1, 2, 4, ',
        '<think>[1, 2]</think>{"ranking": [3, 1, 2 ',
    ],
)
@pytest.mark.parametrize("done_reason", ["length", "unfinished", "stop"])
def test_a_whole_ranking_counts_however_the_answer_ends(text: str, done_reason: str) -> None:
    prompt = listwise([Candidate(str(number), "Task") for number in range(9)], 3, seed=0)
    answer = answers.read_ranking(Reply(text, done_reason), prompt)
    assert (answer.numbers, answer.fault) == ((3, 1, 2), None)
    assert answer.repaired or (done_reason == "stop" and text.rstrip().endswith("]}"))


@pytest.mark.parametrize(
    ("text", "begun"),
    [
        ('{"ranking": [3, 11, 1', (3, 11)),  # the last may be the beginning of 12
        ('{"ranking": [3, 11, ', (3, 11)),
        ('{"ranking": [3, 11' + " " * 100, (3, 11)),
        ('{"ranking": [', ()),
        ('{"ranking": [3 11 2 ', ()),
        ('{"ranking": [3,, 11, 2, ', ()),
        ("[3, 11, 2", ()),
        ("[3, 11, 2] or", ()),
        ("3, 11, 2", ()),
        ("<think>{" + '"ranking": [3, 11, 2', ()),
        ("", ()),
    ],
)
def test_an_answer_that_is_cut_off_before_its_ranking_is_whole_is_a_fault(text: str, begun: tuple[int, ...]) -> None:
    prompt = listwise([Candidate(str(number), "Task") for number in range(14)], 3, seed=0)
    answer = answers.read_ranking(Reply(text, "length"), prompt)
    assert (answer.numbers, answer.begun, answer.kind) == ((), begun, "cut off")
    assert ("one line" in str(answer.fault)) == text.endswith(" " * 100)


def test_the_beginning_of_a_ranking_that_repeats_itself_is_kept() -> None:
    answer = answers.read('{"ranking": [2, 3, 5, 3, 1, 1]}', 6, 6)
    assert (answer.begun, answer.kind) == ((2, 3, 5), "repeated ids")
    assert answers.read('{"ranking": [2, 9, 5]}', 3, 6).begun == (), "wrong ids are no evidence"
    assert answers.read('{"ranking": [2, 5]}', 3, 6).begun == (), "a list that ends is no beginning"
    assert answers.read('{"ranking": [2, 5', 3, 6).begun == (2, 5)


replies = st.one_of(
    st.text(),
    st.text(alphabet='0123456789[]{},"> \nranking:'),
    st.lists(st.integers(-3, 20)).map(lambda numbers: json.dumps({"ranking": numbers})),
)


@given(text=replies, top_k=st.integers(1, 8), more=st.integers(0, 8))
@example(text='{"ranking": [1, 1]}', top_k=1, more=0)
def test_an_answer_contains_only_numbers_of_the_reply(text: str, top_k: int, more: int) -> None:
    shown = top_k + more
    answer = answers.read(text, top_k, shown)
    assert len(set(answer.numbers)) == len(answer.numbers)
    assert all(1 <= number <= shown for number in answer.numbers)
    plain = "".join(str(unicodedata.decimal(character)) if character.isdecimal() else character for character in text)
    assert set(map(str, answer.numbers)) <= {number.lstrip("0") for number in re.findall("[0-9]+", plain)}
    assert (len(answer.numbers) == top_k) == (answer.fault is None)
    assert not answer.numbers or len(answer.numbers) == top_k
