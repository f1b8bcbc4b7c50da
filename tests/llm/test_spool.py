import gc
import threading
import warnings

import pytest

from selectllm.errors import StoreError
from selectllm.llm import spool
from selectllm.llm.spool import Spool


@pytest.mark.parametrize("in_memory", [10, 1 << 20])
def test_lines_are_read_as_they_were_added_by_any_thread(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", in_memory)
    kept, lines = Spool(), [b"%d\n" % number * (number % 7) for number in range(500)]
    found = list[list[bytes]]()

    def work() -> None:
        starts = [kept.add(line) for line in lines]
        found.append([kept.read(start, len(line)) for start, line in zip(starts, lines, strict=True)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [lines] * 4


def test_the_file_is_closed_with_the_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = Spool()
        kept.add(b"a line that is longer than that\n")
        file = kept._file
        del kept
        gc.collect()
    assert file.closed
    assert not caught


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **_others: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "IN_MEMORY", 10)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(StoreError, match=r"No space left on device.*TMPDIR"):
        Spool().add(b"a line that is longer than that\n")


def test_a_disk_that_is_found_full_when_a_buffer_is_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY", 10)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "w+b"))  # noqa: SIM115
    kept = Spool()
    with pytest.raises(StoreError, match=r"No space left on device.*TMPDIR"):
        kept.add(b"a line that is longer than that\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del kept
        gc.collect()
