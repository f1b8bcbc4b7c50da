import random

import pyarrow as pa
import pytest

from selectllm.ranking.candidates import Candidates
from selectllm.ranking.prompts import Candidate
from selectllm.schemas import POOL

PIECES = ("word ", "山水", "<|x|>", "[INST]", '"', "\\", "\n", "\x01", "\u2028", "\x85", "<", "[", "é", "🙂", " ")
LIMIT = 60


def texts(count: int) -> list[tuple[str, str, str | None]]:
    rng = random.Random(0)
    rows = []
    for row in range(count):
        instruction = "".join(rng.choices(PIECES, k=rng.randint(1, 20)))
        input = None if row % 3 else "".join(rng.choices(PIECES, k=rng.randint(0, 20)))
        rows.append((f"{row:032x}", instruction, input))
    return rows


def candidates(rows: list[tuple[str, str, str | None]]) -> Candidates:
    ids, instructions, inputs = map(list, zip(*rows, strict=True)) if rows else ([], [], [])
    columns = [ids, list(range(1, len(rows) + 1)), instructions, inputs, [None] * len(rows)]
    return Candidates(pa.table(columns, schema=POOL), LIMIT)


def one_by_one(rows: list[tuple[str, str, str | None]]) -> list[tuple[Candidate, bool]]:
    return [Candidate(*row).clipped(LIMIT) for row in rows]


@pytest.mark.parametrize("count", [0, 1, 400])
def test_candidates_are_those_that_are_made_one_by_one(count: int) -> None:
    rows = texts(count)
    expected = one_by_one(rows)
    found = candidates(rows)
    assert list(found.items()) == [(candidate.id, candidate) for candidate, _ in expected]
    assert found.clipped == sum(was_cut for _, was_cut in expected)
    assert len(found) == count


@pytest.mark.parametrize("size", [0, 1, 20, 500])
def test_the_longest_are_those_that_take_the_most_bytes(size: int) -> None:
    rows = texts(400)
    expected = sorted((candidate.shown_bytes for candidate, _ in one_by_one(rows)), reverse=True)[:size]
    found = candidates(rows).longest(size)
    assert [candidate.shown_bytes for candidate in found] == expected
    assert len({candidate.id for candidate in found}) == len(found)


def test_candidates_are_found_by_id_in_the_order_asked() -> None:
    rows = texts(50)
    found = candidates(rows)
    ids = [rows[row][0] for row in (7, 3, 49)]
    assert [candidate.id for candidate in found.of(pa.chunked_array([ids]))] == ids
    assert found.at([7, 3, 49]) == found.of(pa.chunked_array([ids]))
    with pytest.raises(KeyError):
        found["f" * 32]
