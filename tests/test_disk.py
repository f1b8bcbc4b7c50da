"""A full or read-only disk ends a run with one clear line. With space again, the next run continues."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from selectllm.testing.faulty_ollama import FaultyOllama
from tests.boundaries import Blow
from tests.campaign import (
    CONCURRENCY,
    DELAY,
    PLACES,
    Ended,
    Scene,
    Undisturbed,
    check_goes_on,
    short,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to find the file of a handle")

LARGE = "64m"
OPENING = [(f"opening {place}", 1) for place in PLACES]
LOSSES = [
    *((f"opened {place}", 1) for place in PLACES),
    *((f"half written {place}", 2) for place in ("replies", "rankings.json", "out")),
]


@pytest.fixture
def server() -> Iterator[FaultyOllama]:
    with FaultyOllama(delay=DELAY, parallel=CONCURRENCY) as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a separate disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def check_failed(run: Ended, why: str) -> None:
    """Check that a run ended with one line that says why and what to do."""
    assert run.code == 1
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("selectllm: ")
    assert why in run.stderr
    assert "Free space or mend permissions, then run again" in run.stderr or "The selection is kept" in run.stderr


REFUSALS: dict[Blow, str] = {"lose space": "No space left on device", "lose rights": "Read-only file system"}


@pytest.mark.parametrize("blow", REFUSALS)
@pytest.mark.parametrize(("moment", "nth"), short(16, LOSSES))
def test_a_run_reports_refused_writes_and_can_continue(
    moment: str, nth: int, blow: Blow, tmp_path: Path, server: FaultyOllama, undisturbed: Undisturbed
) -> None:
    """Works on any machine: the error of the disk is simulated."""
    scene = Scene(tmp_path, server)
    check_failed(scene.run(moment, nth, blow), REFUSALS[blow])
    assert not scene.temporaries() or blow == "lose rights", "files can be removed from a full disk"
    check_goes_on(scene, undisturbed, failures=1)


@pytest.mark.parametrize(("moment", "nth"), short(16, LOSSES))
def test_a_run_on_a_disk_that_fills_up_can_continue(
    moment: str, nth: int, disk: Path, tmp_path: Path, server: FaultyOllama, undisturbed: Undisturbed
) -> None:
    scene, filler = Scene(tmp_path, server, disk=disk), disk / "filler"
    check_failed(scene.run(moment, nth, "fill", filler=str(filler)), "No space left on device")
    check_failed(scene.run(), "No space left on device")
    assert scene.temporaries() == []
    filler.unlink()
    check_goes_on(scene, undisturbed, failures=2)


@pytest.mark.parametrize("share", [pytest.param(n / 10, marks=[pytest.mark.slow] * (n != 5)) for n in range(1, 10)])
def test_a_run_on_a_disk_that_is_too_small_can_continue(
    share: float, disk: Path, tmp_path: Path, server: FaultyOllama, undisturbed: Undisturbed
) -> None:
    scene = Scene(tmp_path, server, disk=disk)
    remount(disk, f"size={4096 * round(undisturbed.pages * share)}")
    check_failed(scene.run(), "No space left on device")
    assert scene.temporaries() == []
    remount(disk, f"size={LARGE}")
    check_goes_on(scene, undisturbed, failures=1)


@pytest.mark.parametrize(("moment", "nth"), short(12, OPENING))
def test_a_run_on_a_disk_that_becomes_read_only_can_continue(
    moment: str, nth: int, disk: Path, tmp_path: Path, server: FaultyOllama, undisturbed: Undisturbed
) -> None:
    scene = Scene(tmp_path, server, disk=disk)
    check_failed(scene.run(moment, nth, "remount", filler=str(disk)), "Read-only file system")
    again = scene.run()
    assert again.code == 2, "the output folder is checked first"
    assert "may not be written to" in again.stderr
    assert not again.questions
    remount(disk, "rw")
    check_goes_on(scene, undisturbed, failures=1)
