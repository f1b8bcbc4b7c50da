"""The store on S3's API, over HTTP."""

import logging
import threading
from collections.abc import Callable

import fsspec
import pandas as pd
import pytest

from selectllm import select
from selectllm.settings import RunSettings
from selectllm.store import Store
from selectllm.store.history import Commit, Conflict, History
from tests.conftest import FakeModel, HashEmbedder
from tests.steps.test_incremental import grow, new_rows

MakeRun = Callable[..., RunSettings]
pytestmark = [
    pytest.mark.usefixtures("quick_embedding"),
    # aiobotocore closes its session only by garbage collection; our code does not.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


def test_a_store_on_s3_has_the_same_files_as_a_folder(
    s3: str, make_run: MakeRun, fake_model: Callable[..., FakeModel]
) -> None:
    model = fake_model()
    run = make_run(budget=7, store=s3, history="nightly", slot="monday")
    first = select(run)
    here = select(make_run(budget=7))
    assert first.table().equals(here.table())
    asked = len(model.asked)
    again = select(run)
    assert set(again.summary["cached"]) == set(again.summary["seconds"])
    assert len(model.asked) == asked
    assert first.path().startswith(f"{s3}/v1/artifacts/selection/")
    files = fsspec.filesystem("s3").find(s3)
    assert {name.rsplit(".", 1)[-1] for name in files} == {"parquet", "json", "jsonl"}, "no lock and no incomplete file"


def test_a_damaged_object_is_detected_and_rebuilt(s3: str, make_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(budget=7, store=s3)
    first = select(run)
    files = fsspec.filesystem("s3")
    path = first.path("queries").removeprefix("s3://")
    content = files.cat_file(path)
    files.pipe_file(path, content[:-1] + b"\0")
    with caplog.at_level(logging.WARNING, "selectllm"):
        select(run)
    assert "was altered" in caplog.text
    assert files.cat_file(path) == content


def test_embeddings_of_many_files_are_taken_over_on_s3(
    s3: str, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selectllm.steps.embed.ONE_FILE_ROWS", 20)
    monkeypatch.setattr("selectllm.embedding.parts._END", b"0")
    run = make_run(rows=200, budget=7, store=s3)
    store, files = Store(s3), fsspec.filesystem("s3")
    first = select(run)
    before = store.manifests("embeddings")[0]
    assert len(files.find(first.path("embeddings"))) == len(before.parts) > 5
    embedded = HashEmbedder.texts
    second = select(grow(run, new_rows(1)))
    assert HashEmbedder.texts - embedded == 1
    after = store.manifests("embeddings")[1]
    assert len({part.sha256 for part in before.parts} & {part.sha256 for part in after.parts}) == len(before.parts) - 1
    assert pd.read_parquet(second.path("embeddings"))["id"].tolist() == second.table("pool")["id"].to_pylist()
    assert set(select(run).summary["cached"]) == set(first.summary["seconds"])
    name = f"{first.path('embeddings')}/{before.parts[0].name}"
    files.pipe_file(name, files.cat_file(name)[:-1] + b"\0")
    select(run)
    assert store.is_intact(before.artifact)
    assert HashEmbedder.texts - embedded == 1


def test_concurrent_slots_share_no_row(s3: str) -> None:
    rows = [f"{n:032x}" for n in range(8)]

    def take_two(slot: int) -> None:
        history = History(Store(s3), "h")
        while True:
            before = history.commits()
            taken = {id for commit in before.values() for id in commit.ids}
            mine = tuple(id for id in rows if id not in taken)[:2]
            try:
                history.commit(Commit(slot=str(slot), selection="k", budget=2, after=tuple(before), ids=mine))
            except Conflict:
                continue
            return

    threads = [threading.Thread(target=take_two, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(id for commit in History(Store(s3), "h").commits().values() for id in commit.ids) == rows


def test_a_missing_bucket_is_one_clear_error(s3: str, make_run: MakeRun) -> None:
    from selectllm.errors import StoreError

    with pytest.raises(StoreError, match="cannot be written"):
        select(make_run(store="s3://nobody/store"))
