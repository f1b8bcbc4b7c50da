import asyncio
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import fsspec
import pytest

from selectllm.errors import ModelChanged, StoreError
from selectllm.llm.ledger import Ledger
from selectllm.llm.ledger_lines import Retraction, note_end
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.store import Store

INFO = ModelInfo("fake", "fake", "digest", "1", "model", "listwise")
OTHER = ModelInfo("fake", "fake", "other digest", "1", "model", "listwise")


def request(text: str, **fields: Any) -> Request:
    return Request(
        text, shown=("a",), question="query 17, pass 2", describe=lambda reply: f"it is {reply.text}", **fields
    )


def add(store: Store, texts: list[str], answer: str = "yes") -> Ledger:
    async def run() -> Ledger:
        ledger = Ledger(store, INFO)
        await asyncio.gather(*(ledger.add(request(text), INFO, Reply(answer, "stop", 7)) for text in texts))
        return ledger

    return asyncio.run(run())


def files(store: Store) -> list[str]:
    return store.list(f"replies/{INFO.key}")


@pytest.mark.parametrize("location", ["{tmp}/store", "memory://ledger"])
def test_replies_are_found_by_every_later_ledger(location: str, tmp_path: Path) -> None:
    store = Store(location.format(tmp=tmp_path))
    add(store, ["one", "two"])
    later = Ledger(store, INFO)
    entry = later.get(request("one").key(INFO))
    assert entry is not None
    assert entry.reply == Reply("yes", "stop", 7)
    assert (entry.shown, entry.model, entry.outcome) == (("a",), "digest", "it is yes")
    assert later.get(request("three").key(INFO)) is None
    assert len(Ledger(store, OTHER)._entries) == 0


@pytest.mark.parametrize("location", ["{tmp}/store", "memory://ends"])
def test_replies_of_before_the_last_end_may_be_asked_for_again(location: str, tmp_path: Path) -> None:
    store = Store(location.format(tmp=tmp_path))
    add(store, ["one"])
    note_end(store, INFO)
    ledger = add(store, ["two"])
    note_end(store, INFO)  # of another run: it changes nothing for a ledger that is open
    old, new = (ledger.get(request(text).key(INFO)) for text in ("one", "two"))
    assert old is not None
    assert new is not None
    assert [ledger.may_ask_again(entry) for entry in (old, new)] == [True, False]
    later, other = Ledger(store, INFO), Ledger(store, OTHER)
    assert [later.may_ask_again(entry) for entry in (old, new)] == [True, True]
    assert not other.may_ask_again(old)
    assert len(later._entries) == 2


def test_with_reask_all_replies_so_far_may_be_asked_for_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    add(store, ["one"])
    entry = Ledger(store, INFO).get(request("one").key(INFO))
    assert entry is not None
    assert not Ledger(store, INFO).may_ask_again(entry)
    assert Ledger(store, INFO, reask=True).may_ask_again(entry)


def test_every_ledger_line_names_its_question(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    add(store, ["one", "two"])
    lines = [json.loads(line) for line in Path(store.address(files(store)[0])).read_bytes().splitlines()]
    assert [line["question"] for line in lines] == ["query 17, pass 2"] * 2


def test_replies_of_one_ledger_share_a_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    add(store, [str(number) for number in range(200)])
    assert len(files(store)) == 1
    assert len(Ledger(store, INFO)._entries) == 200


def test_a_complete_line_without_a_newline_is_read(tmp_path: Path) -> None:
    """A full disk can cut the newline. The reply is complete and paid for."""
    store = Store(str(tmp_path))
    add(store, ["one", "two"])
    path = Path(store.address(files(store)[0]))
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert len(Ledger(store, INFO)._entries) == 2
    path.write_bytes(path.read_bytes()[:-1])
    assert len(Ledger(store, INFO)._entries) == 1


def test_a_torn_line_is_skipped_and_other_lines_are_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    add(store, ["one", "two"])
    path = Path(store.address(files(store)[0]))
    path.write_bytes(path.read_bytes() + b'{"key": "torn')
    assert len(Ledger(store, INFO)._entries) == 2
    path.write_bytes(path.read_bytes()[:-40] + b"\n[1]\nnull\n\xff\n")
    assert len(Ledger(store, INFO)._entries) >= 1


def test_an_open_ledger_on_a_disk_does_not_hold_its_replies(tmp_path: Path) -> None:
    store, size = Store(str(tmp_path)), 1_000_000
    texts = [str(number) for number in range(20)]
    add(store, texts, "y" * size)
    tracemalloc.start()
    try:
        ledger = Ledger(store, INFO)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    entries = [ledger.get(request(text).key(INFO)) for text in texts]
    assert [len(entry.reply.text) for entry in entries if entry] == [size] * len(texts)
    assert held < 2 * size


def test_a_file_of_replies_that_is_gone_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ledger = add(store, ["one"])
    path = Path(store.address(files(store)[0]))
    path.unlink()
    with pytest.raises(StoreError, match=f"{path.name} is gone"):
        ledger.get(request("one").key(INFO))


def test_a_file_of_replies_that_is_rewritten_under_an_open_ledger_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ledger = add(store, ["one", "two"])
    path = Path(store.address(files(store)[0]))
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    for text in ("one", "two"):
        with pytest.raises(StoreError, match=f"{path.name} was altered"):
            ledger.get(request(text).key(INFO))
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(StoreError, match=f"{path.name} was altered"):
        ledger.latest_replies()


def test_files_of_replies_that_lie_elsewhere_behind_links_are_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    add(store, ["one"])
    path = Path(store.address(files(store)[0]))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert Ledger(store, INFO).get(request("one").key(INFO)) is not None


def test_the_earlier_of_two_replies_is_used_everywhere(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    add(store, ["one"], "first")

    async def late() -> str:
        ledger = Ledger(store, OTHER)  # opened before the first reply was stored
        ledger._folder = f"replies/{INFO.key}"
        return (await ledger.add(request("one"), INFO, Reply("second", "stop"))).reply.text

    asyncio.run(late())
    assert len(files(store)) == 2
    entry = Ledger(store, INFO).get(request("one").key(INFO))
    assert entry is not None
    assert entry.reply.text == "first"


def test_a_reply_that_cannot_be_stored_fails_all_waiting_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        add(Store(str(tmp_path)), ["one", "two"])


def test_any_model_text_is_stored_unchanged(tmp_path: Path) -> None:
    text = "na\u00efve \u2028 \n \ud83d \x00"  # with a lone surrogate: JSON can contain it, UTF-8 cannot
    store = Store(str(tmp_path))
    add(store, ["one"], text)
    (line,) = Path(store.address(files(store)[0])).read_bytes().splitlines()
    assert json.loads(line)["reply"]["text"] == text
    entry = Ledger(store, INFO).get(request("one").key(INFO))
    assert entry is not None
    assert entry.reply.text == text


@pytest.mark.parametrize("change", [{"seed": 1}, {"attempt": 1}])
def test_a_ledger_key_depends_only_on_what_decides_the_reply(change: dict[str, int]) -> None:
    same = request("one").key(INFO) == request("one", **change).key(INFO)
    assert same is (change == {"attempt": 1})
    assert request("one").key(INFO) != request("one").key(OTHER)


def teardown_module() -> None:
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("location", ["{tmp}/store", "memory://{tmp}"])
def test_two_concurrent_runs_use_the_first_stored_reply(location: str, tmp_path: Path) -> None:
    store = Store(location.format(tmp=tmp_path))

    async def run() -> None:
        first_ledger, second_ledger = Ledger(store, INFO), Ledger(store, INFO)
        asked = request("one")
        first = await first_ledger.add(asked, INFO, Reply("first", "stop", 7))
        second = await second_ledger.add(asked, INFO, Reply("second", "stop", 7))
        assert first.reply.text == second.reply.text == "first"
        await first_ledger.add(request("two"), INFO, Reply("theirs", "stop", 7))
        await second_ledger.add(request("three"), INFO, Reply("ours", "stop", 7))
        known = second_ledger.get(request("two").key(INFO))
        assert known is not None, "replies of another run are not requested again"
        assert known.reply.text == "theirs"

    asyncio.run(run())


def test_a_retracted_reply_counts_no_more_in_any_order_of_files(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    add(store, ["before"])
    since = time.time_ns()
    add(store, ["one", "two"])
    ledger = Ledger(store, INFO)
    keys = [request(text).key(INFO) for text in ("before", "one", "two")]
    asyncio.run(ledger.retract(keys, since))
    expected = [True, False, False]
    assert [ledger.get(key) is not None for key in keys] == expected
    assert [Ledger(store, INFO).get(key) is not None for key in keys] == expected
    for name in files(store):
        if b"retracted" in (content := store.read_bytes(name)):
            store.write_bytes(f"replies/{INFO.key}/00-first.jsonl", content)
            store.remove_file(name)
    assert [Ledger(store, INFO).get(key) is not None for key in keys] == expected
    add(store, ["one"])
    assert Ledger(store, INFO).get(keys[1]), "a later reply counts"


def test_a_reply_that_another_run_retracts_at_once_ends_the_run_as_a_changed_model_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, append = Store(str(tmp_path)), Ledger._append

    def append_and_retract(ledger: Ledger, entries: Any) -> None:
        append(ledger, entries)
        append(Ledger(store, INFO), [Retraction((request("one").key(INFO),), 0)])

    monkeypatch.setattr(Ledger, "_append", append_and_retract)
    with pytest.raises(ModelChanged, match="fake is another model by now, as another run has found"):
        add(store, ["one"])


@pytest.mark.parametrize(
    "line",
    [
        b'{"retracted":["a',
        b'{"retracted":["a"]}',
        b'{"retracted":1,"since":0,"at":1}',
        b'{"retracted":[],"since":[],"at":1}',
    ],
)
def test_a_damaged_retraction_is_passed_over(line: bytes, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    add(store, ["one"])
    store.write_bytes(f"replies/{INFO.key}/zz-damaged.jsonl", line + b"\n")
    assert Ledger(store, INFO).get(request("one").key(INFO)) is not None
