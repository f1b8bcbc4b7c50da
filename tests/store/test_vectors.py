import logging
from pathlib import Path

import numpy as np
import pytest

from selectllm.embedding.vector_cache import VectorCache
from selectllm.store import Store

IDS = [f"{n:032x}" for n in range(6)]
POINTS = np.eye(6, dtype=np.float32)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path) if request.param == "local" else f"memory://{tmp_path}")


def test_vectors_are_returned_in_the_requested_order(store: Store) -> None:
    VectorCache(store, "m").add(IDS[:4], POINTS[:4])
    vectors, known = VectorCache(store, "m").gather([IDS[5], IDS[3], IDS[0]])
    assert known.tolist() == [False, True, True]
    assert (vectors == [np.zeros(6), POINTS[3], POINTS[0]]).all()
    assert vectors.dtype == np.float32


def test_each_model_has_its_own_vectors(store: Store) -> None:
    VectorCache(store, "m").add(IDS, POINTS)
    vectors, known = VectorCache(store, "n").gather(IDS)
    assert not known.any()
    assert vectors.shape == (6, 0)


def test_the_vectors_of_the_earlier_writer_are_used_by_every_reader(store: Store) -> None:
    first, second = VectorCache(store, "m"), VectorCache(store, "m")
    first.add(IDS[:3], POINTS[:3])
    second.add(IDS[1:], POINTS[:5])
    for reader in (first, second):
        vectors, known = reader.gather(IDS)
        assert known.all()
        assert (vectors == POINTS[[0, 1, 2, 2, 3, 4]]).all()


def test_what_was_added_since_is_read_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, read = VectorCache(store, "m"), list[str]()
    kept.add(IDS[:3], POINTS[:3])
    assert kept.gather(IDS)[1].tolist() == [True] * 3 + [False] * 3
    kept.add(IDS[3:], POINTS[3:])
    open_file = store.open_file
    monkeypatch.setattr(store, "open_file", lambda name: read.append(name) or open_file(name))
    vectors, known = kept.gather(IDS[3:], added=True)
    assert known.all()
    assert (vectors == POINTS[3:]).all()
    assert len(read) == 1


def test_a_shard_that_is_held_is_not_read_and_does_not_count_before_an_earlier_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other, read = VectorCache(store, "m"), VectorCache(store, "m"), list[str]()
    assert not ours.gather(IDS)[1].any()
    other.add(IDS[:3], POINTS[:3])
    held = ours.add(IDS[1:], POINTS[:5])
    ours.hold(held)
    open_file = store.open_file
    monkeypatch.setattr(store, "open_file", lambda name: read.append(name) or open_file(name))
    vectors, known = ours.gather(IDS, added=True)
    assert known.all()
    assert (vectors == POINTS[[0, 1, 2, 2, 3, 4]]).all()
    assert len(read) == 1
    assert held.name not in read


@pytest.mark.parametrize("damage", ["altered", "cut short", "emptied"])
def test_a_damaged_shard_is_logged_and_skipped(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = VectorCache(Store(str(tmp_path)), "m")
    kept.add(IDS[:3], POINTS[:3])
    kept.add(IDS[3:], POINTS[3:])
    first = sorted(tmp_path.rglob("*.parquet"))[0]
    content = first.read_bytes()
    first.write_bytes({"altered": content.replace(b"PAR1", b"PAR2"), "cut short": content[:-9], "emptied": b""}[damage])
    with caplog.at_level(logging.WARNING, "selectllm"):
        _, known = kept.gather(IDS)
    assert known.tolist() == [False] * 3 + [True] * 3
    assert str(first) in caplog.text
