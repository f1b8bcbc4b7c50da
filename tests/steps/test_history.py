import errno
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from selectllm import cancellation, select
from selectllm.errors import Stopped, StoreError, TransientError, UsageError
from selectllm.llm.model import Request
from selectllm.report.result import Result
from selectllm.settings import RunSettings
from selectllm.steps import choose, read_pool
from selectllm.store import Store
from selectllm.store.history import Commit, Conflict, History, chosen_before, with_slot
from selectllm.store.locks import Lease
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.conftest import FakeModel, by_id

MakeRun = Callable[..., RunSettings]
pytestmark = pytest.mark.usefixtures("quick_embedding")


def ids(result: Result) -> list[str]:
    return result.table()["id"].to_pylist()


def test_slots_never_choose_a_row_twice_and_need_only_tournament_requests(
    make_run: MakeRun, fake_model: Callable[..., FakeModel]
) -> None:
    model = fake_model()
    run = make_run(rows=140, budget=12, history="nightly")
    chosen: list[str] = []
    asked = []
    for _ in range(5):  # two and a half tiers of ten queries; three tiers are ranked
        before = len(model.asked)
        chosen += ids(select(run))
        asked.append(len(model.asked) - before)
    assert len(chosen) == len(set(chosen)) == 60
    assert asked[0] > 10, "the first slot ranks all queries"
    assert all(count <= 12 for count in asked[1:3]), "later slots only order the tiers that are cut"


def test_slots_choose_the_same_rows_as_one_large_budget(
    make_run: MakeRun, fake_model: Callable[..., FakeModel]
) -> None:
    fake_model()
    night = make_run(rows=140, budget=10, history="h")
    nights = [id for _ in range(3) for id in ids(select(night))]
    at_once = ids(select(make_run(rows=140, budget=30, store=night.store + " apart")))
    assert set(nights) == set(at_once)


def test_the_same_slot_gives_the_same_rows(make_run: MakeRun) -> None:
    run = make_run(rows=140, budget=7, history="nightly", slot="monday")
    first = select(run)
    select(run.model_copy(update={"slot": "tuesday"}))
    again = select(run)
    assert ids(again) == ids(first)
    assert again.summary["artifacts"] == first.summary["artifacts"]
    assert first.summary["selection"] == {
        "budget": 7, "selected": 7, "excluded": 0, "history": "nightly", "slot": "monday",
    }  # fmt: skip
    tuesday = select(run.model_copy(update={"slot": "tuesday"}))
    assert tuesday.summary["selection"]["excluded"] == 7


def test_a_lock_that_the_disk_refuses_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pytest.importorskip("fcntl"), "flock", refuse)
    with (
        pytest.raises(StoreError, match="cannot be written: Input/output error"),
        Store(str(tmp_path)).lock("history/h"),
    ):
        pytest.fail("the lock is not ours")


def test_a_lease_is_ours_when_its_owner_removes_it_while_we_look(tmp_path: Path) -> None:
    class Vanishing(MemoryFileSystem):
        """A store whose lease is given up between two looks at it."""

        def cat_file(self, path: str, **_: object) -> bytes:
            self.rm_file(path)
            raise FileNotFoundError(path)

    files = Vanishing(skip_instance_cache=True)
    path = f"{tmp_path}/.lease"
    files.pipe_file(path, b"another's")
    lease = Lease(files, path)
    lease.acquire(cancellable=False)
    assert MemoryFileSystem(skip_instance_cache=True).cat_file(path) != b"another's"


def test_a_filled_slot_keeps_its_rows_when_the_pool_changes(
    make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(rows=60, budget=5, history="h", slot="one")
    first = select(run)
    other = make_run(rows=80, budget=5, history="h", slot="one", store=run.store)
    assert ids(select(other)) == ids(first)
    assert "was filled before: its rows stand" in caplog.text
    Path(first.path()).unlink()
    with pytest.raises(StoreError, match="no longer in the store"):
        select(other)
    assert ids(select(run)) == ids(first), "the same inputs give the same rows again"


def test_a_filled_slot_takes_no_other_budget(make_run: MakeRun) -> None:
    run = make_run(rows=60, budget=5, history="h", slot="one")
    select(run)
    with pytest.raises(UsageError, match=r"holds 5 rows, and the budget is 6: name another --slot"):
        select(run.model_copy(update={"budget": 6}))


def test_a_run_that_dies_before_its_commit_fills_no_slot(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(rows=60, budget=5, history="h")
    with monkeypatch.context() as patch:
        patch.setattr(History, "commit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            select(run)
    assert History(Store(run.store), "h").commits() == {}
    apart = select(run.model_copy(update={"store": run.store + " apart"}))
    assert ids(select(run)) == ids(apart)


def test_a_run_that_dies_after_its_commit_gives_the_same_rows_on_rerun(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(rows=60, budget=5, history="h", slot="s")
    with monkeypatch.context() as patch:
        patch.setattr("selectllm.pipeline.publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            select(run)
    kept = History(Store(run.store), "h").commits()["s"]
    select(run.model_copy(update={"slot": "t"}))
    assert tuple(ids(select(run))) == kept.ids


def test_a_filled_slot_needs_no_model_and_no_pool(make_run: MakeRun, tmp_path: Path) -> None:
    with FaultyOllama() as server:
        asked = {"hosts": [server.host]}
        run = make_run(rows=60, budget=5, history="h", slot="s", selector=f"ollama:{server.model}", ranking=asked)
        first = select(run)
    Path(run.pool).unlink()
    again = select(run.model_copy(update={"out": str(tmp_path / "out")}))
    assert again.table().equals(first.table())
    assert again.summary["artifacts"] == first.summary["artifacts"]
    assert again.summary["ranking"] == first.summary["ranking"] | {
        "asked": 0, "from_ledger": first.summary["ranking"]["asked"],
    }  # fmt: skip
    assert (tmp_path / "out" / "quarantine.parquet").is_file()


def test_a_run_in_conflict_ranks_missing_rows_and_chooses_again(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(rows=140, budget=12, history="h", slot="slow")
    commit = History.commit

    def overtaken(self: History, mine: Commit) -> Commit:
        monkeypatch.setattr(History, "commit", commit)
        select(run.model_copy(update={"slot": "quick"}))
        return commit(self, mine)

    monkeypatch.setattr(History, "commit", overtaken)
    slow = select(run).table()["id"].to_pylist()
    quick = select(run.model_copy(update={"slot": "quick"})).table()["id"].to_pylist()
    assert len(slow) == len(quick) == 12
    assert not set(quick) & set(slow)


def test_a_run_in_conflict_with_another_chooses_again(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(rows=140, budget=4, history="h", slot="slow")
    select(make_run(rows=140, budget=4, store=run.store))  # ranks all rows, so that the fast run needs no request
    whole = choose._chosen

    def while_another_runs(*arguments: object) -> object:
        table = whole(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(choose, "_chosen", whole)
        select(run.model_copy(update={"slot": "fast"}))
        return table

    monkeypatch.setattr(choose, "_chosen", while_another_runs)
    slow = ids(select(run))
    commits = History(Store(run.store), "h").commits()
    assert commits["slow"].after == ("fast",)
    assert set(slow).isdisjoint(commits["fast"].ids)
    assert len(slow) == 4


@pytest.mark.parametrize("place", ["local", "memory", "a disk without locks"])
def test_concurrent_runs_of_a_history_share_no_row(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = f"memory://{tmp_path}" if place == "memory" else str(tmp_path)
    if place == "a disk without locks":
        fcntl = pytest.importorskip("fcntl")

        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
    rows = [f"{n:032x}" for n in range(40)]

    def take_four(slot: int) -> None:
        history = History(Store(location), "h")
        while True:
            before = chosen_before(history.commits(), str(slot))
            taken = {id for commit in before for id in commit.ids}
            mine = [id for id in rows if id not in taken][:4]
            after = tuple(commit.slot for commit in before)
            try:
                history.commit(Commit(slot=str(slot), selection="k", budget=4, after=after, ids=tuple(mine)))
            except Conflict:
                continue
            return

    threads = [threading.Thread(target=take_four, args=(slot,)) for slot in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chosen = [id for commit in History(Store(location), "h").commits().values() for id in commit.ids]
    assert sorted(chosen) == rows


def test_an_unreadable_history_stops_the_run(make_run: MakeRun) -> None:
    run = make_run(rows=60, budget=5, history="h", slot="s")
    select(run)
    path = Path(run.store) / "v1" / "history" / "h" / "s.json"
    path.write_text("{half", encoding="utf-8")
    with pytest.raises(StoreError, match=r"s\.json cannot be read"):
        select(run.model_copy(update={"slot": "t"}))


@pytest.mark.parametrize("left", [b"", b"another's"])
def test_the_lock_of_a_dead_process_is_taken_over(left: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selectllm.store.locks.LEASE_SECONDS", 0.3)
    store = Store(f"memory://{tmp_path}")
    store.write_bytes("history/h/.lock", left)
    with store.lock("history/h"):
        store.write_bytes("history/h/.lock", b"taken over by another")
    assert store.read_bytes("history/h/.lock") == b"taken over by another", "only the owner removes the lock"


def test_waiting_for_a_lock_can_be_cancelled(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path}")
    store.write_bytes("history/h/.lock", b"another's")
    cancellation.cancel()
    with pytest.raises(Stopped), store.lock("history/h"):
        pass


def test_a_filled_slot_keeps_its_rows_when_an_abstention_is_answered_later(
    make_run: MakeRun, fake_model: Callable[..., FakeModel]
) -> None:
    """The next run asks a failed query again. It then ranks rows that had no rank."""
    lost = True

    def at_times(request: Request) -> str:
        if lost and len(request.shown) == 14 and min(request.shown) == first:
            raise TransientError("gone", "reset")
        return by_id(request)

    fake_model()
    run = make_run(rows=140, budget=5, history="h", slot="mon", ranking={"retries": 0, "max_abstained": 0.2})
    apart = select(run.model_copy(update={"store": run.store + " apart", "history": None, "slot": None}))
    first = min(apart.table()["id"].to_pylist())
    fake_model(at_times)
    before = ids(select(run))
    lost = False
    assert ids(select(run)) == before
    assert set(ids(select(run.model_copy(update={"history": None, "slot": None})))) != set(before)
    assert ids(select(run)) == before
    assert set(ids(select(run.model_copy(update={"slot": "tue"})))).isdisjoint(before)


def test_each_new_run_of_a_history_gets_its_own_slot(make_run: MakeRun) -> None:
    run = make_run(history="h")
    assert with_slot(run).slot != with_slot(run).slot
    assert with_slot(run, "given").slot == "given"
    assert with_slot(run.model_copy(update={"slot": "mine"}), "given").slot == "mine"
    assert with_slot(make_run()).slot is None


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 101, "a b", "a\n"])
def test_history_names_that_are_not_file_names_are_refused(name: str, make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="history"):
        make_run(history=name)


def test_a_slot_without_a_history_is_refused(make_run: MakeRun) -> None:
    with pytest.raises(ValueError, match="--slot needs --history"):
        make_run(slot="s")


def excluding(run: RunSettings, *files: Path) -> RunSettings:
    return run.model_copy(update={"exclude": tuple(map(str, files))})


def test_exclude_files_of_every_format_exclude_their_rows(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(rows=60, budget=6, out=str(tmp_path / "out"))
    first = select(run)
    chosen = ids(first)
    by_texts = [{"instruction": row["instruction"], "label": "done"} for row in first.table().to_pylist()]
    files = {
        "ids.txt": "\n".join(chosen),
        "annotations.jsonl": "\n".join(map(json.dumps, by_texts)),
        "ids.csv": "id\n" + "\n".join(chosen),
        "labels.json": json.dumps([{"id": id, "rating": 3} for id in chosen]),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    results = {
        name: select(excluding(run, tmp_path / name).model_copy(update={"out": None}))
        for name in (*files, "out/selection.parquet", "out/selection.jsonl")
    }
    for name, result in results.items():
        assert set(ids(result)).isdisjoint(chosen), name
        assert result.summary["selection"] == {"budget": 6, "selected": 6, "excluded": 6}
        assert set(result.table("excluded")["reason"].to_pylist()) == {f"named by {tmp_path / name}"}
    assert len({tuple(ids(result)) for result in results.values()}) == 1


def test_exclusion_does_not_change_pool_queries_or_ranks(
    make_run: MakeRun, fake_model: Callable[..., FakeModel], tmp_path: Path
) -> None:
    model = fake_model()
    run = make_run(rows=140, budget=3)
    first = select(run)
    (tmp_path / "x.txt").write_text("\n".join(ids(first)), encoding="utf-8")
    asked = len(model.asked)
    second = select(excluding(run, tmp_path / "x.txt"))
    same = {kind for kind, key in first.summary["artifacts"].items() if second.summary["artifacts"][kind] == key}
    assert same == {"pool", "quarantine", "embeddings", "queries", "rankings", "tournament", "preferences"}
    assert len(model.asked) == asked, "the same tier is cut, so its order is known"


def test_too_few_remaining_rows_are_an_error_before_any_request(
    make_run: MakeRun, fake_model: Callable[..., FakeModel], tmp_path: Path
) -> None:
    model = fake_model()
    all_rows = ids(select(make_run(rows=60, budget=60, selector="scripted:first")))
    (tmp_path / "x.txt").write_text("\n".join(all_rows[:50]), encoding="utf-8")
    asked = len(model.asked)
    with pytest.raises(UsageError, match=r"50 of the pool's 60 usable rows are excluded: choose at most 10"):
        select(excluding(make_run(rows=60, budget=11), tmp_path / "x.txt"))
    assert len(select(excluding(make_run(rows=60, budget=10), tmp_path / "x.txt")).table()) == 10
    assert asked <= len(model.asked)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "no ids here\n", "names no row"),
        ("x.csv", "a,b\n1,2\n", "names no row"),
        ("x.jsonl", "", "is empty"),
        ("missing.txt", None, "does not exist"),
    ],
)
def test_an_exclude_file_without_rows_is_an_error(
    name: str, content: str | None, message: str, make_run: MakeRun, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        select(excluding(make_run(), tmp_path / name))


def test_excluded_rows_outside_the_pool_cause_a_warning(
    make_run: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.txt").write_text("0" * 32, encoding="utf-8")
    assert select(excluding(make_run(), tmp_path / "x.txt")).summary["selection"]["excluded"] == 0
    assert "none of the rows" in caplog.text


def test_a_foreign_id_column_does_not_prevent_matching_by_text(make_run: MakeRun, tmp_path: Path) -> None:
    first = select(make_run())
    rows = [{"id": f"{n:032x}", "instruction": row["instruction"]} for n, row in enumerate(first.table().to_pylist())]
    (tmp_path / "done.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "bom.txt").write_text("\ufeff" + "\n".join(ids(first)), encoding="utf-8")
    for name in ("done.jsonl", "bom.txt"):
        assert select(excluding(make_run(), tmp_path / name)).summary["selection"]["excluded"] == 5


def test_a_store_works_in_a_folder_with_brackets(make_run: MakeRun) -> None:
    run = make_run(store=make_run().store + "/data [2024]*")
    assert set(select(run).summary["cached"]) == set()
    again = select(run)
    assert set(again.summary["cached"]) == set(again.summary["seconds"])


def write_chats(path: Path, rows: int) -> None:
    """Chats of two user turns, the first of which have one request in common."""
    turns = [("user", "Name a river."), ("assistant", "The Rhine."), ("user", "Say more of it, number {}.")]
    chats = [[{"role": role, "content": text.format(row)} for role, text in turns] for row in range(rows)]
    chats[0] = chats[0][:1]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), encoding="utf-8")


def test_a_history_of_chats_known_by_their_first_turn_is_refused(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chats(tmp_path / "chats.jsonl", rows=8)
    run = make_run(budget=1, history="chats", pool=str(tmp_path / "chats.jsonl"), strategy="longest", out=str(tmp_path))
    of_first_turns = {"columns": run.columns.model_copy(update={"turn": "first"})}
    with monkeypatch.context() as earlier:
        earlier.setattr(read_pool, "CODE_VERSION", 2)
        select(run.model_copy(update=of_first_turns))
    write_chats(tmp_path / "chats.jsonl", rows=7)
    assert ids(select(run.model_copy(update={"budget": 2})))
    (tmp_path / "chats.jsonl").write_text((tmp_path / "chats.jsonl").read_text().split("\n", 1)[1])
    with pytest.raises(UsageError, match=r"the history 'chats' holds chats that an earlier version knew .* --exclude"):
        select(run)


def test_an_earlier_selection_of_chats_names_its_rows_by_their_conversations(make_run: MakeRun, tmp_path: Path) -> None:
    write_chats(tmp_path / "chats.jsonl", rows=3)
    chat = (tmp_path / "chats.jsonl").read_text().splitlines()[1]
    (tmp_path / "earlier.jsonl").write_text(json.dumps({"instruction": "Name a river.", **json.loads(chat)}))
    pool, earlier = str(tmp_path / "chats.jsonl"), str(tmp_path / "earlier.jsonl")
    run = make_run(budget=1, pool=pool, strategy="longest", exclude=(earlier,))
    assert select(run).summary["selection"]["excluded"] == 2, "the chat, and the request that it was known by"
