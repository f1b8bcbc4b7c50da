"""The ledger where no file can be added to: small files become larger ones, and no reply is lost on the way."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from selectllm.errors import StoreError
from selectllm.llm import ledger_parts
from selectllm.llm.ledger import Ledger
from selectllm.llm.ledger_lines import Entry, Retraction
from selectllm.llm.ledger_parts import Part, is_held, merge, merged_name, parts_of, read_lines
from selectllm.llm.model import ModelInfo, Reply, Request
from selectllm.store import Store

INFO = ModelInfo("fake", "fake", "digest", "1", "model", "listwise")
FOLDER = f"replies/{INFO.key}"


class Killed(BaseException):
    """What stands for a kill: nothing catches it."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of which no file can be added to."""
    yield Store(f"memory://{tmp_path}")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have four groups be many."""
    monkeypatch.setattr(ledger_parts, "MOST_PARTS", 4)


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every other writer for dead."""
    monkeypatch.setattr("selectllm.llm.ledger.LEFT_SECONDS", -60.0)


def request(number: int) -> Request:
    return Request(f"question {number}", shown=("a",))


def entry(number: int) -> Entry:
    return Entry(request(number).key(INFO), 0, "", "digest", ("a",), 0, 0, "", Reply(f"reply {number}", "stop", 7))


async def add(ledger: Ledger, numbers: range) -> None:
    """Add replies one after the other, so that each is a group of its own."""
    for number in numbers:
        await ledger.add(request(number), INFO, Reply(f"reply {number}", "stop", 7))
    await ledger._drain()  # merging goes on when replies are durable


def known(ledger: Ledger, numbers: range) -> list[int]:
    """The numbers whose reply the ledger has, as it was given."""
    entries = {number: ledger.get(request(number).key(INFO)) for number in numbers}
    return [number for number, entry in entries.items() if entry and entry.reply.text == f"reply {number}"]


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int, *, is_done: bool) -> None:
    """Die at the step-th write or removal of a file, before or after it is done."""
    count = 0

    def dying(method: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            nonlocal count
            count += 1
            if count > step:
                raise Killed  # the dead do no more
            if count == step and not is_done:
                raise Killed
            method(*arguments)
            if count == step:
                raise Killed

        return call

    for name in ("write_bytes", "remove_file"):
        monkeypatch.setattr(Store, name, dying(getattr(Store, name)))


@pytest.mark.usefixtures("few")
def test_files_do_not_grow_with_the_replies(store: Store) -> None:
    ledger, most = Ledger(store, INFO), 0
    for number in range(300):
        asyncio.run(add(ledger, range(number, number + 1)))
        most = max(most, len(store.list(FOLDER)))
    assert most <= 4 + 8  # alone, and merged ones of which each is smaller than the one before
    assert known(ledger, range(301)) == known(Ledger(store, INFO), range(301)) == list(range(300))
    asyncio.run(ledger.close())
    assert known(Ledger(store, INFO), range(301)) == list(range(300))
    lines = [line for name in store.list(FOLDER) for line in store.lines(name)]
    assert len(lines) == 300, "every reply is kept once"


@pytest.mark.usefixtures("few")
def test_a_ledger_that_is_open_does_not_read_again_what_was_merged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, other = Ledger(store, INFO), Ledger(store, INFO)
    for number in range(30):
        asyncio.run(add(ledger, range(number, number + 1)))
        other.refresh()
    read = list[str]()
    lines = Store.lines
    monkeypatch.setattr(Store, "lines", lambda store, name, start=0: (read.append(name), lines(store, name, start))[1])
    asyncio.run(ledger.close())
    other.refresh()
    assert read == []
    assert known(other, range(31)) == list(range(30))
    asyncio.run(add(ledger, range(30, 38)))
    other.refresh()
    assert known(other, range(39)) == list(range(38))


def test_a_run_that_ends_leaves_one_file(store: Store) -> None:
    ledger = Ledger(store, INFO)
    asyncio.run(add(ledger, range(10)))
    assert len(store.list(FOLDER)) == 10
    asyncio.run(ledger.close())
    assert len(store.list(FOLDER)) == 1
    asyncio.run(add(ledger, range(10, 11)))
    asyncio.run(ledger.close())
    assert known(Ledger(store, INFO), range(12)) == list(range(11))


@pytest.mark.usefixtures("few", "no_wait")
@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("step", range(1, 24))
def test_a_kill_at_any_step_loses_no_durable_reply(
    store: Store, step: int, is_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, durable, number = Ledger(store, INFO), 0, 0
    with monkeypatch.context() as patch, suppress(Killed):
        killed_at(patch, step, is_done=is_done)
        for number in range(20):
            ledger._append_and_refresh([entry(number)])
            durable = number + 1
            ledger._merge_many()
    assert number < 19, "it was killed"
    assert set(range(durable)) <= set(known(Ledger(store, INFO), range(20)))
    later = Ledger(store, INFO)  # which merges what the dead one left
    asyncio.run(add(later, range(100, 101)))
    asyncio.run(later.close())
    assert set(range(durable)) <= set(known(Ledger(store, INFO), range(20)))
    assert len(store.list(FOLDER)) <= 4
    lines = [line for name in store.list(FOLDER) for line in store.lines(name)]
    assert len(lines) == len(set(lines)), "what was merged is not kept beside it"


@pytest.mark.usefixtures("few", "no_wait")
def test_a_writer_that_was_taken_for_dead_goes_on(store: Store) -> None:
    slow, other = Ledger(store, INFO), Ledger(store, INFO)
    asyncio.run(add(slow, range(3)))
    asyncio.run(add(other, range(100, 101)))
    assert len(store.list(FOLDER)) == 2, "the three are one"
    asyncio.run(add(slow, range(3, 20)))
    asyncio.run(slow.close())
    assert known(Ledger(store, INFO), range(101)) == [*range(20), 100]


@pytest.mark.usefixtures("few")
def test_a_writer_that_may_be_alive_is_left_alone(store: Store) -> None:
    alive, other = Ledger(store, INFO), Ledger(store, INFO)
    asyncio.run(add(alive, range(3)))
    asyncio.run(add(other, range(100, 101)))
    asyncio.run(other.close())
    assert len(store.list(FOLDER)) == 4


@pytest.mark.usefixtures("few")
def test_two_writers_merge_at_the_same_time(store: Store) -> None:
    async def run() -> None:
        first, second = Ledger(store, INFO), Ledger(store, INFO)
        await asyncio.gather(add(first, range(40)), add(second, range(20, 60)))
        await asyncio.gather(first.close(), second.close())
        entries = [[ledger.get(request(n).key(INFO)) for n in range(60)] for ledger in (Ledger(store, INFO),) * 2]
        assert entries[0] == entries[1]

    asyncio.run(run())
    assert known(Ledger(store, INFO), range(61)) == list(range(60))
    assert len(store.list(FOLDER)) <= 8


def test_what_is_merged_between_listing_and_reading_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(store, INFO)
    asyncio.run(add(ledger, range(6)))
    sizes, names = Store.sizes, Store.list

    def merged_after(listing: Callable[..., Any]) -> Callable[..., Any]:
        def call(store: Store, folder: str) -> Any:
            found = listing(store, folder)
            merge(store, folder, parts_of(sizes(store, folder))[ledger._writer])
            return found

        return call

    content = {line for name in store.list(FOLDER) for line in store.lines(name)}
    monkeypatch.setattr(Store, "sizes", merged_after(sizes))
    assert known(Ledger(store, INFO), range(7)) == list(range(6))
    monkeypatch.setattr(Store, "sizes", sizes)
    asyncio.run(add(ledger, range(6, 8)))
    monkeypatch.setattr(Store, "list", merged_after(names))
    lines = list(read_lines(store, FOLDER))
    assert content < set(lines)
    assert len(set(lines)) == 8


def test_files_that_are_listed_and_gone_end_in_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(add(Ledger(store, INFO), range(1)))
    monkeypatch.setattr(Store, "lines", lambda *_: (_ for _ in ()).throw(FileNotFoundError))
    with pytest.raises(StoreError, match="names files that are gone"):
        Ledger(store, INFO)
    with pytest.raises(StoreError, match="names files that are gone"):
        list(read_lines(store, FOLDER))


@pytest.mark.usefixtures("few")
def test_without_a_right_to_remove_files_replies_are_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_store: Store, _name: str) -> None:
        raise StoreError("access denied")

    monkeypatch.setattr(Store, "remove_file", refused)
    ledger = Ledger(store, INFO)
    with caplog.at_level(logging.WARNING, "selectllm"):
        asyncio.run(add(ledger, range(20)))
        asyncio.run(ledger.close())
    assert [record.message for record in caplog.records] == [
        "small files of replies are not merged, so that each look at them takes longer: access denied"
    ]
    assert known(Ledger(store, INFO), range(21)) == list(range(20))


@pytest.mark.usefixtures("few")
def test_a_retraction_holds_after_it_was_merged(store: Store) -> None:
    ledger = Ledger(store, INFO)
    asyncio.run(add(ledger, range(3)))
    keys = tuple(request(number).key(INFO) for number in (0, 2))
    asyncio.run(ledger.retract(keys, 0))
    asyncio.run(add(ledger, range(3, 12)))
    asyncio.run(ledger.close())
    expected = [1, *range(3, 12)]
    assert known(ledger, range(12)) == known(Ledger(store, INFO), range(12)) == expected
    reader = Ledger(store, INFO)
    asyncio.run(add(reader, range(2, 3)))
    assert 2 in known(Ledger(store, INFO), range(12)), "a later reply counts"
    assert [len(known) for known in reader._retracted.values()] == [1, 1]
    assert all(isinstance(one, Retraction) for known in reader._retracted.values() for one in known)


def test_a_group_whose_writing_failed_is_not_written_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may have it: a connection can end after the file is whole and before the store says so."""
    write = Store.write_bytes

    def lost(store: Store, name: str, content: bytes) -> None:
        write(store, name, content)
        raise StoreError("the connection was lost")

    ledger = Ledger(store, INFO)
    monkeypatch.setattr(Store, "write_bytes", lost)
    with pytest.raises(StoreError, match="connection was lost"):
        asyncio.run(add(ledger, range(1)))
    monkeypatch.setattr(Store, "write_bytes", write)
    asyncio.run(add(ledger, range(1, 3)))
    asyncio.run(ledger.close())
    assert known(Ledger(store, INFO), range(3)) == [0, 1, 2]


def test_a_group_that_arrives_late_is_not_taken_for_merged(store: Store) -> None:
    folder, writer = "replies/model", f"{1:020d}-00000000"

    def add(group: int) -> None:
        store.write_bytes(f"{folder}/{writer}-{group:06d}.jsonl", b"group %d\n" % group)

    for group in (0, 1, 3, 4):  # the writing of 2 seemed to fail
        add(group)
    merge(store, folder, parts_of(store.sizes(folder))[writer])
    add(2)
    for _ in range(2):
        merge(store, folder, parts_of(store.sizes(folder))[writer])
    assert set(read_lines(store, folder)) == {b"group %d\n" % group for group in range(5)}


def test_files_on_a_disk_are_not_merged(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for number in range(3):
        ledger = Ledger(store, INFO)
        asyncio.run(add(ledger, range(number, number + 1)))
        asyncio.run(ledger.close())
    assert len(store.list(FOLDER)) == 3


def part(last: int, count: int, size: int = 1) -> Part:
    return Part(merged_name("w", last, count), "w", last, count, size)


def test_a_merged_part_comes_after_all_that_it_holds_in_a_listing() -> None:
    writer = "0" * 20 + "-" + "a" * 8
    held = [f"{writer}-{number:06d}.jsonl" for number in range(100)]
    merged = merged_name(writer, 99, 100)
    larger = merged_name(writer, 99, 200)
    assert max([*held, merged]) == merged
    assert max(merged, larger) == larger
    assert [one.name for one in parts_of(dict.fromkeys([larger, *held, "x.jsonl", merged], 1))[writer]][-2:] == [
        merged,
        larger,
    ]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], False),
        ([part(9, 10)], False),  # itself
        ([part(n, 1) for n in range(10)], True),
        ([part(n, 1) for n in range(1, 10)], False),
        ([part(n, 1) for n in range(10) if n != 5], False),
        ([part(4, 5), part(9, 5)], True),
        ([part(6, 7), part(9, 5)], True),
        ([part(99, 100)], True),
    ],
)
def test_a_part_is_held_when_each_of_its_groups_is(others: list[Part], expected: bool) -> None:
    assert is_held(part(9, 10), others) is expected


def test_no_merged_part_grows_without_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_parts, "MERGED_BYTES", 2000)
    ledger = Ledger(store, INFO)
    asyncio.run(add(ledger, range(100)))
    asyncio.run(ledger.close())
    sizes = store.sizes(FOLDER)
    assert max(sizes.values()) <= 2 * 2000
    assert len(sizes) <= sum(sizes.values()) / 1000
    assert known(Ledger(store, INFO), range(101)) == list(range(100))


@pytest.mark.parametrize("after", [3, 10, 25])
def test_a_process_that_is_killed_while_it_merges_loses_no_durable_reply(after: int, tmp_path: Path) -> None:
    program = f"""
import asyncio
from selectllm.llm import ledger_parts
from tests.llm.test_ledger_parts import INFO, Ledger, Store, add

async def run():
    ledger = Ledger(Store("dir::file://{tmp_path}"), INFO)
    for number in range(10_000):
        await add(ledger, range(number, number + 1))
        print(number, flush=True)

ledger_parts.MOST_PARTS = 4
asyncio.run(run())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) == after:
                process.kill()
                break
        durable = [int(line) for line in process.stdout.read().split("\n")[:-1]]
    store, last = Store(f"dir::file://{tmp_path}"), max(durable, default=after)
    assert set(range(last + 1)) <= set(known(Ledger(store, INFO), range(last + 10)))
