"""A run killed at any moment continues: no file is corrupt, no reply is paid twice, and the selection is the same."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selectllm.store.files import STALE_SECONDS
from selectllm.testing.faulty_ollama import FaultyOllama
from tests.boundaries import Blow
from tests.campaign import (
    ARTIFACTS,
    BY_TIERS,
    CONCURRENCY,
    DELAY,
    STOPPED,
    Scene,
    Undisturbed,
    check_goes_on,
    short,
    undisturbed_run,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to find the file of a handle")

Moment = tuple[str, int]

WRITING = ("opened", "half written", "not synced", "synced", "not renamed", "renamed")
"""The phases of writing a file into the store."""

MOMENTS: list[Moment] = [
    *((f"{what} {place}", 1) for n, place in enumerate(ARTIFACTS) for what in (WRITING[n % 6], WRITING[(n + 3) % 6])),
    *((f"{what} {place}", 2) for what, place in (("renamed", "rankings.parquet"), ("half written", "rankings.json"))),
    *((f"{what} replies", 3 * n + 1) for n in range(3) for what in ("opened", "half written", "not synced", "synced")),
    *((f"{what} {place}", 1) for place in ("vectors", "history", "runs", "latest") for what in WRITING[1::4]),
    *((f"{what} out", n + 1) for n in range(4) for what in ("half written", "not renamed", "renamed")),
    *((f"{when} embedder", 1) for when in ("before", "after")),
]
"""The last event, its place, and its count."""

VALIDATED_MOMENTS: list[Moment] = [("half written verdicts", 1), ("renamed verdicts", 2), ("not renamed verdicts", 3)]


@pytest.fixture
def server() -> Iterator[FaultyOllama]:
    with FaultyOllama(delay=DELAY, parallel=CONCURRENCY) as server:
        yield server


@pytest.fixture
def scene(tmp_path: Path, server: FaultyOllama) -> Scene:
    return Scene(tmp_path, server)


@pytest.mark.parametrize(
    ("validated", "moments"),
    [(False, MOMENTS), pytest.param(True, MOMENTS + VALIDATED_MOMENTS, marks=pytest.mark.slow)],
)
def test_the_kill_moments_cover_every_place_that_a_run_writes_to(
    validated: bool, moments: list[Moment], tmp_path: Path, server: FaultyOllama
) -> None:
    run = Scene(tmp_path, server, validated=validated).run()
    came = {moment for moment in run.moments if moment.split()[-1] not in ("store", "artifacts")}
    assert {moment.split()[-1] for moment, _ in moments} == {moment.split()[-1] for moment in came}
    assert {moment for moment, _ in moments} <= came


@pytest.mark.parametrize(("moment", "nth"), short(20, MOMENTS))
def test_a_run_killed_at_any_moment_continues(moment: str, nth: int, scene: Scene, undisturbed: Undisturbed) -> None:
    dead = scene.run(moment, nth)
    assert dead.code == -signal.SIGKILL
    assert dead.moments[-1] == moment or "replies" in moment
    check_goes_on(scene, undisturbed, deaths=1)


@pytest.mark.parametrize(
    ("moment", "nth"), short(5, [(f"{what} tournament.{end}", 1) for what in WRITING for end in ("parquet", "json")])
)
def test_a_run_by_tiers_that_is_killed_while_storing_a_tournament_continues(
    moment: str, nth: int, scene: Scene
) -> None:
    scene.more = BY_TIERS
    assert scene.run(moment, nth).code == -signal.SIGKILL
    check_goes_on(scene, undisturbed_run(BY_TIERS), deaths=1)


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "nth"), VALIDATED_MOMENTS)
def test_a_run_killed_while_storing_a_verdict_continues(
    moment: str, nth: int, tmp_path: Path, server: FaultyOllama, undisturbed: Undisturbed
) -> None:
    scene = Scene(tmp_path, server, validated=True)
    assert scene.run(moment, nth).code == -signal.SIGKILL
    check_goes_on(scene, undisturbed, deaths=1)


@pytest.mark.parametrize("arrived", [pytest.param(n, marks=pytest.mark.slow) for n in (1, 4, 13, 27, 39, 45)] + [20])
def test_a_run_killed_during_requests_continues(arrived: int, tmp_path: Path, undisturbed: Undisturbed) -> None:
    with FaultyOllama(delay=0.1, parallel=CONCURRENCY) as server:
        scene = Scene(tmp_path, server)
        run = scene.begin()
        scene.wait_for(lambda server: len(server.asked) >= arrived, run)
        run.signal(signal.SIGKILL)
        assert run.end().code == -signal.SIGKILL
        check_goes_on(scene, undisturbed, deaths=1)


def test_a_run_killed_repeatedly_continues(scene: Scene, undisturbed: Undisturbed) -> None:
    for moment in ("synced replies", "half written replies", "not synced replies", "opened replies", "synced replies"):
        kept = scene.kept()
        dead = scene.run(moment, 2 if moment != "opened replies" else 1)
        assert dead.code == -signal.SIGKILL
        assert not kept & set(dead.questions)
        assert scene.faults() == []
    check_goes_on(scene, undisturbed, deaths=5)


@pytest.mark.slow
def test_a_run_killed_while_replies_wait_for_a_slow_disk_continues(scene: Scene, undisturbed: Undisturbed) -> None:
    assert scene.run("not synced replies", 2, fsync_seconds=0.1).code == -signal.SIGKILL
    check_goes_on(scene, undisturbed, deaths=1)


def test_only_old_temporary_files_are_removed(scene: Scene, undisturbed: Undisturbed) -> None:
    places = ("pool.json", "vectors", "rankings.parquet", "history", "latest", "out")
    for place in places:
        assert scene.run(f"half written {place}").code == -signal.SIGKILL
    left = scene.temporaries()
    assert len(left) == len(places)
    check_goes_on(scene, undisturbed, deaths=len(places))
    assert scene.temporaries() == left, "recent temporary files may still be in use"
    for path in left:
        os.utime(path, (time.time() - 2 * STALE_SECONDS,) * 2)
    assert scene.run().code == 0
    assert scene.temporaries() == []
    assert scene.faults() == []


def test_a_file_is_durable_before_it_is_renamed(tmp_path: Path, server: FaultyOllama) -> None:
    """A killed process loses no written data. A machine without power loses data that was not synced."""
    moments = [moment for moment in Scene(tmp_path, server).run().moments if "making folder" not in moment]
    for n, moment in enumerate(moments):
        what, _, place = moment.rpartition(" ")
        if what == "renamed":
            assert moments[n - 4 : n] == [f"{phase} {place}" for phase in WRITING[1:5]]
            assert moments[n + 2].startswith("synced "), "the name is durable only after its folder is synced"
        elif what == "half written" and place == "replies":
            assert moments[n + 1 : n + 3] == ["not synced replies", "synced replies"]


STOPS: list[Moment] = [
    *(("before embedder", 1), ("not synced pool.json", 1), ("half written replies", 5), ("not synced replies", 12)),
    *(("renamed rankings.json", 1), ("half written ratings.parquet", 1), ("not renamed latest", 1)),
    *(("half written out", 2), ("renamed out", 3)),
]


@pytest.mark.parametrize("blow", ["terminate", pytest.param("interrupt", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("moment", "nth"), short(5, STOPS))
def test_a_run_stopped_at_any_moment_continues(
    moment: str, nth: int, blow: Blow, scene: Scene, undisturbed: Undisturbed
) -> None:
    stopped = scene.run(moment, nth, blow)
    assert (stopped.code, stopped.stderr) == (1, STOPPED)
    assert scene.temporaries() == []
    check_goes_on(scene, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stopped_during_requests_continues(
    number: signal.Signals, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    with FaultyOllama(delay=0.2, parallel=CONCURRENCY) as server:
        scene = Scene(tmp_path, server)
        run = scene.begin()
        scene.wait_for(lambda server: len(server.asked) >= 8, run)
        run.signal(number)
        stopped = run.end()
        assert (stopped.code, stopped.stderr) == (1, STOPPED)
        assert scene.kept() == set(stopped.questions), "requests in flight were awaited and stored"
        assert len(stopped.questions) < undisturbed.questions / 2
        check_goes_on(scene, undisturbed)
        assert len(server.asked) == undisturbed.questions
