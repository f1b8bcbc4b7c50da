import hashlib

import pytest

from selectllm.pool import row_id


def test_the_id_of_a_known_row_never_changes():
    # printf '[1,"Add the numbers.","1 2"]' | b2sum -l 128
    assert row_id("Add the numbers.", "1 2") == "a196d458eb57c7487dcef762e75a690d"


def test_the_id_is_the_digest_of_a_json_list_in_utf8():
    canonical = '[1,"Sag \\"Grüße\\"\\nan 世界.",""]'
    assert row_id('Sag "Grüße"\nan 世界.', None) == hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("instruction", "input_"),
    [
        ("café\nau lait", "x"),
        ("cafe\N{COMBINING ACUTE ACCENT}\nau lait", "x"),
        ("café\r\nau lait", "x"),
        ("  café\nau lait\n", "\tx "),
    ],
)
def test_equivalent_unicode_forms_have_the_same_id(instruction, input_):
    assert row_id(instruction, input_) == row_id("café\nau lait", "x")


def test_an_absent_and_a_blank_input_have_the_same_id():
    assert row_id("a", None) == row_id("a", "") == row_id("a", " \r\n")


def test_texts_that_a_model_reads_differently_have_different_ids():
    ids = {row_id("a", "b"), row_id("A", "b"), row_id("a b", None), row_id("b", "a"), row_id("a", None)}
    assert len(ids) == 5
