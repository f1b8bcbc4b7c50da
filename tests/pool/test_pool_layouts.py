import pytest

from selectllm.errors import PoolError
from selectllm.pool import Columns
from tests.pool.reading import read_pool


def texts(pool):
    return [tuple(row.values()) for row in pool.table.select(["instruction", "input", "output"]).to_pylist()]


def extra_columns(pool):
    return pool.table.column_names[5:]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("row", "layout", "expected", "others"),
    [
        ({"instruction": "a", "input": "b", "output": "c"}, "instruction", ("a", "b", "c"), []),
        ({"instruction": "a", "context": "b", "response": "c"}, "instruction", ("a", "b", "c"), []),
        (
            {"instruction": "a", "context": "x", "input": "b", "response": "y", "output": "c"},
            "instruction",
            ("a", "b", "c"),
            ["context", "response"],
        ),
        ({"prompt": "a", "completion": "c", "output": "x"}, "prompt", ("a", None, "c"), ["source_output"]),
        ({"prompt": "a", "response": "c", "input": "x"}, "prompt", ("a", None, "c"), ["source_input"]),
        ({"prompt": "x", "instruction": "a"}, "instruction", ("a", None, None), ["prompt"]),
    ],
)
def test_a_layout_is_recognised_by_its_columns(write, suffix, row, layout, expected, others):
    pool = read_pool(write("pool" + suffix, [row]))
    assert (pool.layout, texts(pool), extra_columns(pool)) == (layout, [expected], others)


def test_named_columns_are_preferred_and_not_stored_twice(write):
    row = {"question": "q", "instruction": "i", "hint": "h", "answer": "a", "input": "x"}
    pool = read_pool(write("pool.jsonl", [row]), Columns(instruction="question", input="hint", output="answer"))
    assert (pool.layout, texts(pool)) == ("columns", [("q", "h", "a")])
    assert extra_columns(pool) == ["source_instruction", "source_input"]


def test_other_columns_are_recognised_without_being_named(write):
    path = write("pool.csv", [{"question": "q", "context": "c", "response": "r"}])
    assert texts(read_pool(path, Columns(instruction="question"))) == [("q", "c", "r")]
    path = write("pool.csv", [{"instruction": "i", "input": "x", "gold": "g", "output": "y"}])
    pool = read_pool(path, Columns(output="gold"))
    assert (pool.layout, texts(pool), extra_columns(pool)) == ("instruction", [("i", "x", "g")], ["source_output"])
    assert texts(read_pool(path, Columns(instruction="input"))) == [("x", None, "y")]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(instruction="question"), "has no column 'question'. Its columns are text, label"),
        (Columns(instruction="text", output="gold"), "has no column 'gold'"),
        (Columns(instruction="text", input="text"), "cannot be two of"),
        (Columns(), "none of the columns .* Its columns are text, label.* --instruction-column"),
        (Columns(output="label"), "--instruction-column"),
    ],
)
def test_missing_columns_are_an_error(write, columns, message):
    with pytest.raises(PoolError, match=message) as raised:
        read_pool(write("pool.csv", [{"text": "a", "label": "b"}]), columns)
    assert "\n" not in str(raised.value)


def test_an_error_with_many_or_odd_column_names_is_one_line(write):
    with pytest.raises(PoolError, match=r"c19 and 31 more\.") as raised:
        read_pool(write("pool.jsonl", [{f"c{number}": 1 for number in range(50)} | {"new\nline\ud800": 1}]))
    assert str(raised.value).isprintable()
    with pytest.raises(PoolError, match="no columns at all"):
        read_pool(write("pool.jsonl", "{}\n{}\n"))


def test_a_row_of_another_spelling_is_read_by_its_own_columns(write):
    rows = [
        {"instruction": "a", "input": "b", "output": "c"},
        {"Instruction": "d", "Input": "e", "Output": "f"},
        {"INSTRUCTION": "g", "INPUT": "h", "OUTPUT": "i"},
        {"Prompt": "j", "COMPLETION": "k"},
        {" Question": "l"},
    ]
    expected = [("a", "b", "c"), ("d", "e", "f"), ("g", "h", "i"), ("j", None, "k"), ("l", None, None)]
    for ordered, of_rows in ((rows, expected), (rows[::-1], expected[::-1]), (rows[1:], expected[1:])):
        pool = read_pool(write("pool.jsonl", ordered))
        assert (texts(pool), pool.quarantined, extra_columns(pool)) == (of_rows, 0, [])


def test_rows_that_share_a_spelling_of_the_input_keep_it(write):
    rows = [{"instruction": "a", "input": "b"}, {"Instruction": "c", "input": "d"}]
    assert texts(read_pool(write("pool.jsonl", rows))) == [("a", "b", None), ("c", "d", None)]


def test_a_column_in_capitals_changes_no_row_that_has_an_instruction(write):
    pool = read_pool(write("pool.csv", [{"instruction": "a", "Input": "b", "Question": "c", "Instruction": "d"}]))
    assert (pool.layout, texts(pool)) == ("instruction", [("a", None, None)])
    assert extra_columns(pool) == ["Input", "Question", "Instruction"]


def test_a_column_named_as_an_input_is_no_instruction(write):
    rows = [{"instruction": "a", "Question": "b"}, {"instruction": None, "Question": "c"}]
    pool = read_pool(write("pool.jsonl", rows), Columns(input="Question"))
    assert texts(pool) == [("a", "b", None), ("c", None, None)]
