"""Conversations: which turn is asked, what stands before it, and how turns are written."""

import json

import pytest

from selectllm.errors import PoolError
from selectllm.pool import Columns, row_id
from selectllm.pool.carried import original_values
from selectllm.settings import ColumnSettings
from tests.pool.reading import read_pool


def user(text):
    return {"role": "user", "content": text}


def texts(pool):
    return [tuple(row.values()) for row in pool.table.select(["instruction", "input"]).to_pylist()]


TURNS = [
    ([{"role": "system", "content": "s"}, user("a"), user("b")], "b", "System: s\nUser: a"),
    ([{"from": "gpt", "value": "s"}, {"from": "human", "value": "a"}], "a", "Assistant: s"),
    ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], "a\nb", None),
    ([user([{"type": "image", "text": "u"}, {"type": "text", "text": "b"}])], "b", None),
    ([user("a"), {"role": "assistant", "content": "x"}], "a", None),
]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("column", ["messages", "conversations", "conversation", "dialogs", "dialog"])
@pytest.mark.parametrize(("turns", "instruction", "before"), TURNS)
def test_a_conversation_asks_its_last_user_turn_and_is_carried(write, suffix, column, turns, instruction, before):
    pool = read_pool(write("pool" + suffix, [{column: turns, "n": 1}]))
    assert (pool.layout, texts(pool)) == ("messages", [(instruction, before)])
    assert pool.table.column_names[5:] == [column, "n"]
    (original,) = original_values(pool.table.schema.field(column), pool.table[column])
    assert len(original) == len(turns)


CALL = [{"function": {"name": "add", "arguments": {"a": 1}}}]
ALIKE = [
    [user("Go on.")],
    [{"role": "system", "content": "Be brief."}, user("Go on.")],
    [{"role": "system", "content": "Be kind."}, user("Go on.")],
    [user("Name a river."), {"role": "assistant", "content": "The Rhine."}, user("Go on.")],
    [user("Name a river."), {"role": "assistant", "content": "The Po."}, user("Go on.")],
    [user("Name a river."), {"role": "assistant", "content": None, "tool_calls": CALL}, user("Go on.")],
]


def test_chats_with_one_request_differ_by_all_that_stands_before_it(write):
    pool = read_pool(write("pool.jsonl", [{"messages": turns} for turns in ALIKE]))
    assert (pool.table.num_rows, pool.duplicates) == (len(ALIKE), 0)
    assert set(pool.table["instruction"].to_pylist()) == {"Go on."}


def test_answers_after_the_last_user_turn_do_not_count(write):
    rows = [{"messages": [user("a"), {"role": "assistant", "content": answer}]} for answer in "xy"]
    assert read_pool(write("pool.jsonl", rows)).duplicates == 1


def test_a_chat_of_one_request_has_the_id_of_a_plain_row(write):
    pool = read_pool(write("pool.jsonl", [{"messages": [user("a")]}, {"messages": ALIKE[1]}]))
    assert pool.table["id"].to_pylist() == [row_id("a", None), row_id("Go on.", "System: Be brief.")]


def test_the_first_user_turn_can_be_the_one_that_is_asked(write):
    rows = [{"messages": turns} for turns in ALIKE]
    pool = read_pool(write("pool.jsonl", rows), Columns(turn="first"))
    assert texts(pool) == [
        ("Go on.", None),
        ("Go on.", "System: Be brief."),
        ("Go on.", "System: Be kind."),
        ("Name a river.", None),
    ]


PAIR = "User: a\nAssistant: x"


@pytest.mark.parametrize(
    ("row", "instruction", "before"),
    [
        ({"prompt": [{"role": "system", "content": "s"}, user("a")]}, "a", "System: s"),
        ({"prompt": {"role": "prompter", "text": "a", "replies": [{"role": "assistant", "text": "x"}]}}, "a", None),
        ({"messages": json.dumps([user("a"), user("b")])}, "b", "User: a"),
        ({"conversations": {"from": ["system", "human"], "value": ["s", "a"]}}, "a", "System: s"),
        ({"messages": {"role": ["user", "assistant"], "content": ["a", "x"]}}, "a", None),
        ({"messages": {"role": ["user"], "content": ["a"], "name": None, "model": "m"}}, "a", None),
        ({"messages": {"role": ["system", "user"], "content": ["s", "a"], "tool_calls": []}}, "a", "System: s"),
        ({"conversations": ["a", "x", "b"]}, "b", "User: a\nAssistant: x"),
        ({"contents": [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]}, "a\nb", None),
        (
            {"request": {"systemInstruction": {"parts": [{"text": "s"}]}, "contents": [{"role": "user", "parts": []}]}},
            None,
            "the user turn holds no text",
        ),
        (
            {
                "request": {
                    "system_instruction": {"parts": [{"text": "s"}]},
                    "contents": [{"role": "user", "parts": [{"text": "a"}]}],
                }
            },
            "a",
            "System: s",
        ),
        ({"custom_id": "1", "url": "/v1/chat/completions", "body": {"messages": [user("a")]}}, "a", None),
        ({"key": "1", "request": {"contents": [{"parts": [{"text": "a"}]}]}}, "a", None),
        ({"custom_id": "1", "body": {"input": [user([{"type": "input_text", "text": "a"}])]}}, "a", None),
        ({"custom_id": "1", "url": "/v1/responses", "body": {"instructions": "s", "input": "a"}}, "a", "System: s"),
        (
            {"instruction": "b", "input": "", "system": "s", "history": [["a", "x"]]},
            "b",
            "System: s\nUser: a\nAssistant: x",
        ),
        ({"instruction": "b", "input": "c", "history": [["a", "x"]]}, "b", f"{PAIR}\n\nc"),
        ({"instruction": "b", "system": "", "history": []}, "b", None),
        ({"query": "b", "response": "r", "history": [["a", "x"]]}, "b", PAIR),
        ({"system": "s", "conversations": [{"from": "human", "value": "a"}]}, "a", "System: s"),
        ({"messages": [{"role": " Human ", "content": [{"type": "input_text", "text": "a"}]}]}, "a", None),
        ({"messages": [user([{"text": "a"}, {"image": "b.png"}])]}, "a", None),
        ({"messages": [user(["a", "b"])]}, "a\nb", None),
        ({"messages": [user({"content_type": "text", "parts": ["a"]})]}, "a", None),
        ({"messages": [{"role": "user", "content": ""}, user("b")]}, "b", None),
    ],
)
def test_conversations_are_read_however_they_are_written(write, row, instruction, before):
    path = write("pool.jsonl", [row, {**row, "more": 1}])
    if instruction is None:
        with pytest.raises(PoolError, match=before):
            read_pool(path)
    else:
        assert texts(read_pool(path)) == [(instruction, before)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "value", [[user("a")], [{"from": "human", "value": "a"}], {"role": ["user"], "content": ["a"]}]
)
def test_a_named_column_that_holds_chats_is_read_as_chats(write, suffix, value):
    pool = read_pool(write("pool" + suffix, [{"talk": value}]), Columns(instruction="talk"))
    assert (texts(pool), pool.table.column_names[5:]) == ([("a", None)], ["talk"])


@pytest.mark.parametrize(
    "text",
    [
        '{"from": "Paris", "to": "Rome"}',
        '[{"from": "Paris", "to": "Rome"}]',
        '{"role": "engineer", "name": "Ada"}',
        '{"from": "Paris", "text": "a postcard"}',
    ],
)
def test_an_instruction_of_json_without_a_content_is_no_chat(write, text):
    assert texts(read_pool(write("pool.jsonl", [{"instruction": text}]))) == [(text, None)]


@pytest.mark.parametrize("text", [json.dumps(user("a")), '{"from": "human", "value": "a"}'])
def test_an_instruction_that_is_a_turn_of_json_is_a_chat(write, text):
    assert texts(read_pool(write("pool.jsonl", [{"instruction": text}]))) == [("a", None)]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "no messages"),
        ("hello", "the messages are not a list but text"),
        ("[hello", "the messages are not a list but text"),
        (3, "the messages are not a list but a number"),
        ({"a": 1}, "the messages are not a list but an object"),
        ([], "no user turn"),
        (["hello", {"role": "assistant", "content": "a"}], "no user turn: roles are assistant"),
        ([{"from": "bot", "value": "a"}, {"from": "person", "value": "b"}], "no user turn: roles are bot, person"),
        ([{"role": "user"}], "the user turn holds no text"),
        ([{"from": "human", "value": None, "text": "a"}], "the user turn holds no text"),
        ([{"role": "user", "content": 3}], "the instruction is not text but a number"),
        ([{"role": "user", "content": [{"type": "image", "url": "u"}]}], "the user turn holds no text"),
    ],
)
def test_a_conversation_without_a_question_is_quarantined(write, messages, reason):
    pool = read_pool(write("pool.jsonl", [{"messages": messages}, {"messages": [user("a")]}]))
    assert pool.quarantine["reason"].to_pylist() == [reason]


def test_other_tags_are_read_by_a_role_map(write):
    turns = [{"from": "Agent", "value": "x"}, {"from": "customer ", "value": "a"}]
    path = write("pool.jsonl", [{"conversations": turns}])
    assert texts(read_pool(path, Columns(role_map="user=Customer, assistant=agent"))) == [("a", "Assistant: x")]


@pytest.mark.parametrize("role_map", ["", "user", "user=", "customer=user", "user=a,,"])
def test_a_role_map_that_says_nothing_is_refused(role_map):
    with pytest.raises(ValueError, match=r"--role-map cannot be .*: write roles with their tags, as in user=customer"):
        ColumnSettings(role_map=role_map)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_each_row_of_a_file_of_two_layouts_is_read_by_its_own(write, suffix):
    rows = [
        {"instruction": "a", "input": "i", "messages": None},
        {"instruction": None, "input": None, "messages": [user("b")]},
    ]
    pool = read_pool(write("pool" + suffix, rows))
    assert (pool.layout, texts(pool)) == ("instruction and messages", [("a", "i"), ("b", None)])
    assert pool.table.column_names[5:] == ["messages"]


def test_a_column_that_another_layout_does_not_store_is_carried(write):
    rows = [{"instruction": "a", "output": "x"}, {"messages": [user("b")], "output": "y"}]
    table = read_pool(write("pool.jsonl", rows)).table
    assert (table["output"].to_pylist(), table["source_output"].to_pylist()) == (["x", None], ["x", "y"])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_question_in_the_input_of_an_empty_instruction_is_the_instruction(write, suffix):
    pool = read_pool(write("pool" + suffix, [{"instruction": "", "input": "What is a lake?", "output": "x"}]))
    assert texts(pool) == [("What is a lake?", None)]
    assert pool.table["id"].to_pylist() == [row_id("What is a lake?", None)]
